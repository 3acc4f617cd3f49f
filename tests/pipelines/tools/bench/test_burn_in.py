"""The table of burn-ins: how far apart two memories' judgements are, and whose memory is told of actions."""

import math

import pytest
import torch

from models.practice.actor_critic import Judgement, Memory
from models.rem.agent import RemAgent
from pipelines.tools.bench.burn_in import apart, judged
from tests.models.practice.block_agents import ACTIONS, STEPS, TOKENS
from tests.models.rem.small_rem import CONFIG


def test_distances_are_those_of_two_policies_written_down() -> None:
    halves = Judgement(torch.zeros(2, 2), torch.tensor([1.0, 3.0]), Memory())
    other = Judgement(torch.tensor([[0.0, 0.0], [0.0, math.log(3.0)]]), torch.tensor([1.0, 4.0]), Memory())
    found = apart("other", halves, other)
    assert found.kl == pytest.approx(0.5 * 0.5 * math.log(4 / 3), abs=1e-6)  # 0 of one state, ln(4/3) / 2 of the other
    assert found.other_action == 0.5 and found.value == 0.5 and found.spread == pytest.approx(math.sqrt(2))
    quarter = -(0.25 * math.log(0.25) + 0.75 * math.log(0.75))
    assert found.entropy == pytest.approx((math.log(2) + quarter) / 2, abs=1e-6)


def test_states_are_judged_behind_as_much_as_is_asked_for() -> None:
    agent = RemAgent(CONFIG, seed=1)
    told = judged(agent, TOKENS, ACTIONS[:, :-1], STEPS - 1)
    alone, nothing = (judged(agent, TOKENS, None, steps) for steps in (STEPS - 1, 0))
    assert told.logits_NA.shape == (3, 5) and told.values_N.shape == (3,)
    assert not torch.allclose(told.logits_NA, alone.logits_NA)
    fresh = agent.actor_critic(agent.see(TOKENS[:, -1]), agent.actor_critic.fresh(3))
    assert torch.allclose(nothing.logits_NA, fresh.logits_NA, atol=1e-6)
    again = agent.actor_critic.burn_in(
        (agent.see(TOKENS[:, step]) for step in range(STEPS - 1)), torch.ones(3, STEPS - 1).bool(), ACTIONS[:, :-1]
    )
    assert torch.allclose(told.logits_NA, agent.actor_critic(agent.see(TOKENS[:, -1]), again).logits_NA, atol=1e-6)
