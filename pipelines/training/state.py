"""The resumable state of a training run: networks, optimisers, random numbers, position. Replaced atomically.

It lives in the draft's scratch folder, which survives a kill and goes when the artefact is committed. Data order is
a function of (seed, position) alone, so nothing of the loader needs saving.
"""

import os
import zipfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from pickle import UnpicklingError  # torch.load's word for a file that holds more than tensors

import torch
from torch import nn
from torch.optim import Optimizer

from pipelines.progress import say

NAME = "state.pt"


@dataclass(frozen=True)
class Position:
    """Where a run stands: steps done in all, and in which phase."""

    step: int = 0
    phase: int = 0
    seconds: float = 0.0


def save(
    folder: Path, position: Position, modules: Mapping[str, nn.Module], optimisers: Mapping[str, Optimizer]
) -> None:
    """Write everything that decides about the next step, then rename over the last state."""
    state = {
        "position": [position.step, position.phase, position.seconds],
        "modules": {name: module.state_dict() for name, module in modules.items()},
        "optimisers": {name: optimiser.state_dict() for name, optimiser in optimisers.items()},
        "rng": torch.get_rng_state(),
    }
    aside = folder / f".{NAME}.{os.getpid()}"
    with aside.open("wb") as file:
        torch.save(state, file)
        file.flush()
        os.fsync(file.fileno())
    aside.replace(folder / NAME)


def load_position(folder: Path, modules: Mapping[str, nn.Module]) -> tuple[Position, dict[str, dict]]:
    """Restore the networks and random numbers; returns the position and the optimisers' states (of that phase)."""
    path = folder / NAME
    if not path.is_file():
        return Position(), {}
    try:
        with zipfile.ZipFile(path) as archive:  # torch.load does not compare checksums
            if (damaged := archive.testzip()) is not None:
                raise ValueError(f"{damaged} is damaged")
        state = torch.load(path, weights_only=True, map_location="cpu")
        step, phase, seconds = state["position"]
        for name, module in modules.items():
            module.load_state_dict(state["modules"][name])
        torch.set_rng_state(state["rng"])
    except (zipfile.BadZipFile, UnpicklingError, RuntimeError, KeyError, ValueError, EOFError, OSError) as error:
        say(f"The saved training state {path} is unreadable ({type(error).__name__}): starting from the beginning")
        path.unlink()
        return Position(), {}
    say(f"Resuming after step {step:,} ({path})")
    return Position(step, phase, seconds), state["optimisers"]
