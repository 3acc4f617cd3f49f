"""Weights & Biases is an extra: without it, one line."""

import importlib.util
import json
from pathlib import Path

import pytest

from pipelines.errors import UsageError
from pipelines.training.metrics import Metrics

INSTALLED = importlib.util.find_spec("wandb") is not None


@pytest.mark.skipif(INSTALLED, reason="wandb is installed")
def test_a_project_without_the_extra_is_one_line(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"loop.wandb=atari needs .* not installed: pip install 'worldline\[wandb\]'"):
        Metrics.open(tmp_path / "metrics.jsonl", project="atari")


@pytest.mark.skipif(not INSTALLED, reason="needs the extra 'wandb'")
def test_offline_it_writes_into_the_runs_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WANDB_MODE", "offline")
    folder = tmp_path / "world_action_model@toy@1a2b"
    folder.mkdir()
    with Metrics.open(folder / "metrics.jsonl", project="atari") as metrics:
        metrics.write({"phase": "world", "step": 1, "seconds": 0.1, "observations": 1.0})
    assert json.loads((folder / "metrics.jsonl").read_text())["observations"] == 1.0
    assert list(folder.rglob("*.wandb"))
