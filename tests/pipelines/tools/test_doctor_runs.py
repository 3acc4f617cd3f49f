"""What runs here: a copied project, a second daemon and a dead run are found, each with its repair."""

import subprocess
import sys
from pathlib import Path

import dagster as dg
import pytest

from assets.instance import open_instance
from assets.orphans import alive
from pipelines.home import dagster_home
from pipelines.process import ROOT
from pipelines.store.files import locked
from pipelines.tools import doctor_runs
from tests.fakes import wait_for


@pytest.fixture(autouse=True)
def _home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WORLDLINE_HOME", str(tmp_path / "home"))
    monkeypatch.setenv("DAGSTER_HOME", "set by open_instance")


def test_the_code_that_runs_is_named(tmp_path: Path) -> None:
    found = doctor_runs.code(Path(sys.prefix) / "bin" / "worldline", tmp_path)
    assert found.ok and found.value.startswith(f"{ROOT} (sources ")


def test_a_copied_project_that_runs_the_old_code(tmp_path: Path) -> None:
    copy = tmp_path / "copy"
    for name in ("pyproject.toml", "pipelines/cli.py", "assets/launch.py"):
        (copy / name).parent.mkdir(parents=True, exist_ok=True)
        (copy / name).touch()
    below = copy / "notes"
    below.mkdir()
    found = doctor_runs.code(Path(sys.prefix) / "bin" / "worldline", below)
    assert not found.ok and f"not that of {copy}" in found.value and f"in {copy}: make setup" in found.repair
    (copy / ".venv" / "bin").mkdir(parents=True)
    (copy / ".venv" / "pyvenv.cfg").touch()
    found = doctor_runs.code(copy / ".venv" / "bin" / "worldline", tmp_path)
    assert not found.ok and "by the Python of" in found.value and f"in {copy}: make setup" in found.repair


def test_two_daemons_on_one_home(monkeypatch: pytest.MonkeyPatch) -> None:
    assert doctor_runs.ui() == doctor_runs.Finding("ui", True, "not running")
    sleeper = [sys.executable, "-c", "import time; time.sleep(60)", "dagster._daemon"]
    monkeypatch.setenv("DAGSTER_HOME", str(dagster_home()))
    ours = [subprocess.Popen(sleeper) for _ in range(2)]
    monkeypatch.setenv("DAGSTER_HOME", str(dagster_home()) + "-of-another")
    other = subprocess.Popen(sleeper)
    try:
        wait_for(lambda: not doctor_runs.ui().ok, 10)
        found = doctor_runs.ui()
        assert "2 daemons serve this home" in found.value and f"kill {ours[1].pid}" in found.repair
        ours[0].kill()
        ours[0].wait()
        assert doctor_runs.ui().ok
    finally:
        for each in (*ours, other):
            each.kill()
            each.wait()


def test_a_run_whose_process_is_gone(monkeypatch: pytest.MonkeyPatch) -> None:
    assert doctor_runs.runs().value == "none yet"

    @dg.asset
    def nothing() -> None: ...

    with open_instance() as instance:
        job = dg.Definitions(assets=[nothing]).resolve_implicit_global_asset_job_def()
        run = instance.create_run_for_job(job, status=dg.DagsterRunStatus.STARTED).run_id
        assert doctor_runs.runs().value == "1 under way", "it may be about to begin"
        with alive(instance, run):
            assert doctor_runs.runs() == doctor_runs.Finding("runs", True, "1 under way")
        lock = dagster_home() / "processes" / f"{run}.lock"
        with locked(lock):
            pass  # its holder was killed, and could not remove it
        found = doctor_runs.runs()
        assert not found.ok and "1 whose process is gone" in found.value and run[:8] in found.value
        lock.unlink()
        monkeypatch.setattr(doctor_runs, "SILENT", -10)
        assert not doctor_runs.runs().ok, "of which nothing was heard for long"
