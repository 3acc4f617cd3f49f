"""Returns as classes and the scale of advantages: by hand, in an actor, saved and resumed, and over several ranks."""

from dataclasses import replace
from typing import Any

import pytest
import torch
from torch import Tensor

from models.api import Learning, Moment, rows_of
from models.blocks.weights import copied_weights, load_exactly, misfit
from models.iris.config import IrisConfig
from models.losses.binned import symlog
from models.practice.actor_critic import ActorCritic
from models.practice.bins import Bins, ReturnScale
from models.practice.config import ActorCriticConfig
from models.rem.agent import RemAgent
from models.rem.config import RemConfig
from tests.models.practice.learning import LEGAL, segments
from tests.models.rem.small_rem import BURN_IN, actor

SMALL = ActorCriticConfig((4, 4), 8, num_actions=3, resolution=8, frame_channels=1, value_bins=9, return_buffer=8)


def test_a_fresh_head_expects_little_and_learns_what_it_is_told() -> None:
    bins, head = Bins(129, 15.0), torch.nn.Linear(4, 129)
    torch.nn.init.zeros_(head.weight)
    bins.begin(head)
    assert float(head.bias.min()) == pytest.approx(-0.2 * (15 - 15 / 129)) and float(head.bias.max()) == 0
    assert float(bins.value(head(torch.zeros(4))).detach()) == pytest.approx(0, abs=1e-5)
    told = torch.tensor([7.0, -30.0])
    logits = torch.zeros(2, 129, requires_grad=True)
    optimiser = torch.optim.Adam([logits], 0.1)
    for _ in range(300):
        optimiser.zero_grad()
        bins.errors(logits, told).sum().backward()
        optimiser.step()
    assert symlog(bins.value(logits)).tolist() == pytest.approx(symlog(told).tolist(), abs=0.02)
    assert not list(bins.state_dict())


def test_the_scale_is_half_the_spread_of_these_returns_and_those_before() -> None:
    scale, first, second = ReturnScale(6), torch.arange(4.0).view(2, 2) * 10, torch.arange(4.0).view(2, 2) - 100
    low, high = first.flatten().quantile(torch.tensor([0.025, 0.975]))
    assert float(scale(first)) == pytest.approx(float(high - low) / 2)
    both = torch.cat([first.flatten(), second.flatten()])
    low, high = both.quantile(torch.tensor([0.025, 0.975]))
    assert float(scale(second)) == pytest.approx(float(high - low) / 2)
    assert scale.returns.tolist() == [-98, -97, 20, 30, -100, -99] and int(scale.seen) == 8
    scale.eval()
    assert float(ReturnScale(6).eval()(torch.ones(2, 2))) == 1 and float(scale(first)) > 1
    assert int(scale.seen) == 8, "what is only looked at is not remembered"
    scale.train()
    scale(torch.arange(20.0).view(4, 5))
    assert sorted(scale.returns.tolist()) == [14, 15, 16, 17, 18, 19]


def test_what_is_remembered_is_saved_and_goes_on_bit_for_bit() -> None:
    one, other = (ActorCritic(SMALL, seed=1) for _ in range(2))
    assert one.return_scale is not None and other.return_scale is not None
    one.return_scale(torch.randn(3, 4))
    other.load_state_dict(one.state_dict())
    more = torch.randn(3, 4)
    assert torch.equal(one.return_scale(more), other.return_scale(more))
    assert torch.equal(one.return_scale.returns, other.return_scale.returns)


def test_originals_have_no_such_memory_and_leave_it_alone() -> None:
    one = ActorCritic(SMALL, seed=1)
    weights = copied_weights(ActorCritic(replace(SMALL, return_buffer=0), seed=2))
    assert one.return_scale is not None and copied_weights(one).keys() == weights.keys() and not misfit(one, weights)
    one.return_scale(torch.ones(1, 4))
    load_exactly(one, weights)
    assert torch.equal(one.actor_linear.weight, weights["actor_linear.weight"]) and int(one.return_scale.seen) == 4


def learning(gather: Any = None) -> RemAgent:
    agent = RemAgent(actor(value_bins=9, return_buffer=64), seed=3)
    agent.start(Learning(7, LEGAL, gather=gather), ["actor_critic"])
    return agent


def loss(agent: RemAgent, rows: slice, count: int) -> Any:
    batch = segments(steps=BURN_IN + 1, side="left")
    counts = torch.tensor([float(count)], dtype=torch.float64)
    return agent.loss("actor_critic", rows_of(batch, rows), counts, Moment(4, rows.start, count))


def test_any_family_s_actor_can_learn_so_and_follows_all_ranks() -> None:
    whole = learning()
    found = loss(whole, slice(0, 5), 5)
    found.total.backward()
    assert all(each.grad is not None for each in whole.actor_critic.parameters())
    scale = whole.actor_critic.return_scale
    assert scale is not None and int(scale.seen) > 0

    def all_rows(rows_NH: Tensor) -> Tensor:
        assert len(rows_NH) == 2
        return scale.returns[: int(scale.seen)].view(5, -1)

    part = learning(all_rows)
    loss(part, slice(0, 2), 5)
    mine = part.actor_critic.return_scale
    assert mine is not None and torch.equal(mine.returns, scale.returns) and torch.equal(mine.seen, scale.seen)


def test_a_batch_in_parts_is_refused_where_returns_are_remembered() -> None:
    for config in (RemConfig(), IrisConfig()):
        remembers = replace(config, actor_critic=replace(config.actor_critic, return_buffer=9))
        assert not config.whole_batches("actor_critic") and "take more ranks" in remembers.whole_batches("actor_critic")
