"""Checks of both objectives against a golden file: totals, terms and norms of gradients (entries `loss/STAGE/*`).

Options of stage 2 that a file does not name are tried in turn, likeliest first: whether the Q head trains the trunk,
random mixtures, and the released code's slip in the scalar critic's penalty.
"""

from collections.abc import Iterator
from dataclasses import replace
from itertools import product

import torch
from torch import Tensor

from models.api import Batch
from models.jowa.config import JowaConfig
from models.jowa.objective import sequence, world_action_loss, world_loss
from models.jowa.recording import Recording
from models.losses.rem import mixture_weights
from models.parity import Check, compare

TERMS = {"loss_obs": "observations", "loss_rewards": "rewards", "loss_ends": "ends"}
Q_TERMS = {"info/q_value_of_negative_samples": "q_logsumexp", "info/q_value_of_positive_samples": "q_taken"}


def check_stage(recording: Recording, prefix: str) -> list[Check]:
    """One objective, with the first options under which all its entries agree, else with those that fail fewest."""
    batch = recording.golden.batch()
    if prefix + "loss_td_error" not in recording.golden.arrays:
        return _check(recording, prefix, batch, recording.clean.config, with_critic=False)
    before, tried = recording.state(), []
    for config in _options(recording, prefix):
        recording.rewind(before)
        checks = _check(recording, prefix, batch, config, with_critic=True)
        failed = sum(not one.ok for one in checks)
        tried.append((failed, recording.noted(checks, _unusual(config)), recording.state()))
        if not failed:
            break
    _, checks, after = min(tried, key=lambda attempt: attempt[0])
    recording.rewind(after)
    return checks


def _unusual(config: JowaConfig) -> str:
    """Options that the numbers show and that are no default, for the note."""
    found = [name for name in ("random_mixture", "released_mse_penalty") if getattr(config, name)]
    found += [] if config.q_trains_trunk else ["q_trains_trunk=False"]
    return f"with {', '.join(found)}, which the numbers show" if found else ""


def _options(recording: Recording, prefix: str) -> Iterator[JowaConfig]:
    penalised = prefix + "loss_cql_penalty" in recording.golden.arrays
    # Without imagined segments in the batch COMBO's penalty is CQL's.
    config = replace(recording.clean.config, penalty="cql" if penalised else "none")
    slips = (False, True) if penalised and config.critic == "mse" else (False,)
    mixtures = (False, True) if config.num_q > 1 and recording.generator is not None else (False,)
    for mixture, trains, slip in product(mixtures, (True, False), slips):
        yield replace(config, random_mixture=mixture, q_trains_trunk=trains, released_mse_penalty=slip)


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
    # The original records its terms after weighting.
    world_weight = config.world_weight if with_critic else 1.0
    ours = {golden: world_weight * losses.terms[term] for golden, term in TERMS.items()}
    ours["total"] = losses.total.detach()
    ours["info/reward_real"] = batch.rewards_BT.mean()
    ours["info/done_real"] = batch.ends_BT.float().mean()
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
