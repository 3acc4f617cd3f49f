"""One update of the networks: optimisers and rates, the parts of a batch in turn, summed over ranks, clipped, stepped.

Losses arrive divided by the counts of the whole batch, so that parts and ranks add up to its loss and its gradient.
Each network of a phase has its own optimiser, of the kind and with the groups that its family says.
"""

import math
import re
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Protocol

import torch
from torch import Tensor, nn
from torch.autograd.graph import increment_version
from torch.distributed.optim import ZeroRedundancyOptimizer
from torch.optim import Optimizer

from models.api import Agent, Losses
from models.registry import family_of
from pipelines.errors import WorldlineError, ran_out_of_memory
from pipelines.training import state
from pipelines.training.distributed.ranks import Ranks
from pipelines.training.schedule import Collect, Phase

Values = dict[str, float]
"""what is logged of a step, by name"""


class Trainable(Protocol):
    """What the loop trains: modules by name, and the losses of one step."""

    modules: dict[str, nn.Module]

    def optimisers(self, phase: Phase) -> dict[str, Optimizer]:
        """Fresh optimisers of the phase, by the name of the module that each steps."""

    def losses(self, phase: Phase, step: int, part: int) -> dict[str, Losses]:
        """(phase, step over the whole run, 0 .. phase.accumulate - 1) -> losses by objective.

        Of the batch that belongs to `step`, this rank's share of rows, and of that the part. Their sum over ranks and
        parts is the whole batch's loss.
        """

    def after_step(self, phase: Phase, step: int) -> None:
        """Called after each update: target networks and the like."""

    def tokens(self, phase: Phase) -> int:
        """Tokens that one step of the phase reads, on all ranks."""

    def collect(self, item: Collect) -> Values:
        """Play, and add what was played to what is learned from; what to log. Schedules of phases never ask for it."""

    def rewind(self, turns: int) -> None:
        """The run goes on after so many turns of play: what was played since is forgotten."""


def for_phase(phase: Phase, agent: Agent, sharded: bool = False) -> dict[str, Optimizer]:
    """Fresh optimisers, by network, for those that the phase's objectives train.

    `sharded`: each rank keeps the state of, and steps, its share of the parameters and sends them to the others: the
    same bits, with AdamW's 8 bytes a parameter divided by the ranks (ZeRO stage 1, Rajbhandari et al. 2020).
    """
    found: dict[str, Optimizer] = {}
    for use in phase.uses:
        for network in family_of(agent.config).objectives[use.name].trains:
            kind, groups = agent.optimiser(network, use.lr, phase.weight_decay)
            # `fused` is one pass over the weights, on CPU as on GPU, where PyTorch would make seven.
            if sharded:
                found[network] = ZeroRedundancyOptimizer(groups, kind, lr=use.lr, fused=True)
            else:
                found[network] = kind(groups, fused=True)  # type: ignore[call-arg]
    for optimiser in found.values():
        for group in optimiser.param_groups:
            group["peak_lr"] = group["lr"]
    return found


def schedule_rates(phase: Phase, optimisers: Mapping[str, Optimizer], step: int) -> None:
    """Set the learning rates for step `step` (0-based) of the phase: linear warm-up, then constant or cosine to 10%.

    A group with a `delay` stays as it is for so many steps first.
    """
    factor = min(1.0, (step + 1) / phase.warmup) if phase.warmup else 1.0
    if phase.decay:
        factor *= 0.1 + 0.45 * (1 + math.cos(math.pi * step / phase.steps))
    for optimiser in optimisers.values():
        for group in optimiser.param_groups:
            group["lr"] = group["peak_lr"] * factor if step >= group.get("delay", 0) else 0.0


def update(
    task: Trainable, phase: Phase, step: int, optimisers: Mapping[str, Optimizer], ranks: Ranks, scratch: Path
) -> Values:
    """Make one step; returns the terms and the gradients' norms before clipping.

    Raises WorldlineError, on all ranks alike and before any weight moves, for what is not finite; and for memory.
    """
    for optimiser in optimisers.values():
        optimiser.zero_grad(set_to_none=True)
    with _memory_named(phase, step):
        found = _backward(task, phase, step)
        terms, totals = _summed(found, ranks)
        _check_finite({**terms, **totals}, phase, step, scratch)
        ranks.sum_gradients(task.modules[name] for name in optimisers)
        values = {name.partition("/")[2]: value for name, value in terms.items()}
        for name in optimisers:
            norm = _clip(task.modules[name], optimisers[name], phase.clip)
            _check_finite({f"{name}/grad_norm": norm}, phase, step, scratch)
            values[f"grad_norm_{name}"] = norm
        for optimiser in optimisers.values():
            optimiser.step()
            # Fused steps tell no version, by which others know that their copies of the weights are old.
            increment_version(weight for group in optimiser.param_groups for weight in group["params"])
    task.after_step(phase, step)
    return values


def _clip(module: nn.Module, optimiser: Optimizer, most: float) -> float:
    """Clip a module's gradient by its norm, which is returned; groups that learn `apart` each by their own."""
    apart = [group["params"] for group in optimiser.param_groups if group.get("apart")]
    norms = [nn.utils.clip_grad_norm_(part, most) for part in apart or [list(module.parameters())]]
    return float(torch.stack(norms).norm())


def _backward(task: Trainable, phase: Phase, step: int) -> dict[str, Tensor]:
    """Gradients of all parts, left in the parameters; the parts' terms and totals, summed, by objective/name."""
    found: dict[str, Tensor] = {}
    for part in range(phase.accumulate):
        losses = task.losses(phase, step, part)
        torch.stack([loss.total for loss in losses.values()]).sum().backward()
        for objective, loss in losses.items():
            for name, value in {**loss.terms, "total": loss.total.detach()}.items():
                key = f"{objective}/{name}"
                found[key] = found[key] + value if key in found else value
    return found


def _summed(found: dict[str, Tensor], ranks: Ranks) -> tuple[Values, Values]:
    """Terms and totals over all ranks, in one message and one wait for the device."""
    numbers = ranks.sum_(torch.stack([value.float() for value in found.values()])).tolist()
    both = dict(zip(found, numbers, strict=True))
    totals = {name: value for name, value in both.items() if name.endswith("/total")}
    return {name: value for name, value in both.items() if name not in totals}, totals


def _check_finite(values: Values, phase: Phase, step: int, scratch: Path) -> None:
    for name, value in values.items():
        if not math.isfinite(value):
            raise WorldlineError(
                f"Loss term '{name}' became {value} at step {step + 1} of phase '{phase.name}': lower the learning "
                f"rate or train in float32 (loop.precision=float32); {_last_good(scratch / state.NAME)}"
            )


def _last_good(path: Path) -> str:
    return f"the last good state is {path}" if path.is_file() else "no state was saved before that"


@contextmanager
def _memory_named(phase: Phase, step: int) -> Iterator[None]:
    """An allocator's failure as one line that says what to lower."""
    try:
        yield
    except (RuntimeError, MemoryError) as error:  # torch.OutOfMemoryError is a RuntimeError; the CPU's has no name
        if not ran_out_of_memory(error):
            raise
        asked = re.search(r"allocate ([\d.]+ \w+)", " ".join(str(error).split()))
        batch = ", ".join(f"{use.batch} for {use.name}" for use in phase.uses)
        raise WorldlineError(
            f"Out of memory at step {step + 1} of phase '{phase.name}'"
            + (f", which asked for {asked[1]} more" if asked else "")
            + f": raise its accumulate, now {phase.accumulate} (batches of {batch} in that many parts), take more "
            "ranks, or lower the batch"
        ) from error
