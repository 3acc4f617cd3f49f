"""Weights & Biases is an extra: without it, one line."""

import importlib.util
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from pipelines.errors import UsageError
from pipelines.training.metrics import Metrics, MetricsLog, read
from tests.fakes import ROOT, Synced

INSTALLED = importlib.util.find_spec("wandb") is not None


@pytest.mark.skipif(INSTALLED, reason="wandb is installed")
def test_a_project_without_the_extra_is_one_line(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"loop.wandb=atari needs .* not installed: pip install 'worldline\[wandb\]'"):
        Metrics.open(tmp_path / "metrics.jsonl", project="atari")


@pytest.mark.skipif(not INSTALLED, reason="needs the extra 'wandb'")
def test_offline_it_writes_into_the_home_where_it_outlives_the_run(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("WANDB_MODE", "offline")
    monkeypatch.setenv("WORLDLINE_HOME", str(tmp_path / "home"))
    monkeypatch.delenv("WANDB_DIR", raising=False)
    folder = tmp_path / "world_action_model@toy@1a2b"
    folder.mkdir()
    with Metrics.open(folder / "metrics.jsonl", project="atari") as metrics:
        metrics.write({"phase": "world", "step": 1, "seconds": 0.1, "observations": 1.0})
    assert json.loads((folder / "metrics.jsonl").read_text())["observations"] == 1.0
    assert len(list((tmp_path / "home" / "wandb").glob("offline-run-*/*.wandb"))) == 1
    assert not list(folder.rglob("*.wandb"))


class Service:
    """W&B's part that the sink speaks to: `server` are the rows it has by the run's id, or none when offline."""

    Error = RuntimeError

    def __init__(self, offline: bool) -> None:
        self.offline, self.server, self.files = offline, dict[str, dict[int, dict]](), list[dict[int, dict]]()

    def init(self, id: str, **_: object) -> "Service":
        self.files.append({})
        self.rows = self.files[-1] if self.offline else self.server.setdefault(id, {})
        self.step = max(self.rows, default=-1) + 1
        return self

    def log(self, row: dict, step: int) -> None:
        assert step >= self.step, f"W&B ignores step {step}, it has {self.step} already"
        self.rows[step], self.step = row, step

    def finish(self) -> None: ...


@pytest.mark.parametrize("offline", [True, False])
def test_a_resumed_run_sends_the_rows_that_a_killed_one_did_not(
    tmp_path: Path, offline: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    service = Service(offline)
    monkeypatch.setitem(sys.modules, "wandb", service)
    path = tmp_path / "metrics.jsonl"

    def row(step: int) -> dict:
        return {"phase": "world", "step": step, "seconds": 0.1, "loss": 1 / step}

    with Metrics.open(path, project="atari") as metrics:
        for step in (10, 20, 30):
            metrics.write(row(step))
    for rows in (service.rows, *service.server.values()):
        for lost in (10, 20, 30) if offline else (20, 30):
            rows.pop(lost, None)  # killed: this never reached the file, or the server
    with Metrics.open(path, 20, project="atari") as metrics:
        metrics.write(row(30))
    assert list(service.rows.items()) == [(step, {"world/loss": 1 / step}) for step in (10, 20, 30)]


@pytest.mark.skipif(not INSTALLED, reason="needs the extra 'wandb'")
def test_a_killed_offline_run_is_whole_in_the_file_of_the_one_that_goes_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("WANDB_MODE", "offline")
    monkeypatch.setenv("WANDB_DIR", str(tmp_path))
    path = tmp_path / "metrics.jsonl"
    path.write_text('{"phase": "world", "step": 1, "seconds": 0.1, "of_the_killed_one": 0.5}\n')
    with Metrics.open(path, 1, project="atari"):
        pass
    (found,) = tmp_path.glob("wandb/offline-run-*/*.wandb")
    assert b"of_the_killed_one" in found.read_bytes()


@pytest.mark.skipif(not INSTALLED, reason="needs the extra 'wandb'")
def test_nobody_logged_in_is_one_line(tmp_path: Path) -> None:
    program = """
import sys
from pathlib import Path
from pipelines.errors import WorldlineError
from pipelines.training.metrics import Metrics
try:
    Metrics.open(Path(sys.argv[1]) / "metrics.jsonl", project="atari")
except WorldlineError as error:
    print(error)
"""
    environment = os.environ | {"HOME": str(tmp_path), "WORLDLINE_HOME": str(tmp_path)}  # W&B settles its mode once
    for name in ("WANDB_MODE", "WANDB_API_KEY", "NETRC"):
        environment.pop(name, None)
    command = [sys.executable, "-c", program, str(tmp_path)]
    done = subprocess.run(command, cwd=ROOT, env=environment, text=True, capture_output=True, timeout=120)
    assert done.stdout.startswith("Weights & Biases does not take loop.wandb=atari"), done.stderr
    assert done.stdout.endswith("set WANDB_MODE=offline\n") and done.stdout.count("\n") == 1


def test_a_row_is_on_the_disk_once_it_is_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    synced, path = Synced(monkeypatch), tmp_path / "metrics.jsonl"
    log = MetricsLog(path)
    assert path in synced
    log.write({"step": 1, "phase": "world"})
    assert path in synced and read(path) == [{"step": 1, "phase": "world"}]
