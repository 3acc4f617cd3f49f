"""Frames of another size and actions of another numbering, on their way in and out."""

from dataclasses import replace

import cv2
import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from models.api import Acting, Context, Learning, Moment
from models.iris.agent import IrisAgent
from models.iris.config import IrisConfig
from models.practice.interface import Interface, area_means
from tests.models.iris.test_agent import CONFIG
from tests.models.practice.learning import segments

GREY = replace(CONFIG, frame=(84, 40, 1))
SOME = replace(CONFIG, actions=(0, 1, 3, 4, 11, 12))


@given(st.integers(1, 90), st.integers(1, 90))
def test_every_pixel_is_the_mean_of_what_it_covers(size: int, smaller: int) -> None:
    smaller = min(size, smaller)
    weights = area_means(size, smaller)
    assert weights.sum(1).tolist() == pytest.approx([1.0] * smaller, abs=1e-5)
    assert weights.sum(0).tolist() == pytest.approx([smaller / size] * size, abs=1e-5)
    assert bool((weights >= 0).all())


def test_frames_are_resized_as_opencv_does_by_area_but_for_rounding() -> None:
    frames = np.random.default_rng(0).integers(0, 256, (3, 84, 40), dtype=np.uint8)
    found = Interface(GREY).inward(torch.from_numpy(frames)[:, None])
    theirs = np.stack([cv2.resize(frame, (32, 32), interpolation=cv2.INTER_AREA) for frame in frames])
    assert found.shape == (3, 1, 32, 32) and found.dtype == torch.uint8
    assert np.abs(found[:, 0].numpy().astype(int) - theirs).max() <= 1
    with torch.autocast("cpu", torch.bfloat16):  # as it learns, so it plays
        assert torch.equal(Interface(GREY).inward(torch.from_numpy(frames)[:, None]), found)


def test_a_grey_agent_of_another_size_sees_plays_and_shows() -> None:
    agent = IrisAgent(GREY)
    assert (GREY.tokenizer.frame_channels, GREY.actor_critic.frame_channels) == (1, 1)
    assert GREY.takes.frame == (84, 40, 1)
    frames = torch.randint(0, 256, (2, 3, 1, 84, 40), dtype=torch.uint8)
    tokens = agent.encode(frames)
    assert tokens.shape == (2, 3, 4) and agent.decode(tokens).shape == frames.shape
    assert torch.allclose(agent.decode(tokens[1, 2]), agent.decode(tokens)[1, 2], atol=1e-5)
    policy = agent.policy(Acting(torch.zeros(2).long(), torch.ones(2, 5).bool()))
    assert policy.act(frames[:, 0], [0, 1]).shape == (2,)
    with pytest.raises(ValueError, match=r"give uint8 \(\.\.\., 84, 40\)"):
        agent.encode(frames[..., :32, :32])


def test_networks_know_the_games_actions_and_outside_they_have_the_environments_numbers() -> None:
    agent = IrisAgent(SOME, seed=1)
    assert (SOME.world_model.num_actions, SOME.actor_critic.num_actions, SOME.takes.actions) == (6, 6, None)
    legal = torch.zeros(1, 18, dtype=torch.bool)
    legal[0, [3, 11]] = True
    policy = agent.policy(Acting(torch.zeros(1).long(), legal, temperature=100.0))
    pictures = segments().frames_BTCHW
    assert pictures is not None
    played = {int(policy.act(pictures[:1, 0], [0])) for _ in range(20)}
    assert played == {3, 11}
    tokens = agent.encode(pictures[:1, :2])
    world = agent.world()
    world.reset(Context(tokens, torch.tensor([[11]]), torch.zeros(1).long()))
    world.step(torch.tensor([12]))
    with pytest.raises(ValueError, match="Action 2 is none of"):
        world.step(torch.tensor([2]))


def test_what_is_learned_of_an_environments_action_is_learned_of_ours() -> None:
    agent, plain = IrisAgent(SOME, seed=1), IrisAgent(replace(CONFIG, actions=(0, 1, 2, 3, 4, 5)), seed=1)
    batch, found = segments(), []
    batch.actions_BT[1, 0] = 0
    theirs = replace(batch, actions_BT=torch.tensor(SOME.actions)[batch.actions_BT])
    theirs.actions_BT[1, 0] = 17  # padding may hold anything
    for one, stored in ((agent, theirs), (plain, batch)):
        one.start(Learning(0, torch.ones(2, 18).bool()), ["world_model", "actor_critic"])
        for objective in ("world_model", "actor_critic"):
            found.append(one.loss(objective, stored, one.counts(objective, stored), Moment(0)).total.item())
    assert found[:2] == found[2:]


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"frame": (31, 64, 3)}, "smaller than the tokenizer's 32 pixels"),
        ({"actions": (0, 3, 3)}, "name one twice"),
    ],
)
def test_frames_and_actions_that_cannot_be_are_refused(changes: dict, words: str) -> None:
    with pytest.raises(ValueError, match=words):
        replace(CONFIG, **changes)
    assert IrisConfig.of(SOME.plain()) == SOME
