"""The resumable state of a training run: networks, optimisers, random numbers, position. Replaced atomically.

It lives in the draft's scratch folder, which survives a kill and goes when the artefact is committed. Data order is
a function of (seed, position) alone, so nothing of the loader needs saving. The first rank writes it, with every
rank's random numbers; all read it, so that the scratch folder must be seen by all.
"""

import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

import torch
from torch import nn
from torch.distributed.optim import ZeroRedundancyOptimizer
from torch.optim import Optimizer

from pipelines.errors import WorldlineError
from pipelines.progress import say
from pipelines.training.distributed.ranks import ALONE, Ranks
from pipelines.training.threads import Choices
from pipelines.training.weight_files import read_data

NAME = "state.pt"


@dataclass(frozen=True)
class Position:
    """Where a run stands: optimiser steps done in all, in which item of the unrolled schedule, with how many threads.

    The number of threads decides about the last bits of what follows.
    """

    step: int = 0
    item: int = 0
    seconds: float = 0.0
    threads: Choices = field(default_factory=dict)


def save(
    folder: Path,
    position: Position,
    modules: Mapping[str, nn.Module],
    optimisers: Mapping[str, Optimizer],
    ranks: Ranks = ALONE,
) -> None:
    """Write everything that decides about the next step, then rename over the last state. All ranks call it."""
    rng = {"rng": ranks.gather(torch.get_rng_state()[None])}  # (ranks, bytes)
    if torch.cuda.is_available():
        rng["cuda_rng"] = ranks.gather(torch.cuda.get_rng_state()[None])
    for optimiser in optimisers.values():
        if isinstance(optimiser, ZeroRedundancyOptimizer):
            optimiser.consolidate_state_dict()  # the parts of all ranks, whole on the first
    if not ranks.first:
        return
    state = {
        "position": [position.step, position.item, position.seconds],
        "threads": dict(position.threads),
        "modules": {name: module.state_dict() for name, module in modules.items()},
        "optimisers": {name: optimiser.state_dict() for name, optimiser in optimisers.items()},
        **rng,
    }
    aside = folder / f".{NAME}.{os.getpid()}"
    with aside.open("wb") as file:
        torch.save(state, file)
        file.flush()
        os.fsync(file.fileno())
    aside.replace(folder / NAME)


def load_position(
    folder: Path, modules: Mapping[str, nn.Module], ranks: Ranks = ALONE
) -> tuple[Position, dict[str, dict]]:
    """Restore the networks and random numbers; returns the position and the optimisers' states (of that phase).

    A state of another number of ranks is fine: ranks that it does not know keep the random numbers they have.
    """
    found = _load(folder / NAME, modules, ranks) if ranks.first else None
    if ranks.agree(found is not None) and not ranks.first:
        found = _load(folder / NAME, modules, ranks)
        if found is None:
            raise WorldlineError(f"Rank {ranks.rank} cannot read {folder / NAME}, as the first does: share that folder")
    return found or (Position(), {})


def _load(path: Path, modules: Mapping[str, nn.Module], ranks: Ranks) -> tuple[Position, dict[str, dict]] | None:
    if not path.is_file():
        return None
    try:
        state = read_data(path)
        step, item, seconds = state["position"]
        for name, module in modules.items():
            module.load_state_dict(state["modules"][name])
        rng = state["rng"].view(-1, len(torch.get_rng_state()))
        if ranks.rank < len(rng):
            torch.set_rng_state(rng[ranks.rank].clone())  # it would read a view from the start of its memory
            if torch.cuda.is_available() and "cuda_rng" in state:
                torch.cuda.set_rng_state(state["cuda_rng"][ranks.rank].clone())
    except (WorldlineError, RuntimeError, KeyError, TypeError, ValueError) as error:
        say(f"The saved training state {path} is unreadable ({type(error).__name__}): starting from the beginning")
        if ranks.first:
            path.unlink(missing_ok=True)
        return None
    say(f"Resuming after step {step:,} ({path})")
    return Position(step, item, seconds, state.get("threads", {})), state["optimisers"]
