"""Checks of both objectives against a golden file: totals, terms and norms of gradients (entries `loss/STAGE/*`).

Weights of the terms are read from the recorded numbers. Options of stage 2 that a file does not name are tried in
turn, likeliest first: whether the Q head trains the trunk, random mixtures, COMBO where imagined segments are in the
batch, and the released code's slip in the scalar critic's penalty.
"""

import math
from collections.abc import Iterator
from dataclasses import replace
from itertools import product
from typing import Literal

import torch
from torch import Tensor

from models.api import Batch, mixed
from models.jowa.config import JowaConfig
from models.jowa.golden import Golden
from models.jowa.loss import sequence, world_action_loss, world_loss
from models.jowa.recording import Recording
from models.losses.rem import mixture_weights
from models.parity import Check, compare
from models.tokenizers.parity import read_tokenizer

TERMS = {"loss_obs": "observations", "loss_rewards": "rewards", "loss_ends": "ends"}
Q_TERMS = {"info/q_value_of_negative_samples": "q_logsumexp", "info/q_value_of_positive_samples": "q_taken"}


def check_stage(recording: Recording, prefix: str) -> list[Check]:
    """One objective, with the first options under which all its entries agree, else with those that fail fewest."""
    batch = _batch(recording.golden, prefix)
    config = _with_weights(recording, prefix, batch)
    if prefix + "loss_td_error" not in recording.golden.arrays:
        return _check(recording, prefix, batch, config, with_critic=False)
    before, tried = recording.state(), []
    for option in _options(recording, prefix, config):
        recording.rewind(before)
        checks = _check(recording, prefix, batch, option, with_critic=True)
        failed = sum(not one.ok for one in checks)
        tried.append((failed, recording.noted(checks, _unusual(option)), recording.state()))
        if not failed:
            break
    _, checks, after = min(tried, key=lambda attempt: attempt[0])
    recording.rewind(after)
    return checks


def _with_weights(recording: Recording, prefix: str, batch: Batch) -> JowaConfig:
    """The model's config with this objective's weights of the penalty and of the world model's terms.

    The original records terms after weighting: their ratios to ours are the weight.
    """
    arrays, config = recording.golden.arrays, recording.clean.config
    if prefix + "info/alpha" in arrays:
        config = replace(config, cql_weight=float(f"{float(arrays[prefix + 'info/alpha']):.6g}"))
    with torch.no_grad():
        plain = world_loss(recording.clean, batch).terms
    ratios = [
        float(arrays[prefix + name]) / max(float(plain[term]), 1e-12)
        for name, term in TERMS.items()
        if prefix + name in arrays
    ]
    # Three digits of the middle one: a wrong number neither bends the weight nor hides behind it.
    if ratios and 0 < (middle := sorted(ratios)[len(ratios) // 2]) < math.inf:
        config = replace(config, world_weight=float(f"{middle:.3g}"))
    return config


def _unusual(config: JowaConfig) -> str:
    """Options that the numbers show and that are no default, for the note."""
    found = [name for name in ("random_mixture", "released_mse_penalty") if getattr(config, name)]
    found += [] if config.penalty != "combo" else ["penalty=combo"]
    found += [] if config.q_trains_trunk else ["q_trains_trunk=False"]
    return f"with {', '.join(found)}, which the numbers show" if found else ""


def _with_dreams(golden: Golden, prefix: str) -> bool:
    return prefix + "info/reward_imagine" in golden.arrays


def _batch(golden: Golden, prefix: str) -> Batch:
    """The recorded batch, followed by the imagined segments where the objective was recorded with them."""
    if not _with_dreams(golden, prefix):
        return golden.batch()
    frames_BTHW = golden.tensor("imagine/observations").squeeze(2)
    imagined = Batch(
        tokens_BTK=read_tokenizer(golden.arrays).eval().encode_tokens(frames_BTHW),
        actions_BT=golden.tensor("imagine/actions"),
        rewards_BT=golden.tensor("imagine/rewards"),
        ends_BT=golden.tensor("imagine/ends").to(golden.tensor("batch/ends").dtype),
        mask_BT=golden.tensor("imagine/mask_padding").bool(),
        games_B=golden.tensor("imagine/envs"),
    )
    return mixed(golden.batch(), imagined)


def _options(recording: Recording, prefix: str, config: JowaConfig) -> Iterator[JowaConfig]:
    penalised = prefix + "loss_cql_penalty" in recording.golden.arrays
    # Without imagined segments in the batch COMBO's penalty is CQL's.
    penalties: tuple[Literal["cql", "combo", "none"], ...] = (
        ("cql", "combo") if _with_dreams(recording.golden, prefix) else ("cql",)
    )
    slips = (False, True) if penalised and config.critic == "mse" else (False,)
    mixtures = (False, True) if config.num_q > 1 and recording.generator is not None else (False,)
    for mixture, trains, slip, penalty in product(
        mixtures, (True, False), slips, penalties if penalised else ("none",)
    ):
        yield replace(config, random_mixture=mixture, penalty=penalty, q_trains_trunk=trains, released_mse_penalty=slip)


def _check(recording: Recording, prefix: str, batch: Batch, config: JowaConfig, with_critic: bool) -> list[Check]:
    model, arrays = recording.model, recording.golden.arrays
    model.config = config
    model.zero_grad(set_to_none=True)
    if with_critic:
        weights_Q = _mixture_weights(recording, batch) if config.random_mixture else None
        losses = world_action_loss(model, batch, recording.golden.legal_GA, weights_Q)
    else:
        model(sequence(batch), batch.games_B, heads=("q", "q_target"))  # the original's heads draw dropout here too
        losses = world_loss(model, batch)
    losses.total.backward()
    world_weight = config.world_weight if with_critic else 1.0
    ours = {golden: world_weight * losses.terms[term] for golden, term in TERMS.items()}
    ours["total"] = losses.total.detach()
    dreamt_B = torch.zeros_like(batch.games_B, dtype=torch.bool) if batch.imagined_B is None else batch.imagined_B
    for kind, rows_B in (("real", ~dreamt_B), ("imagine", dreamt_B)):
        ours[f"info/reward_{kind}"] = batch.rewards_BT[rows_B].mean()
        ours[f"info/done_{kind}"] = batch.ends_BT[rows_B].float().mean()
    ours["info/alpha"] = torch.tensor(config.cql_weight)
    if with_critic:
        ours["loss_td_error"] = losses.terms["td"]
    if "cql" in losses.terms:
        ours["loss_cql_penalty"] = config.cql_weight * losses.terms["cql"]
        ours |= {golden: losses.terms[term] for golden, term in Q_TERMS.items()}
    gradients = {name: weight.grad for name, weight in model.named_parameters() if weight.grad is not None}
    ours["grad_norm"] = torch.nn.utils.get_total_norm(gradients.values())
    ours |= {f"grad/{name}": gradient.norm() for name, gradient in gradients.items()}
    return [
        compare(prefix + key, value.numpy(), arrays[prefix + key])
        for key, value in ours.items()
        if prefix + key in arrays
    ]


def _mixture_weights(recording: Recording, batch: Batch) -> Tensor:
    """A random mixture as the original draws it: after the heads' dropout, which is then drawn once more."""
    generator, model = recording.generator, recording.model
    assert generator is not None, "random mixtures are tried only where the recording's draws are known"
    before = generator.get_state()
    with torch.no_grad():
        model(sequence(batch), batch.games_B, heads=("q", "q_target"))
    weights_Q = mixture_weights(model.config.num_q, generator)
    generator.set_state(before)
    return weights_Q
