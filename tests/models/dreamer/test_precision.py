"""Networks in bfloat16, distributions and losses in float32; and Gaussian states in place of classes."""

from dataclasses import replace

import pytest
import torch

from models.dreamer.actor_critic import ActorCritic, actor_critic_loss, imagine
from models.dreamer.loss import world_loss
from models.dreamer.optimiser import frozen
from models.dreamer.world_model import WorldModel
from models.rssm.config import RssmConfig
from tests.models.dreamer.small_dreamer import CONFIGS, draws, segments


@pytest.mark.parametrize("name", CONFIGS)
def test_losses_in_bfloat16_are_near_those_in_float32(name: str) -> None:
    world = WorldModel(CONFIGS[name])
    whole = world_loss(world, segments(), draws())
    with torch.autocast("cpu", torch.bfloat16):
        half = world_loss(world, segments(), draws())
    state = half.observed.posterior
    assert {each.dtype for each in (*state, half.observed.prior, *half.terms.values())} == {torch.float32}
    half.total(world.config).backward()
    assert all(each.grad is None or bool(each.grad.isfinite().all()) for each in world.parameters())
    for term in {"image", "reward", "aux_reward"} & whole.terms.keys():
        assert half.terms[term].item() == pytest.approx(whole.terms[term].item(), rel=0.1)


@pytest.mark.parametrize("name", ["dreamerv2", "apv", "prelar_pretrain", "prelar"])
def test_states_may_be_gaussian(name: str) -> None:
    config = replace(CONFIGS[name], rssm=RssmConfig(deter=8, hidden=7, stoch=5, discrete=0))
    world = WorldModel(config)
    lost = world_loss(world, segments(), draws())
    lost.total(config).backward()
    assert bool(lost.total(config).isfinite()) and world.rssm.post_head.weight.grad is not None
    stats = lost.observed.posterior.stats
    assert stats.shape == (3, 6, 2, 5) and bool((stats[..., 1, :] > 0.1).all())
    if not config.practises:
        return
    networks = ActorCritic(config)
    with frozen(world):
        start = lost.observed.posterior.flatten()
        imagined = imagine(world.eval(), networks.actor, start, None, 3, draws())
        found = actor_critic_loss(world, networks, imagined, entropy_in_targets=False)
    (found.actor + found.critic).backward()
    assert all(each.grad is not None for part in (networks.actor, networks.critic) for each in part.parameters())
