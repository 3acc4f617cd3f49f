"""Playing inside REM's world model: what training predicts is predicted step by step, and what is forgotten."""

import pytest
import torch
from torch import Tensor

from models.practice.draws import Given, likeliest
from models.rem.agent import RemAgent
from models.rem.world import RemPlayer
from tests.models.practice.block_agents import ACTIONS, STEPS, TOKENS, K
from tests.models.rem.small_rem import ATTENTION, VARIANTS, world

NOTHING = torch.zeros(3).long()


def played(agent: RemAgent, first: int) -> tuple[Tensor, Tensor, RemPlayer]:
    """Logits of the tokens of steps `first` on and of rewards from the step before, where recorded steps follow."""
    player, pop = agent.player(), agent.config.world_model.pop
    frames = [TOKENS[:, step] for step in range(first, STEPS)]
    draws = frames if pop else [place for frame in frames for place in frame.unbind(1)]
    given = Given(rewards=[NOTHING] * STEPS, ends=[NOTHING] * STEPS, tokens=draws)
    player.follow(TOKENS[:, :first], ACTIONS[:, : first - 1])
    for step in range(first - 1, STEPS):
        player.step(ACTIONS[:, step], given, observe=step < STEPS - 1)
    logits = torch.stack(given.logits["tokens"], dim=1)
    return logits.reshape(3, -1, 16), torch.stack(given.logits["rewards"], dim=1), player


@torch.no_grad()
@pytest.mark.parametrize("variant", ["rem", "no pop", "separate embeddings", "shared prediction token", "attention"])
@pytest.mark.parametrize("first", [1, 2, 3])
def test_played_steps_are_what_one_pass_over_the_segment_says(variant: str, first: int) -> None:
    agent = RemAgent(ATTENTION if variant == "attention" else VARIANTS[variant], seed=1)
    outputs = agent.world_model.eval()(TOKENS, ACTIONS, agent.codes())
    logits, rewards, player = played(agent, first)
    assert torch.allclose(logits, outputs.observations_BSV[:, first * K :], atol=2e-4)
    assert torch.allclose(rewards, outputs.rewards_BTV[:, first - 1 :], atol=2e-4)
    assert player.length == STEPS * (K + 1)
    assert player.remembered.passes == 1


def test_passes_of_a_step_are_one_or_one_a_token() -> None:
    for pop, passes in ((True, 1), (False, 1 + K)):
        agent = RemAgent(world(pop=pop), seed=1)
        player = agent.player()
        player.reset(TOKENS[:, 0])
        player.step(ACTIONS[:, 0], likeliest)
        assert player.remembered.passes == passes
