"""Each thing the doctor looks at, well and ill; the ill ones say how to mend it."""

import importlib.metadata
import shutil
import sqlite3
import sys
from collections import namedtuple
from pathlib import Path

import pytest

from pipelines.environments.metaworld import rendering
from pipelines.errors import WorldlineError
from pipelines.tools import doctor
from pipelines.tools.doctor import Finding
from pipelines.training import device
from tests import fakes


@pytest.fixture(autouse=True)
def _home(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("WORLDLINE_HOME", str(tmp_path / "home"))
    monkeypatch.delenv("WORLDLINE_STORAGE", raising=False)


def dagster_home(folder: Path, heads: int = 1) -> Path:
    (folder / "history" / "runs").mkdir(parents=True)
    (folder / "dagster.yaml").write_text("telemetry: {enabled: false}\n")
    for name in ("history/runs.db", "history/runs/index.db"):
        database = sqlite3.connect(folder / name)
        database.execute("create table alembic_version (version_num text)")
        database.executemany("insert into alembic_version values (?)", [(f"head{i}",) for i in range(heads)])
        database.commit()
        database.close()
    return folder


def test_a_good_set_up_lacks_only_the_dagster_home_and_then_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("MEMORY", "FREE_DISK"):  # how large the machine is that tests is not the question
        monkeypatch.setattr(doctor, name, 1)
    findings = doctor.diagnose()
    assert [finding.name for finding in findings if not finding.ok] == ["dagster home"]
    assert not doctor.all_ok(findings)
    dagster_home(tmp_path / "home" / "dagster")
    findings = doctor.diagnose()
    assert doctor.all_ok(findings), findings
    assert all(finding.value and not finding.repair for finding in findings)
    assert len({finding.name for finding in findings}) == len(findings) == 21


def test_nothing_heavy_is_imported_before_it_is_asked_for() -> None:
    program = "import sys, pipelines.tools.doctor; print({'torch', 'dagster', 'ale_py', 'h5py'} & set(sys.modules))"
    assert fakes.finish(fakes.start(program))[:2] == (0, "set()\n")


def test_bf16_is_compared_with_float32_on_this_machine(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(device, "pick", lambda precision: device.Device("cpu", True))
    monkeypatch.setattr(device, "errors", lambda agent, device: {"tokenizer": 0.012, "model": 1.1})
    assert doctor.bf16().value == "tokenizer 1.2% off float32, model 110.0% off float32: NOISE, runs take float32"
    monkeypatch.setattr(device, "errors", lambda agent, device: {"model": 0.004})
    assert doctor.bf16().value == "model 0.4% off float32"
    monkeypatch.setattr(device, "pick", lambda precision: device.Device("cpu", False))
    assert doctor.bf16().value == "not used: runs compute in float32"


def test_how_threads_are_chosen_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OMP_NUM_THREADS", "3")
    assert doctor.threads().value == "3, as OMP_NUM_THREADS says"
    monkeypatch.delenv("OMP_NUM_THREADS")
    assert "chosen by timing" in doctor.threads().value


def test_the_workspace_of_this_checkout_is_found() -> None:
    assert doctor.workspace().value == str(fakes.ROOT / "workspace.yaml")


def test_an_old_python() -> None:
    assert doctor.python((3, 10, 4)) == Finding("python", False, "3.10.4", "make PYTHON=python3.12 setup")
    assert doctor.python((3, 12, 0)).ok


def test_a_library_that_does_not_import_is_a_finding_and_the_rest_goes_on(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("MEMORY", "FREE_DISK"):
        monkeypatch.setattr(doctor, name, 1)
    for name in ("torch", "ale_py.vector_env", "hdf5plugin"):
        monkeypatch.setitem(sys.modules, name, None)  # import raises ImportError
    ill = {finding.name: finding for finding in doctor.diagnose() if not finding.ok}
    assert set(ill) == {"torch", "vector environment", "hdf5 zstd", "dagster home"}
    assert ill["torch"].repair == "make setup" and "torch" in ill["torch"].value


def test_processors_are_told_by_their_flags(tmp_path: Path) -> None:
    path = tmp_path / "cpuinfo"
    path.write_text("model name : x\nflags\t\t: fpu amx_bf16 avx512_bf16 amx_tile\n")
    assert doctor.processor(path).value.endswith("cores, avx512_bf16 and amx_bf16")
    path.write_text("Features : fp asimd\n")
    assert doctor.processor(path).value.endswith("no bf16 instructions")
    assert doctor.processor(tmp_path / "none").ok


def test_who_draws_meta_world_is_told(metaworld_here: str) -> None:
    found = doctor.metaworld()
    assert found.ok and found.value == f"{importlib.metadata.version('metaworld')}, drawn by {metaworld_here}"


def test_without_a_renderer_or_the_package_it_says_how_to_get_it(monkeypatch: pytest.MonkeyPatch) -> None:
    def nothing() -> str:
        raise WorldlineError("Nothing here draws Meta-world's frames without a screen")

    monkeypatch.setattr(doctor, "_installed", lambda name: True)
    monkeypatch.setattr(rendering, "drawn_by", nothing)
    found = doctor.metaworld()
    assert not found.ok and found.value == "Nothing here draws Meta-world's frames without a screen"
    assert "apt-get install libegl1" in found.repair
    monkeypatch.setattr(doctor, "_installed", lambda name: False)
    found = doctor.metaworld()
    assert found.ok and "pip install 'worldline[metaworld]'" in found.value


def test_a_missing_rom_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    from pipelines.environments.atari import games

    def rom_md5(name: str) -> str:
        if name == "Pong":
            raise OSError("gone")
        return "0"

    monkeypatch.setattr(games, "rom_md5", rom_md5)
    assert doctor.roms() == Finding("roms", False, "59 of 60 games, missing: Pong", "make setup")


def test_dagster_homes(tmp_path: Path) -> None:
    none = doctor.dagster_instance(tmp_path / "none")
    assert not none.ok and "lacks dagster.yaml, history/runs.db" in none.value
    assert none.repair == "worldline doctor --init"
    assert doctor.dagster_instance(dagster_home(tmp_path / "good")).ok
    for heads in (0, 2):
        ill = doctor.dagster_instance(dagster_home(tmp_path / f"heads{heads}", heads))
        assert not ill.ok and ill.value.endswith(f"runs.db has {heads} schema heads") and "move " in ill.repair
    broken = dagster_home(tmp_path / "broken")
    (broken / "history" / "runs" / "index.db").write_bytes(b"not a database at all" * 100)
    ill = doctor.dagster_instance(broken)
    assert not ill.ok and "index.db: file is not a database" in ill.value


def test_a_dagster_home_with_a_database_server_is_not_expected_to_hold_files(tmp_path: Path) -> None:
    (tmp_path / "dagster.yaml").write_text("storage:\n  postgres: {postgres_url: {env: URL}}\n")
    assert doctor.dagster_instance(tmp_path).ok
    (tmp_path / "dagster.yaml").write_text("storage:\n  sqlite: {base_dir: x}\n")
    assert not doctor.dagster_instance(tmp_path).ok


def test_a_home_that_dagster_really_made_is_good(tmp_path: Path) -> None:
    program = (
        "import sys, os; os.environ['DAGSTER_HOME'] = sys.argv[1]; import dagster\n"
        "with dagster.DagsterInstance.get() as instance: instance.get_runs(limit=1); instance.all_asset_keys()"
    )
    (tmp_path / "dagster.yaml").write_text("telemetry: {enabled: false}\n")
    code, _, err = fakes.finish(fakes.start(program, tmp_path), timeout=120)
    assert code == 0, err
    assert doctor.dagster_instance(tmp_path) == Finding("dagster home", True, str(tmp_path))


@pytest.mark.parametrize(
    ("installed", "ok", "repair"),
    [
        ({"antlr4-python3-runtime": "4.13.2"}, True, ""),
        ({"antlr4-python3-runtime": "4.9.3"}, False, "pip install 'antlr4-python3-runtime==4.13.*'"),
        (
            {"antlr4-python3-runtime": "4.13.2", "hydra-core": "1.3", "omegaconf": "2.3"},
            False,
            "pip uninstall -y hydra-core omegaconf; pip install 'antlr4-python3-runtime==4.13.*'",
        ),
    ],
)
def test_antlr(monkeypatch: pytest.MonkeyPatch, installed: dict[str, str], ok: bool, repair: str) -> None:
    def version(name: str) -> str:
        if name not in installed:
            raise importlib.metadata.PackageNotFoundError(name)
        return installed[name]

    monkeypatch.setattr(importlib.metadata, "version", version)
    finding = doctor.antlr()
    assert (finding.ok, finding.repair) == (ok, repair)


def test_a_pyproject_block_that_hides_the_workspace(tmp_path: Path) -> None:
    assert doctor.workspace(tmp_path).value == "installed without a checkout"
    (tmp_path / "workspace.yaml").write_text("load_from: []\n")
    path = tmp_path / "pyproject.toml"
    assert doctor.workspace(tmp_path).ok
    path.write_text("[tool.ruff]\nline-length = 120\n")
    assert doctor.workspace(tmp_path).ok
    path.write_text("[tool.dagster]\nmodule_name = 'x'\n[tool.dg.project]\nroot_module = 'x'\n")
    finding = doctor.workspace(tmp_path)
    assert not finding.ok and finding.repair == f"remove [tool.dagster] and [tool.dg] from {path}"


def test_a_small_disk_and_little_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    usage = namedtuple("usage", "total used free")
    monkeypatch.setattr(shutil, "disk_usage", lambda folder: usage(10, 5, 4 * 10**9))
    finding = doctor.disk()
    assert not finding.ok and finding.value.startswith("4.0 GB free at") and "5 GB are needed" in finding.repair
    monkeypatch.setattr(doctor, "MEMORY", 1 << 60)
    assert not doctor.memory().ok
