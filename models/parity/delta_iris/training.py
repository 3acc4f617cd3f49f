"""Losses, gradients and two optimiser steps of each of Delta-IRIS's networks, from the recorded weights.

Both steps are taken on the same batch and draws. The tokenizer learns in train mode, where its codebook follows; the
target network follows before each step, as in the original. Shapes: N rows, H imagined steps.
"""

import json
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass

import numpy as np
from torch import Tensor, nn

from models.api import Losses, Moment
from models.delta_iris.loss import actor_critic_loss
from models.delta_iris.state_dict import their_name
from models.parity.delta_iris.case import NETWORKS, Case
from models.parity.delta_iris.networks import TOKENIZER_TERMS
from models.parity.delta_iris.worlds import rollout
from models.parity.learning import VANISHING, gradients, loss_outputs, sum_and_norm, vanishing, watched

WORLD_TERMS = {"loss_latents": "latents", "loss_rewards": "rewards", "loss_ends": "ends"}
ACTOR_TERMS = {"loss_actions": "actions", "loss_entropy": "entropy", "loss_values": "values"}


@dataclass(frozen=True)
class Stage:
    """A network that is trained: its loss, terms by recorded name with their weight, and what is told besides."""

    name: str
    loss: Callable[[], Losses]
    terms: Mapping[str, tuple[str, float]]
    metrics: Mapping[str, str]  # ours by recorded name


def training_outputs(case: Case) -> dict[str, Tensor | np.ndarray]:
    """Entries `loss/*`, `grad*`, `after_*`, `metrics/*` and the optimisers' groups. Weights are put back at the end."""
    found: dict[str, Tensor | np.ndarray] = {"meta/optimizer": groups(case)}
    for stage in (_tokenizer(case), _world_model(case), _actor_critic(case)):
        found |= dict(_recorded(case, stage))
        for name in NETWORKS:
            case.restore(name)
    return found


def _tokenizer(case: Case) -> Stage:
    batch, weights = case.batch("world_model"), case.config.weights
    counts = case.agent.counts("tokenizer", batch)
    terms = {theirs: (ours, getattr(weights, ours)) for theirs, ours in TOKENIZER_TERMS.items()}

    def loss() -> Losses:
        case.agent.tokenizer.train()
        return case.agent.loss("tokenizer", batch, counts, Moment(0))

    told = ("codewords_revived", "codebook_entropy")
    return Stage("tokenizer", loss, terms, {name: name for name in told})


def _world_model(case: Case) -> Stage:
    batch, config = case.batch("world_model"), case.config.world_model
    counts = case.agent.counts("world_model", batch)
    terms = {theirs: (ours, getattr(config, f"{ours}_weight")) for theirs, ours in WORLD_TERMS.items()}

    def loss() -> Losses:
        return case.agent.loss("world_model", batch, counts, Moment(0))

    return Stage("world_model", loss, terms, {"latent_accuracy": "latent_accuracy"})


def _actor_critic(case: Case) -> Stage:
    config = case.config.actor_critic
    weights = {"actions": 1.0, "values": config.value, "entropy": -config.entropy}

    def loss() -> Losses:
        rolled, _ = rollout(case)
        case.agent.actor_critic.follow(case.config.actor_critic.target_decay)
        return actor_critic_loss(rolled, config, rolled.kept.sum())

    terms = {theirs: (ours, weights[ours]) for theirs, ours in ACTOR_TERMS.items()}
    return Stage("actor_critic", loss, terms, {"policy_entropy": "entropy"})


def _recorded(case: Case, stage: Stage) -> Iterator[tuple[str, Tensor]]:
    """The entries of a stage while it takes two steps."""
    network, training = case.agent.networks[stage.name], case.training
    parameters = {name: each for name, each in network.named_parameters() if each.requires_grad}
    kind, groups_ = case.agent.optimiser(stage.name, training.lr, training.weight_decay[stage.name])
    optimiser = kind(groups_)  # type: ignore[call-arg]
    skipped = vanishing(case.golden, stage.name)
    for step, suffix in enumerate(("", "_step2")):
        network.zero_grad(set_to_none=True)
        losses = stage.loss()
        losses.total.backward()
        yield from loss_outputs(f"loss/{stage.name}{suffix}", losses, stage.terms)
        for theirs, ours in stage.metrics.items():
            yield f"metrics/{stage.name}{suffix}/{theirs}", losses.terms[ours]
        if step == 0:
            yield from gradients(f"grad/{stage.name}", parameters, _theirs)
        yield f"grad_norm/{stage.name}{suffix}", nn.utils.clip_grad_norm_(network.parameters(), training.clip)
        yield from _followed(case, stage.name, suffix)
        optimiser.step()
        weights = _theirs({name: each.detach() for name, each in parameters.items()})
        prefix = f"after_step{'2' if step else ''}/{stage.name}/"
        order = [name for name in _names(case, stage.name) if name in weights and name not in skipped]
        for name in _kept(case, prefix, weights) or watched(order):
            yield prefix + name, sum_and_norm(weights[name])


def _followed(case: Case, name: str, suffix: str) -> Iterator[tuple[str, Tensor]]:
    """What followed in the loss: the codebook, the target network."""
    if name == "tokenizer":
        codes = case.agent.tokenizer.quantizer
        for buffer in ("codebook", "codewords_freqs", "num_codebook_updates"):
            yield f"after_update/tokenizer{suffix}/{buffer}", codes.get_buffer(buffer).clone()
    if name == "actor_critic":
        target = case.agent.actor_critic.target_model
        weights = _theirs({key: each.detach() for key, each in target.named_parameters()})
        prefix = f"after_update/target{suffix}/"
        for key in _kept(case, prefix, weights) or watched(_names(case, name, "target_model.")):
            yield prefix + key, sum_and_norm(weights[key])


def _kept(case: Case, prefix: str, weights: Mapping[str, Tensor]) -> list[str]:
    """Of which weights a file tells: it leaves out those whose gradient it found to vanish, some more than it lists."""
    names = (name.removeprefix(prefix) for name in case.golden.arrays if name.startswith(prefix))
    return [name for name in names if name in weights]


def _names(case: Case, network: str, part: str = "") -> list[str]:
    """The recorded weights of a network, or a part of it, in order."""
    prefix = f"weights/{network}/{part}"
    return [name.removeprefix(prefix) for name in case.golden.arrays if name.startswith(prefix)]


def _theirs(tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Tensors of parameters by the original's names."""
    return {their_name(name): each for name, each in tensors.items()}


def groups(case: Case) -> np.ndarray:
    """The optimisers' groups as the file states them, `meta/optimizer`; as they would be stated, where they differ."""
    training, found = case.training, dict[str, list[dict[str, object]]]()
    for name in NETWORKS:
        module = case.agent.networks[name]
        names = {id(each): their_name(key) for key, each in module.named_parameters()}
        kind, made = case.agent.optimiser(name, training.lr, training.weight_decay[name])
        optimiser = kind(made)  # type: ignore[call-arg]
        found[name] = [
            {
                "names": [names[id(each)] for each in group["params"]],
                **{key: group[key] for key in ("lr", "weight_decay", "betas", "eps")},
                "cls": kind.__name__,
            }
            for group in optimiser.param_groups
        ]
    stated = case.golden.stated("meta/optimizer")
    ours = json.loads(json.dumps(found)) | {VANISHING: stated.get(VANISHING)}
    return case.golden.arrays["meta/optimizer"] if ours == stated else np.array(json.dumps(ours))
