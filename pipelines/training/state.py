"""The resumable state of a training run: networks, optimisers, random numbers, position. Replaced atomically.

It lives in the draft's scratch folder, which survives a kill and goes when the artefact is committed; until then
nothing deletes it, least of all a failure to read it. Data order is a function of (seed, position) and of the draws
that some rules remember, which are a module here (`draws`); nothing else of the loader needs saving. The first rank
writes it, with every rank's random numbers; all read it, so that the scratch folder must be seen by all.
"""

import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.distributed.optim import ZeroRedundancyOptimizer
from torch.optim import Optimizer

from pipelines.errors import MayPass, WorldlineError, may_pass, not_now
from pipelines.progress import say
from pipelines.redact import one_line
from pipelines.training import checkpoints, metrics
from pipelines.training.device import Choices
from pipelines.training.distributed.ranks import ALONE, Ranks
from pipelines.training.weight_files import read_data

NAME = "state.pt"

WITH_IT = (metrics.ROWS, checkpoints.FOLDER)  # what a run that begins anew would write over


@dataclass(frozen=True)
class Position:
    """Where a run stands: optimiser steps done in all, in which item of the unrolled schedule, with how many threads.

    The number of threads decides about the last bits of what follows, and so do the ranks: `ranks` are the numbers of
    them that computed so far, in turn.
    """

    step: int = 0
    item: int = 0
    seconds: float = 0.0
    threads: Choices = field(default_factory=dict)
    ranks: tuple[int, ...] = ()


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
        "ranks": list(position.ranks),
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
    folder: Path,
    modules: Mapping[str, nn.Module],
    ranks: Ranks = ALONE,
    fits: Callable[[Mapping[str, dict]], None] = lambda optimisers: None,
) -> tuple[Position, dict[str, dict]]:
    """Restore the networks and random numbers; returns the position and the optimisers' states (of that phase).

    A state of another number of ranks is fine: ranks that it does not know keep the random numbers they have. `fits`
    raises ValueError for optimisers' states of another version. A state that is damaged or of another version is set
    aside, with what belongs to it, and the run begins anew, with the networks as they are. Raises MayPass where a disk
    or memory failed, the state untouched.
    """
    found = _load(folder / NAME, modules, ranks, fits) if ranks.first else None
    if ranks.agree(found is not None) and not ranks.first:
        found = _load(folder / NAME, modules, ranks, fits)
        if found is None:
            raise WorldlineError(f"Rank {ranks.rank} cannot read {folder / NAME}, as the first does: share that folder")
    return found or (Position(), {})


def _load(
    path: Path, modules: Mapping[str, nn.Module], ranks: Ranks, fits: Callable[[Mapping[str, dict]], None]
) -> tuple[Position, dict[str, dict]] | None:
    if not path.is_file():
        return None
    try:
        state = read_data(path)
        step, item, seconds = state["position"]
        position = Position(
            int(step), int(item), float(seconds), state.get("threads", {}), tuple(state.get("ranks", ()))
        )
        for name, module in modules.items():
            _require_same(name, module.state_dict(), state["modules"][name])
        rng = state["rng"].view(-1, len(torch.get_rng_state()))
        fits(state["optimisers"])
    except MayPass:
        raise
    except (WorldlineError, RuntimeError, LookupError, TypeError, ValueError, AttributeError) as error:
        if may_pass(error):
            raise not_now(path, error) from error
        if ranks.first:
            _set_aside(path, error)
        return None
    for name, module in modules.items():  # from here on nothing is in the way: no network is filled by halves
        module.load_state_dict(state["modules"][name])
    if ranks.rank < len(rng):
        torch.set_rng_state(rng[ranks.rank].clone())  # it would read a view from the start of its memory
        if torch.cuda.is_available() and "cuda_rng" in state:
            torch.cuda.set_rng_state(state["cuda_rng"][ranks.rank].clone())
    say(f"Resuming after step {position.step:,} ({path})")
    return position, state["optimisers"]


def _require_same(name: str, ours: Mapping[str, Any], saved: Mapping[str, Any]) -> None:
    """Raises ValueError unless the saved weights of a network have its names and shapes."""
    if odd := sorted(ours.keys() ^ saved.keys()):
        has = "lacks" if odd[0] in ours else "has"
        raise ValueError(f"its '{name}' {has} '{odd[0]}', which this version {'has' if odd[0] in ours else 'lacks'}")
    for key, mine in ours.items():
        if isinstance(mine, Tensor) and mine.shape != saved[key].shape:
            raise ValueError(f"its '{name}.{key}' is {tuple(saved[key].shape)}, this version's {tuple(mine.shape)}")


def _set_aside(path: Path, error: Exception) -> None:
    """Give the state and what belongs to it other names: who goes back to the version that wrote it goes on from it."""
    number = 1 + sum(1 for _ in path.parent.glob(f"{NAME}.unreadable-*"))
    for name in (*WITH_IT, NAME):  # the state last: killed between two, the next run sets the rest aside
        if (one := path.with_name(name)).exists():
            one.rename(path.with_name(f"{name}.unreadable-{number}"))
    why = one_line(error)[:160]
    say(
        f"The saved training state {path} does not fit or is damaged ({type(error).__name__}: {why}): it is kept as "
        f"{NAME}.unreadable-{number} until this run is finished, which starts from the beginning"
    )
