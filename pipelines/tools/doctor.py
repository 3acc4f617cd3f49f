"""Looks over a set-up and says what is wrong and how to mend it. Most of its time is importing torch.

Run: `worldline doctor`. Every check is a function that returns one Finding; a check that breaks is a finding too.
"""

import importlib
import importlib.metadata
import os
import re
import shutil
import sqlite3
import sys
import tomllib
from collections.abc import Callable
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path

import yaml

from pipelines.errors import WorldlineError
from pipelines.home import dagster_home, home
from pipelines.redact import one_line

FREE_DISK = 5 * 10**9  # bytes: the demo's artefacts with room to spare

MEMORY = 6 * 10**9  # bytes: what the demo may use

ZSTD_FILTER = 32015  # the HDF5 group's registered number

DAGSTER_FILES = ("dagster.yaml", "history/runs.db")  # there once a Dagster home has been opened

DAGSTER_HISTORY = ("history/runs.db", "history/runs/index.db", "schedules/schedules.db")

REINSTALL = "make setup"


@dataclass(frozen=True)
class Finding:
    """One thing looked at. `repair` says what to do and is empty when `ok`."""

    name: str
    ok: bool
    value: str
    repair: str = ""


def diagnose(storage: str | None = None) -> list[Finding]:
    """All findings, in a fixed order, for the storage profile `storage` (default: the current one). Never raises."""
    from pipelines.tools import doctor_runs, doctor_storage  # which know a Finding

    checks: dict[str, Callable[[], Finding]] = {
        "code": doctor_runs.code,
        "python": python,
        "torch": torch,
        "processor": processor,
        "bf16": bf16,
        "threads": threads,
        "roms": roms,
        "vector environment": vector_environment,
        "meta-world": metaworld,
        "hdf5 zstd": hdf5_zstd,
        "dagster": dagster,
        "dagster home": dagster_instance,
        "ui": doctor_runs.ui,
        "runs": doctor_runs.runs,
        "antlr": antlr,
        "workspace": workspace,
        "disk": disk,
        "memory": memory,
        "storage": lambda: doctor_storage.profile(storage),
        "credentials": lambda: doctor_storage.credentials(storage),
        "proxies": doctor_storage.proxies,
    }
    if storage:
        checks["source"] = lambda: doctor_storage.source(storage)
        checks["artefacts"] = lambda: doctor_storage.artefacts(storage)
    return [_guarded(name, check) for name, check in checks.items()]


def all_ok(findings: list[Finding]) -> bool:
    """True when nothing needs repair."""
    return all(finding.ok for finding in findings)


def _guarded(name: str, check: Callable[[], Finding]) -> Finding:
    try:
        return check()
    except Exception as error:  # whatever is broken, the other checks are still worth having
        text = one_line(error)
        return Finding(name, False, f"{type(error).__name__}: {text}", REINSTALL)


def finding(name: str, ok: bool, value: str, repair: str) -> Finding:
    """A finding whose repair counts only where something is wrong."""
    return Finding(name, ok, value, "" if ok else repair)


def python(version: tuple[int, ...] = tuple(sys.version_info[:3])) -> Finding:
    """3.11 or newer."""
    return finding("python", version >= (3, 11), ".".join(map(str, version)), "make PYTHON=python3.12 setup")


def torch() -> Finding:
    """Importable; with a GPU, its name and whether it computes in bf16."""
    library = importlib.import_module("torch")
    if not library.cuda.is_available():
        return Finding("torch", True, f"{library.__version__}, no CUDA device: training runs on the processor")
    bf16 = "bf16" if library.cuda.is_bf16_supported() else "no bf16"
    return Finding("torch", True, f"{library.__version__}, {library.cuda.get_device_name(0)} ({bf16})")


def processor(cpuinfo: Path = Path("/proc/cpuinfo")) -> Finding:
    """Cores, and the instructions that make bf16 fast; without them training is slower, not wrong."""
    text = cpuinfo.read_text() if cpuinfo.is_file() else ""
    flags = set(re.findall(r"[a-z0-9_]+", next((line for line in text.splitlines() if line.startswith("flags")), "")))
    fast = [flag for flag in ("avx512_bf16", "amx_bf16") if flag in flags]
    return Finding("processor", True, f"{os.cpu_count()} cores, {' and '.join(fast) or 'no bf16 instructions'}")


def bf16() -> Finding:
    """Whether small networks compute in bf16 what they compute in float32; runs ask it of their own networks."""
    from models.registry import family_of
    from pipelines.recipes.registry import recipe
    from pipelines.training import device

    here, small = device.pick("auto"), recipe("demo").pretrain
    if not here.bf16 or small is None:
        return Finding("bf16", True, "not used: runs compute in float32")
    found = device.errors(family_of(small.networks).build(small.networks, 0), here)
    value = ", ".join(f"{name} {error:.1%} off float32" for name, error in found.items())
    wrong = [name for name, error in found.items() if not error <= device.BF16_ERROR]
    return Finding("bf16", True, f"{value}{': NOISE, runs take float32' if wrong else ''}")


def threads() -> Finding:
    """How the number of threads is chosen."""
    from pipelines.training.device import processors

    if given := os.environ.get("OMP_NUM_THREADS", "").strip():
        return Finding("threads", True, f"{given}, as OMP_NUM_THREADS says")
    return Finding("threads", True, f"1 to {processors()}, chosen by timing; OMP_NUM_THREADS fixes it, and every bit")


def roms() -> Finding:
    """The ROMs of all 60 games come with ale-py."""
    games = importlib.import_module("pipelines.environments.atari.games")
    missing = []
    for game in games.GAMES:
        try:
            games.rom_md5(game)
        except Exception:
            missing.append(game)
    value = f"{len(games.GAMES) - len(missing)} of {len(games.GAMES)} games" + ("" if not missing else ", missing: ")
    return finding("roms", not missing, value + ", ".join(missing[:5]), REINSTALL)


def vector_environment() -> Finding:
    """ale-py with its vector environment."""
    there = hasattr(importlib.import_module("ale_py.vector_env"), "AtariVectorEnv")
    return finding("vector environment", there, f"ale-py {importlib.metadata.version('ale-py')}", REINSTALL)


def metaworld() -> Finding:
    """What draws Meta-world's frames; where its package is not there, how to get it."""
    if not _installed("metaworld"):
        value = "not installed, so its tasks cannot be played; pip install 'worldline[metaworld]' brings them"
        return Finding("meta-world", True, value)
    rendering = importlib.import_module("pipelines.environments.metaworld.rendering")
    try:
        drawn_by = rendering.drawn_by()
        importlib.import_module("metaworld")
    except WorldlineError as error:
        return Finding("meta-world", False, one_line(error), f"{rendering.INSTALL}, or play other games")
    return Finding("meta-world", True, f"{importlib.metadata.version('metaworld')}, drawn by {drawn_by}")


def hdf5_zstd() -> Finding:
    """The compression of trajectories."""
    importlib.import_module("hdf5plugin")
    h5py = importlib.import_module("h5py")
    there = bool(h5py.h5z.filter_avail(ZSTD_FILTER))
    return finding("hdf5 zstd", there, f"h5py {h5py.__version__}{'' if there else ' without the filter'}", REINSTALL)


def dagster() -> Finding:
    """The version that the graph was tested on."""
    version = importlib.metadata.version("dagster")
    return finding("dagster", version.startswith("1.13."), version, REINSTALL)


def dagster_instance(folder: Path | None = None) -> Finding:
    """A Dagster home made by one process alone: several at once corrupt a fresh one for good, with two schema heads."""
    folder = folder or dagster_home()
    settings = folder / "dagster.yaml"
    if settings.is_file() and "sqlite" not in (yaml.safe_load(settings.read_text()) or {}).get("storage", "sqlite"):
        return Finding("dagster home", True, f"{folder}, history in a database server (not tried)")
    missing = [name for name in DAGSTER_FILES if not (folder / name).is_file()]
    if missing:
        return Finding("dagster home", False, f"{folder} lacks {', '.join(missing)}", "worldline doctor --init")
    for name in DAGSTER_HISTORY:
        if not (folder / name).is_file():  # made when first needed
            continue
        with closing(sqlite3.connect(f"{(folder / name).as_uri()}?mode=ro", uri=True)) as database:
            try:
                (heads,) = database.execute("select count(*) from alembic_version").fetchone()
            except sqlite3.DatabaseError as error:
                return Finding("dagster home", False, f"{folder / name}: {error}", _start_over(folder))
        if heads != 1:
            return Finding("dagster home", False, f"{folder / name} has {heads} schema heads", _start_over(folder))
    return Finding("dagster home", True, str(folder))


def _start_over(folder: Path) -> str:
    return f"move {folder} away, then worldline doctor --rebuild (artefacts and their lineage are kept elsewhere)"


def antlr() -> Finding:
    """Dagster's selections need antlr 4.13; Hydra and OmegaConf bring 4.9 and break them, unseen by pip."""
    version = importlib.metadata.version("antlr4-python3-runtime")
    intruders = [name for name in ("hydra-core", "omegaconf") if _installed(name)]
    value = version + (f" with {' and '.join(intruders)}" if intruders else "")
    repair = f"pip uninstall -y {' '.join(intruders)}; " if intruders else ""
    ok = version.startswith("4.13.") and not intruders
    return finding("antlr", ok, value, f"{repair}pip install 'antlr4-python3-runtime==4.13.*'")


def _installed(name: str) -> bool:
    try:
        importlib.metadata.version(name)
    except importlib.metadata.PackageNotFoundError:
        return False
    return True


def workspace(folder: Path = Path(__file__).resolve().parents[2]) -> Finding:
    """No [tool.dagster] or [tool.dg] in pyproject.toml: with one, Dagster silently ignores workspace.yaml."""
    if not (folder / "workspace.yaml").is_file():
        return Finding("workspace", True, "installed without a checkout")
    path = folder / "pyproject.toml"
    tools = tomllib.loads(path.read_text(encoding="utf-8")).get("tool", {}) if path.is_file() else {}
    blocks = [f"[tool.{name}]" for name in ("dagster", "dg") if name in tools]
    value = f"{path} holds {' and '.join(blocks)}" if blocks else str(folder / "workspace.yaml")
    return finding("workspace", not blocks, value, f"remove {' and '.join(blocks)} from {path}")


def disk() -> Finding:
    """Room where artefacts are written."""
    folder = nearest(home())
    free = shutil.disk_usage(folder).free
    repair = f"free some or set WORLDLINE_HOME to a larger disk: {FREE_DISK / 1e9:.0f} GB are needed"
    return finding("disk", free >= FREE_DISK, f"{free / 1e9:,.1f} GB free at {folder}", repair)


def memory() -> Finding:
    """As much as the demo may use."""
    total = importlib.import_module("psutil").virtual_memory().total
    repair = f"{MEMORY / 1e9:.0f} GB are needed for the demo: close other programs, or add swap"
    return finding("memory", total >= MEMORY, f"{total / 1e9:,.1f} GB", repair)


def nearest(folder: Path) -> Path:
    """The folder itself, or the nearest above it that exists."""
    return next(path for path in (folder, *folder.parents) if path.exists())
