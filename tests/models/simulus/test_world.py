"""Simulus's world model: what training predicts is predicted step by step; what is learned; what disagreement pays."""

from dataclasses import replace

import pytest
import torch
from torch import Tensor, nn

from models.api import Moment
from models.practice.curiosity import Ensemble
from models.practice.draws import Given, likeliest
from models.simulus.agent import SimulusAgent
from models.simulus.loss import rewarded, world_counts, world_loss
from tests.models.practice.block_agents import ACTIONS, DRAWS, STEPS, TOKENS, K
from tests.models.practice.learning import segments
from tests.models.simulus.small_simulus import CONFIG, VARIANTS, world

NOTHING = torch.zeros(3).long()


@torch.no_grad()
@pytest.mark.parametrize("variant", ["simulus", "retnet", "wider than codes"])
@pytest.mark.parametrize("first", [1, 2, 3])
def test_played_steps_are_what_one_pass_over_the_segment_says(variant: str, first: int) -> None:
    agent = SimulusAgent(VARIANTS[variant], seed=1)
    model = agent.world_model.eval()
    latents_BTKD = model(TOKENS, ACTIONS, agent.codes()).latents_BTKD
    player, found = agent.player(), []
    frames = [TOKENS[:, step] for step in range(first, STEPS)]
    given = Given(ends=[NOTHING] * STEPS, tokens=frames)
    player.follow(TOKENS[:, :first], ACTIONS[:, : first - 1])
    for step in range(first - 1, STEPS):
        found.append(player.step(ACTIONS[:, step], given, observe=step < STEPS - 1).rewards_N)
        assert torch.allclose(player.latents_NKD, latents_BTKD[:, step + 1], atol=1e-4)
    expected_BT = model.bins.value(model.head_rewards(latents_BTKD[:, first:, -1]))
    assert torch.allclose(torch.stack(found, dim=1), expected_BT, atol=1e-4)
    assert player.length == STEPS * (K + 1) and player.remembered.passes == 1


def test_a_curious_actor_is_paid_for_disagreement_too() -> None:
    agent = SimulusAgent(CONFIG, seed=1)
    plain, curious = agent.player(), agent.player()
    curious.worth = (2.0, 3.0)
    steps = []
    for player in (plain, curious):
        player.reset(TOKENS[:, 0])
        steps.append(player.step(ACTIONS[:, 0], likeliest))
    paid = agent.world_model.ensemble.disagreement(curious.latents_NKD).mean(-1)
    assert bool((paid > 0).all())
    assert torch.allclose(steps[1].rewards_N, 2 * steps[0].rewards_N + 3 * paid)


def test_disagreement_is_the_mean_distance_from_what_all_say() -> None:
    heads = [nn.Linear(4, 6) for _ in range(3)]
    latents = torch.randn(2, 5, 4)
    probs = torch.stack([head(latents).softmax(-1) for head in heads])
    distances = (probs * (probs / probs.mean(0)).log()).sum(-1).mean(0)
    found = Ensemble(heads).disagreement(latents)
    assert torch.allclose(found, distances, atol=1e-6)
    assert torch.allclose(Ensemble([heads[0], heads[0]]).disagreement(latents), torch.zeros(2, 5), atol=1e-6)


@pytest.mark.parametrize(("members", "count"), [(4, 8), (4, 5), (3, 2), (2, 7)])
def test_every_row_is_of_one_member_in_contiguous_shares_wherever_the_batch_is_cut(members: int, count: int) -> None:
    ensemble = Ensemble(nn.Identity() for _ in range(members))
    whole = [range(count)[each] for each in ensemble.shares(count, 0, count)]
    assert [row for share in whole for row in share] == list(range(count))
    assert max(map(len, whole)) - min(map(len, whole)) <= 1
    for cut in range(1, count):
        parts = (ensemble.shares(cut, 0, count), ensemble.shares(count - cut, cut, count))
        for share, first, last in zip(whole, *parts, strict=True):
            assert [*range(cut)[first], *(cut + row for row in range(count - cut)[last])] == list(share)


def losses(agent: SimulusAgent, batch: object, curious: bool = True) -> dict[str, Tensor]:
    model = agent.world_model
    foreseen = model(batch.tokens_BTK, batch.actions_BT, agent.codes())  # type: ignore[attr-defined]
    counts = world_counts(batch, model)  # type: ignore[arg-type]
    return dict(world_loss(model, foreseen, batch, counts, Moment(0), curious).terms)  # type: ignore[arg-type]


def test_rewards_and_ends_of_a_segments_last_block_are_learned_unless_as_in_the_original() -> None:
    batch = segments(steps=STEPS, side="right")
    assert rewarded(batch, True).sum(1).tolist() == [5, 4, 5, 5, 5]
    assert rewarded(batch, False).sum(1).tolist() == [4, 3, 4, 4, 4]
    for config, learned in ((CONFIG, True), (world(last_rewards=False), False)):
        agent = SimulusAgent(config, seed=1)
        agent.tokenizer.eval()
        assert batch.frames_BTCHW is not None
        here = replace(batch, tokens_BTK=agent.encode(batch.frames_BTCHW))
        other = replace(here, ends_BT=here.ends_BT.clone())
        other.ends_BT[0, -1] = 1
        assert (float(losses(agent, here)["ends"]) != float(losses(agent, other)["ends"])) is learned


def test_tokens_of_the_context_are_not_learned_and_rewards_are_by_sign_or_as_they_are() -> None:
    batch = segments(steps=STEPS, side="right")
    batch = replace(batch, tokens_BTK=torch.randint(16, (5, STEPS, K), generator=DRAWS), frames_BTCHW=None)
    agent = SimulusAgent(CONFIG, seed=1)
    terms = losses(agent, batch)
    assert terms.keys() == {"observations", "rewards", "ends", "curiosity"}
    assert "curiosity" not in losses(agent, batch, curious=False)
    larger = replace(batch, rewards_BT=batch.rewards_BT * 2)
    assert float(losses(agent, larger)["rewards"]) == float(terms["rewards"])
    raw = SimulusAgent(world(clip_rewards=False), seed=1)
    assert float(losses(raw, larger)["rewards"]) != float(losses(raw, batch)["rewards"])
    counts = world_counts(batch, agent.world_model)
    assert counts.tolist() == [(3 * 5 - 1) * K, 3 * 5 - 1, 5 * STEPS - 1]


def test_what_does_not_fit_is_refused() -> None:
    agent = SimulusAgent(CONFIG)
    long = torch.cat([TOKENS, TOKENS], dim=1)
    with pytest.raises(ValueError, match="Segments of 10 steps of 16 tokens do not fit a world model of 5 steps"):
        agent.world_model(long, torch.zeros(3, 10).long(), agent.codes())
    foreseen = agent.world_model(TOKENS, ACTIONS, agent.codes())
    with pytest.raises(ValueError, match="encode them with the tokenizer first"):
        world_loss(agent.world_model, foreseen, segments(steps=STEPS, side="right"), torch.ones(3), Moment(0), True)
