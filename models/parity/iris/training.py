"""Losses, gradients and two optimiser steps of each of IRIS's networks, from the recorded weights.

Both steps are taken on the same batch and draws. The second shows what the first of Adam's hides: clipping.
"""

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.optim import Optimizer

from models.api import Losses
from models.blocks.layers import decay_groups
from models.iris.loss import world_model_counts, world_model_loss
from models.parity.iris.case import Case
from models.parity.iris.worlds import rollout
from models.parity.learning import (
    WORLD_TERMS,
    Names,
    Training,
    gradients,
    loss_outputs,
    sum_and_norm,
    vanishing,
    watched,
)
from models.practice.loss import actor_critic_loss
from models.practice.world import Player
from models.tokenizers.loss import tokenizer_loss

# Terms by their recorded names: ours, and what the original multiplies them with before it logs them.
TOKENIZER_TERMS = {"commitment_loss": ("commitment", 1.0), "reconstruction_loss": ("l1", 1.0)}


@dataclass(frozen=True)
class Stage:
    """A network that is trained: its loss, the recorded names of its terms, and its optimiser."""

    name: str  # as recorded
    of: str  # the network's name
    loss: Callable[[], Losses]
    terms: Mapping[str, tuple[str, float]]
    optimiser: Optimizer
    vanishing: tuple[str, ...] = ()  # parameters whose gradient is 0 but for rounding
    names: Names = dict


def training_outputs(case: Case) -> dict[str, Tensor]:
    """Entries `loss/*`, `grad/*`, `grad_norm/*`, `after_step*/*`. Weights are put back at the end."""
    return trained(case, (tokenizer_stage, world_model_stage, actor_critic_stage))


def trained(case: Case, stages: Iterable[Callable[[Case], Stage]]) -> dict[str, Tensor]:
    """The entries of all stages, each from the recorded weights."""
    found: dict[str, Tensor] = {}
    for new in stages:
        stage = new(case)
        found |= dict(recorded(case, stage))
        case.restore(stage.of)
    return found


def adam(network: nn.Module, training: Training) -> Optimizer:
    """Adam without decay."""
    return torch.optim.Adam(network.parameters(), lr=training.lr)


def tokenizer_stage(case: Case) -> Stage:
    """l1 and commitment; LPIPS is left out."""
    frames = case.golden.frames("batch/tokenizer/observations").flatten(0, 1)

    def loss() -> Losses:
        return tokenizer_loss(frames, case.tokenizer(frames), case.config.weights)

    optimiser = adam(case.tokenizer, case.training)
    return Stage("tokenizer", "tokenizer", loss, TOKENIZER_TERMS, optimiser, vanishing(case.golden, "tokenizer"))


def world_model_stage(case: Case, name: str = "world_model", names: Names = dict) -> Stage:
    """Cross entropies of tokens, rewards and ends; linear weights decay."""
    model, batch, training = case.world_model, case.world_batch(), case.training
    counts = world_model_counts(batch, case.config.world_model)

    def loss() -> Losses:
        return world_model_loss(model(batch.tokens_BTK, batch.actions_BT), batch, counts)

    optimiser = torch.optim.AdamW(decay_groups(model, training.weight_decay), lr=training.lr)
    return Stage(name, "world_model", loss, WORLD_TERMS, optimiser, vanishing(case.golden, name), names)


def actor_critic_stage(
    case: Case, name: str = "actor_critic", imagined: str = "imagine", player: Player | None = None
) -> Stage:
    """Learns from the recorded rollout; world and tokenizer are only read."""
    config = case.config.actor_critic
    terms = {"loss_actions": ("actions", 1.0), "loss_values": ("values", config.value)}
    terms["loss_entropy"] = ("entropy", -config.entropy)

    def loss() -> Losses:
        return actor_critic_loss(rollout(case, imagined, player)[1], config)

    return Stage(name, "actor_critic", loss, terms, adam(case.actor_critic, case.training))


def recorded(case: Case, stage: Stage) -> Iterator[tuple[str, Tensor]]:
    """The entries of a stage while it takes two steps."""
    network: nn.Module = getattr(case, stage.of)
    parameters = {key: each for key, each in network.named_parameters() if each.requires_grad}
    order = [name.removeprefix(f"weights/{stage.of}/") for name in case.golden.arrays if f"weights/{stage.of}/" in name]
    for step, suffix in enumerate(("", "_step2")):
        network.zero_grad(set_to_none=True)
        losses = stage.loss()
        losses.total.backward()
        yield from loss_outputs(f"loss/{stage.name}{suffix}", losses, stage.terms)
        if step == 0:
            yield from gradients(f"grad/{stage.name}", parameters, stage.names)
        yield f"grad_norm/{stage.name}{suffix}", nn.utils.clip_grad_norm_(network.parameters(), case.training.clip)
        stage.optimiser.step()
        weights = stage.names({key: each.detach().double() for key, each in parameters.items()})
        for key in watched([key for key in order if key in weights and key not in stage.vanishing]):
            yield f"after_step{'2' if step else ''}/{stage.name}/{key}", sum_and_norm(weights[key])
