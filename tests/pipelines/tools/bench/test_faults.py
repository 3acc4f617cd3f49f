"""The matrix of faults tells what does not survive, from injected damage; one real cell of every kind survives."""

import json
import os
import random
import shutil
import subprocess
import sys
import time
from http.client import BadStatusLine, HTTPConnection
from pathlib import Path
from urllib.parse import urlsplit

import psutil
import pytest

from pipelines import process
from pipelines.errors import UsageError
from pipelines.graph.experiment import register
from pipelines.store.files import locked
from pipelines.tools.bench import within
from pipelines.tools.bench.emulator import bucket
from pipelines.tools.bench.fault_home import NAME, Blow, Command, Failed, Home, Missed, Untried, contents, damage
from pipelines.tools.bench.fault_kinds import FAULTS, Fault
from pipelines.tools.bench.faults import (
    FAILED,
    FAST,
    SURVIVED,
    TRIES,
    UNTRIED,
    Cell,
    Ground,
    Matrix,
    run,
    table,
    try_cell,
)
from tests import fakes
from tests.pipelines.conftest import TinyRun, tiny, tiny_copy  # noqa: F401 -- fixtures

STAGE = "segments"


@pytest.fixture
def ground(tiny: TinyRun, tmp_path: Path) -> Ground:  # noqa: F811
    """A ground of what stands already; Dagster has nothing left and finds all, but in tests that ask it."""
    shutil.copytree(tiny.home, tmp_path / "undisturbed")
    shutil.rmtree(tmp_path / "undisturbed" / "experiments")
    register(tmp_path / "undisturbed" / "experiments", NAME, tiny.experiment.recipe)
    return Ground(tmp_path, 0, Home(tmp_path / "undisturbed", STAGE))


@pytest.fixture
def no_dagster(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Home, "_judge_dagster", lambda home: None)


def put_back(home: Home, ground: Ground) -> None:
    """The stage as it was, without making it."""
    shutil.copytree(ground.home.folder / "store" / STAGE, home.folder / "store" / STAGE)


def struck(ground: Ground, harm: str) -> Cell:
    """A cell in which the stage is there afterwards, but for the harm."""

    def strike(home: Home, blow: Blow) -> None:
        put_back(home, ground)
        [made] = (home.folder / "store" / STAGE).rglob("manifest.json")
        store = home.folder / "store"
        if harm == "nothing made":
            shutil.rmtree(store / STAGE)
        elif harm == "damaged":
            fakes.flip_byte(next(path for path in made.parent.iterdir() if path != made))
        elif harm == "made again":
            parent = next((store / "trajectories").rglob("manifest.json"))
            entry = json.loads(parent.read_text())
            parent.write_text(json.dumps(entry | {"created": "later"}))
        elif harm == "left":
            (store / ".partial" / f"{STAGE}@x").mkdir(parents=True)

    content = contents(ground.home.artefacts()[STAGE])
    if harm == "other bytes":
        content = dict.fromkeys(content, "0" * 64)
    return try_cell(ground, STAGE, "worker", Fault("", strike), content)


@pytest.mark.usefixtures("no_dagster")
@pytest.mark.parametrize(
    ("harm", "why"),
    [
        ("", ""),
        ("nothing made", "made nothing"),
        ("damaged", "not verified: .*sha256"),
        ("made again", "not verified|trajectories stood before and was made again"),
        ("left", f".partial/{STAGE}@x is left"),
        ("other bytes", "differs from an undisturbed run's"),
    ],
)
def test_a_cell_that_does_not_survive_is_told(ground: Ground, harm: str, why: str) -> None:
    cell = struck(ground, harm)
    assert cell.verdict == (FAILED if harm else SURVIVED), cell
    if harm:
        with pytest.raises(Failed, match=why):
            raise Failed(cell.why)
    assert (ground.folder / f"{STAGE}-worker").exists() == bool(harm), "the home of a failure is kept, no other"
    assert Matrix(0, [cell]).survived != bool(harm)


@pytest.mark.usefixtures("no_dagster")
def test_locks_and_processes_that_are_left_are_told(ground: Ground, monkeypatch: pytest.MonkeyPatch) -> None:
    home = ground.home
    before, content = {}, contents(home.artefacts()[STAGE])
    home.judge(before, content)
    with locked(home.folder / "store" / ".locks" / "x.lock"), pytest.raises(Failed, match=r"x\.lock is locked"):
        home.judge(before, content)
    monkeypatch.setattr("pipelines.tools.bench.fault_home.LINGER", 0.2)
    left = subprocess.Popen(
        [sys.executable, "-c", "import time; time.sleep(60)"], env=os.environ | {"WORLDLINE_FAULT": home.mark}
    )
    with pytest.raises(Failed, match="1 processes are left"):
        home.judge(before, content)
    home.clear()
    assert left.wait(10) == -9
    home.judge(before, content)


@pytest.mark.parametrize(
    ("told", "why"),
    [
        ({"unfinished": ["abc"], "slots": 0}, "run abc is unfinished"),
        ({"unfinished": [], "slots": 2}, "2 places of pools"),
        ({"unfinished": [], "slots": 0, "again": "1 made, 0 already there."}, "did not find it: .*1 made"),
    ],
)
def test_what_is_left_in_dagster_is_told(
    ground: Ground, monkeypatch: pytest.MonkeyPatch, told: dict[str, object], why: str
) -> None:
    monkeypatch.setattr(Command, "told", lambda self: told)
    monkeypatch.setattr(Home, "start", lambda self, *arguments: Command([sys.executable, "-c", ""], {}, ground.folder))
    with pytest.raises(Failed, match=why):
        ground.home.judge({}, {})


@pytest.mark.usefixtures("no_dagster")
@pytest.mark.parametrize(("error", "verdict"), [(Missed("too late"), FAST), (Untried("needs root"), UNTRIED)])
def test_what_was_not_tried_is_no_survivor(ground: Ground, error: Exception, verdict: str) -> None:
    shares = []

    def strike(home: Home, blow: Blow) -> None:
        shares.append(blow.share)
        raise error

    cell = try_cell(ground, STAGE, "worker", Fault("", strike), {})
    assert (cell.verdict, cell.why) == (verdict, str(error))
    assert shares == ([0.8, 0.4, 0.2, 0.1, 0.0] if verdict == FAST else [0.8]) and len(shares) in (TRIES, 1)
    assert "1 cells, 0 tried, 0 survived" in table(Matrix(0, [cell]))


def test_a_power_cut_hits_what_was_not_synced_and_nothing_else(tmp_path: Path) -> None:
    home, old = Home(tmp_path / "home", STAGE), tmp_path / "home" / "store" / "old"
    (tmp_path / "home" / "store").mkdir(parents=True)
    old.write_bytes(b"x" * 100)
    os.utime(old, (1, 1))
    since, told = time.time() - 1, tmp_path / "synced"
    program = """
import os, sys
from pathlib import Path
for name in ("synced", *"abcdefghij"):
    with open(Path(sys.argv[1]) / name, "wb") as file:
        file.write(b"x" * 100); file.flush()
        if name == "synced": os.fsync(file)
"""
    environment = os.environ | within.environment(tmp_path / "site", **{within.SYNCED: told})
    environment["PYTHONPATH"] += f"{os.pathsep}{process.ROOT}"
    subprocess.run([sys.executable, "-c", program, str(old.parent)], env=environment, check=True)
    assert damage(home, random.Random(0), within.synced(told), since) > 4
    whole = {path.name for path in old.parent.iterdir() if path.read_bytes() == b"x" * 100}
    assert {"old", "synced"} <= whole and len(whole) < 8


def test_a_clock_is_turned_back_within_a_process(tmp_path: Path) -> None:
    program = "import time, pathlib, sys; a = time.time(); pathlib.Path(sys.argv[1]).touch(); print(a - time.time())"
    turned = tmp_path / "turned"
    environment = os.environ | within.environment(tmp_path / "site", **{within.CLOCK: turned})
    environment["PYTHONPATH"] += f"{os.pathsep}{process.ROOT}"
    done = subprocess.run([sys.executable, "-c", program, str(turned)], env=environment, capture_output=True, text=True)
    assert float(done.stdout) == pytest.approx(within.BACK, abs=5)


def test_the_emulated_bucket_obeys(tmp_path: Path) -> None:
    (tmp_path / "data").mkdir()
    (tmp_path / "data" / "x").write_bytes(b"bytes")
    with bucket(tmp_path / "data") as served:

        def status() -> int | None:
            connection = HTTPConnection(urlsplit(served.options["endpoint_url"]).netloc, timeout=10)
            try:
                connection.request("GET", "/storage/v1/b/bench/o/dqn%2Fx?alt=media")
                return connection.getresponse().status
            except (ConnectionError, BadStatusLine):
                return None
            finally:
                connection.close()

        assert status() == 200
        served.tell("offline 0")
        fakes.wait_for(lambda: status() is None, 10)
        served.tell("calm")
        fakes.wait_for(lambda: status() == 200, 10)
        served.tell("busy 1000")
        fakes.wait_for(lambda: status() == 429, 10)
        assert {status() for _ in range(4)} == {200, 429}


def test_an_unknown_name_is_refused_before_anything_is_made(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="Unknown stage or fault 'worke': did you mean 'worker'"):
        run(tmp_path, "worke")
    assert not list(tmp_path.iterdir())


@pytest.fixture(scope="module")
def real(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("faults")


@pytest.mark.slow
@pytest.mark.timeout(900)
@pytest.mark.parametrize("name", [name for name in FAULTS if name != "none"])
def test_a_real_fault_is_survived(real: Path, name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    from pipelines.tools.bench import faults

    stage = next(stage for stage in ("pretrained", "replay") if FAULTS[name].concerns(stage))
    monkeypatch.setattr(faults, "QUICK", (stage,))
    matrix = run(real, name, quick=True)
    [cell] = [cell for cell in matrix.cells if cell.fault == name]
    assert cell.verdict == SURVIVED or (cell.verdict == UNTRIED and os.geteuid() != 0), cell
    assert not [each for each in psutil.process_iter() if each.pid != os.getpid() and _of(each, real)]


def _of(each: psutil.Process, folder: Path) -> bool:
    try:
        return each.environ().get("WORLDLINE_HOME", "").startswith(str(folder))
    except psutil.Error:
        return False
