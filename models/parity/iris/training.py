"""Losses, gradients and two optimiser steps of each of IRIS's networks, from the recorded weights.

Both steps are taken on the same batch and draws. The second shows what the first of Adam's hides: clipping.
"""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.optim import Optimizer

from models.api import Losses
from models.blocks.layers import decay_groups
from models.iris.loss import actor_critic_loss, tokenizer_loss, world_model_counts, world_model_loss
from models.parity.iris.case import Case
from models.parity.iris.config import Training
from models.parity.iris.worlds import rollout

WATCHED = 14  # parameters whose [sum, L2] a file records after a step: evenly among those whose gradient is not 0
# Terms by their recorded names: ours, and what the original multiplies them with before it logs them.
TOKENIZER_TERMS = {"commitment_loss": ("commitment", 1.0), "reconstruction_loss": ("l1", 1.0)}
WORLD_TERMS = {"loss_obs": ("observations", 1.0), "loss_rewards": ("rewards", 1.0), "loss_ends": ("ends", 1.0)}
VANISHING = (".attn.key.bias", ".k.bias")  # adding to all keys alike changes no attention: the true gradient is 0


@dataclass(frozen=True)
class Stage:
    """A network that is trained: its loss, the recorded names of its terms, and its optimiser."""

    name: str
    network: nn.Module
    loss: Callable[[], Losses]
    terms: Mapping[str, tuple[str, float]]
    optimiser: Optimizer
    vanishing: tuple[str, ...] = ()  # parameters whose gradient is 0 but for rounding


def training_outputs(case: Case) -> dict[str, Tensor]:
    """Entries `loss/*`, `grad/*`, `grad_norm/*`, `after_step*/*`. Weights are put back at the end."""
    found: dict[str, Tensor] = {}
    for new in (tokenizer_stage, world_model_stage, actor_critic_stage):
        stage = new(case)
        found |= dict(recorded(stage, case.training.clip))
        case.restore(stage.name)
    return found


def adam(network: nn.Module, training: Training) -> Optimizer:
    """Adam without decay."""
    return torch.optim.Adam(network.parameters(), lr=training.lr)


def tokenizer_stage(case: Case) -> Stage:
    """l1 and commitment; LPIPS is left out."""
    frames = case.frames("batch/tokenizer/observations").flatten(0, 1)

    def loss() -> Losses:
        return tokenizer_loss(frames, case.tokenizer(frames), case.config.weights)

    optimiser = adam(case.tokenizer, case.training)
    return Stage("tokenizer", case.tokenizer, loss, TOKENIZER_TERMS, optimiser, vanishing(case, "tokenizer"))


def world_model_stage(case: Case) -> Stage:
    """Cross entropies of tokens, rewards and ends; linear weights decay."""
    model, batch, training = case.world_model, case.world_batch(), case.training
    counts = world_model_counts(batch, case.config.world_model.tokens_per_frame)

    def loss() -> Losses:
        return world_model_loss(model(batch.tokens_BTK, batch.actions_BT), batch, counts)

    optimiser = torch.optim.AdamW(decay_groups(model, training.weight_decay), lr=training.lr)
    return Stage("world_model", model, loss, WORLD_TERMS, optimiser, vanishing(case, "world_model"))


def actor_critic_stage(case: Case) -> Stage:
    """Learns from the recorded rollout; world and tokenizer are only read."""
    config = case.config.actor_critic
    terms = {"loss_actions": ("actions", 1.0), "loss_values": ("values", config.value)}
    terms["loss_entropy"] = ("entropy", -config.entropy)

    def loss() -> Losses:
        return actor_critic_loss(rollout(case)[1], config)

    return Stage("actor_critic", case.actor_critic, loss, terms, adam(case.actor_critic, case.training))


def vanishing(case: Case, name: str) -> tuple[str, ...]:
    """Parameters of a network whose true gradient is 0: biases of keys."""
    network: nn.Module = getattr(case, name)
    return tuple(key for key, _ in network.named_parameters() if f".{key}".endswith(VANISHING))


def recorded(stage: Stage, clip: float) -> Iterator[tuple[str, Tensor]]:
    """The entries of a stage while it takes two steps."""
    parameters = {key: each for key, each in stage.network.named_parameters() if each.requires_grad}
    for step, suffix in enumerate(("", "_step2")):
        stage.network.zero_grad(set_to_none=True)
        losses = stage.loss()
        losses.total.backward()
        prefix = f"loss/{stage.name}{suffix}"
        yield f"{prefix}/total", losses.total.detach()
        yield from ((f"{prefix}/{key}", factor * losses.terms[ours]) for key, (ours, factor) in stage.terms.items())
        if step == 0:
            for key, parameter in parameters.items():
                gradient = torch.zeros(1) if parameter.grad is None else parameter.grad
                yield f"grad/{stage.name}/{key}", gradient.double().norm()
        yield f"grad_norm/{stage.name}{suffix}", nn.utils.clip_grad_norm_(stage.network.parameters(), clip)
        stage.optimiser.step()
        for key in watched([key for key in parameters if key not in stage.vanishing]):
            weight = parameters[key].detach().double()
            yield f"after_step{'2' if step else ''}/{stage.name}/{key}", torch.stack([weight.sum(), weight.norm()])


def watched(names: list[str]) -> list[str]:
    """Of these parameters, in order, the ones whose weights are recorded."""
    count = min(WATCHED, len(names))
    return [names[round(place * (len(names) - 1) / max(count - 1, 1))] for place in range(count)]
