"""Optimisers of the phases: Adam for the tokenizer, AdamW with two parameter groups for the transformer."""

import math
from collections.abc import Iterable
from typing import Any

import torch
from torch import nn
from torch.distributed.optim import ZeroRedundancyOptimizer
from torch.optim import Optimizer

from models.jowa.model import parameter_groups
from pipelines.training.config import PhaseConfig


def for_phase(phase: PhaseConfig, modules: dict[str, nn.Module], sharded: bool = False) -> dict[str, Optimizer]:
    """Fresh optimisers for the modules that the phase's objectives train (JOWA resets them between stages).

    `sharded`: each rank keeps the state of, and steps, its share of the parameters and sends them to the others: the
    same bits, with AdamW's 8 bytes a parameter divided by the ranks (ZeRO stage 1, Rajbhandari et al. 2020).
    """
    found: dict[str, Optimizer] = {}
    if "tokenizer" in phase.objectives:
        found["tokenizer"] = _make(torch.optim.Adam, modules["tokenizer"].parameters(), phase.lr_tokenizer, sharded)
    if {"world", "world_action"} & set(phase.objectives):
        groups = parameter_groups(modules["model"], phase.weight_decay)
        found["model"] = _make(torch.optim.AdamW, groups, phase.lr_model, sharded)
    for optimiser in found.values():
        for group in optimiser.param_groups:
            group["peak_lr"] = group["lr"]
    return found


def _make(kind: type[Optimizer], params: Iterable[Any], lr: float, sharded: bool) -> Optimizer:
    """`fused` is one pass over the weights, on CPU as on GPU, where PyTorch would make seven."""
    if sharded:
        return ZeroRedundancyOptimizer(params, kind, lr=lr, fused=True)
    return kind(params, lr=lr, fused=True)  # type: ignore[call-arg]


def schedule(phase: PhaseConfig, optimisers: dict[str, Optimizer], step: int) -> None:
    """Set the learning rates for step `step` (0-based) of the phase: linear warm-up, then constant or cosine to 10%."""
    factor = min(1.0, (step + 1) / phase.warmup) if phase.warmup else 1.0
    if phase.decay:
        factor *= 0.1 + 0.45 * (1 + math.cos(math.pi * step / phase.steps))
    for optimiser in optimisers.values():
        for group in optimiser.param_groups:
            group["lr"] = group["peak_lr"] * factor
