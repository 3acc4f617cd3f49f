"""Weights & Biases is an extra: without it, one line."""

import importlib.util
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from pipelines.errors import UsageError
from pipelines.training.metrics import Metrics
from tests.fakes import ROOT

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
