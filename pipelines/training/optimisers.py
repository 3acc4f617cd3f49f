"""Optimisers of a phase: each network has its own, of the kind and with the groups that its family says."""

import math
from collections.abc import Mapping

from torch.distributed.optim import ZeroRedundancyOptimizer
from torch.optim import Optimizer

from models.api import Agent
from models.registry import family_of
from pipelines.training.schedule import Phase


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
    """Set the learning rates for step `step` (0-based) of the phase: linear warm-up, then constant or cosine to 10%."""
    factor = min(1.0, (step + 1) / phase.warmup) if phase.warmup else 1.0
    if phase.decay:
        factor *= 0.1 + 0.45 * (1 + math.cos(math.pi * step / phase.steps))
    for optimiser in optimisers.values():
        for group in optimiser.param_groups:
            group["lr"] = group["peak_lr"] * factor
