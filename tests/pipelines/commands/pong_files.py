"""Checkpoints of Pong in an original's names, as the commands import and export them: saved, brought through, refused.

`pong(config)`, `saved(file, agent)`, `through(file, kind, *sets)` and `refused(file, weights, kind, capsys, *sets)`.
"""

from dataclasses import replace
from pathlib import Path
from typing import Any, TypeVar

import pytest
import torch
from torch import Tensor

from models.practice.agent import PracticeAgent
from models.practice.config import PlayedConfig
from pipelines import home
from pipelines.cli import run
from pipelines.graph.experiment import find
from pipelines.store.store import Store
from pipelines.training.weight_files import original_files

SETS = ("--set", "tokenizer.norm_groups=2", "--set", "world_model.max_steps=5", "--set", "actor_critic.horizon=5")
Config = TypeVar("Config", bound=PlayedConfig)


def pong(config: Config) -> Config:
    """With the six actions of Pong, on frames of 64 pixels, which its tokenizer sees as 32."""
    return replace(config, actions=(0, 1, 2, 3, 4, 5), frame=(64, 64, 3))


def saved(file: Path, agent: PracticeAgent) -> dict[str, Tensor]:
    """The agent's weights by the original's names, saved as its code would."""
    theirs = original_files(agent, {}, {})["last.pt"]
    torch.save(theirs, file)
    return theirs


def through(file: Path, theirs: dict[str, Tensor], kind: str, *sets: str) -> dict[str, Any]:
    """Import a file and export it again, bit for bit: the networks' config that it was read as."""
    out = file.parent / "out"
    assert run(["import", kind, "--file", str(file), *SETS, *sets]) == 0
    assert run(["export", "checkpoint", "Pong", "--to", kind, "--out", str(out)]) == 0
    [folder] = [path for path in out.iterdir() if path.is_dir()]
    found = torch.load(folder / "last.pt", weights_only=True)
    assert found.keys() == theirs.keys() and all(torch.equal(found[name], theirs[name]) for name in theirs)
    experiment, store = find(home.home() / "experiments", "Pong"), Store(home.home() / "store")
    made: dict[str, Any] = store.open(store.resolve(f"imported/{experiment.key}")).manifest.config["networks"]
    assert made["actions"] == [0, 1, 3, 4, 11, 12]
    return made


def refused(file: Path, weights: dict[str, Tensor], kind: str, capsys: pytest.CaptureFixture[str], *sets: str) -> str:
    """The one line that an import of these weights ends with."""
    torch.save(weights, file)
    capsys.readouterr()
    assert run(["import", kind, "--file", str(file), *SETS, *sets]) in (1, 2)
    printed = capsys.readouterr()
    assert printed.err.count("\n") == 1 and "fault of Worldline" not in printed.err, printed
    return printed.err
