"""Real games in place of a world model: they go on from where they stand, and begin anew by themselves."""

import numpy as np
import pytest
import torch
from torch import Tensor

from models.api import Moment
from models.iris.config import ActorCriticConfig
from models.iris.emulator import EmulatorPlayer
from models.practice.actor_critic import ActorCritic
from models.practice.draws import Sampled, likeliest
from models.practice.imagination import imagine
from pipelines.environments.registry import make, protocol


def corner(frames_NCHW: Tensor) -> Tensor:
    """Four bytes of a frame as its tokens."""
    return frames_NCHW[:, 0, 20:24, 20].long()


def test_two_games_of_freeway_are_played_as_their_environment_plays_them() -> None:
    games, alone = (make("Freeway", (1, 2), protocol("iris-train")) for _ in range(2))
    player, frames = EmulatorPlayer(games, corner), alone.reset()
    assert torch.equal(player.seen(), corner(torch.from_numpy(frames).permute(0, 3, 1, 2)))
    rewards = []
    for _ in range(160):
        found, expected = player.step(torch.tensor([2, 2]), likeliest), alone.step(np.array([2, 2]))
        assert found.tokens_NK is not None
        assert torch.equal(found.tokens_NK, corner(torch.from_numpy(expected.frames).permute(0, 3, 1, 2)))
        assert found.rewards_N.tolist() == np.sign(expected.rewards).tolist()
        rewards.append(found.rewards_N)
    assert torch.stack(rewards).sum() > 0  # UP alone crosses the road
    for one in (games, alone):
        one.close()


class Counting:
    """Grey frames whose pixels are the number of steps, rewards of 5, and an end every third step."""

    def reset(self) -> np.ndarray:
        self.steps = 0
        return np.zeros((2, 2, 2), np.uint8)

    def step(self, actions_N: np.ndarray) -> "Counting":
        self.steps += 1
        self.frames = np.full((2, 2, 2), self.steps, np.uint8)
        self.rewards, self.terminated = np.array([5.0, -0.5], np.float32), np.full(2, self.steps % 3 == 0)
        self.truncated = np.array([False, self.steps == 4])
        self.played = actions_N
        return self


def test_rollouts_go_on_where_the_last_one_ended() -> None:
    player = EmulatorPlayer(Counting(), lambda frames: frames.flatten(1).long())
    player.reset(player.seen())
    first = [player.step(torch.zeros(2, dtype=torch.long), likeliest, observe=step < 1) for step in range(2)]
    assert first[0].tokens_NK is not None and first[0].tokens_NK.tolist() == [[1] * 4] * 2
    assert first[1].tokens_NK is None
    player.reset(player.seen())
    assert player.seen().tolist() == [[2] * 4] * 2
    third = player.step(torch.zeros(2, dtype=torch.long), likeliest)
    assert third.ends_N.tolist() == [True, True] and third.rewards_N.tolist() == [1.0, -1.0]


def test_an_actor_practises_in_it_as_in_a_world_model() -> None:
    config = ActorCriticConfig((4,), hidden=8, num_actions=3, resolution=2, frame_channels=1, horizon=5)
    actor, player = ActorCritic(config), EmulatorPlayer(Counting(), lambda frames: frames.flatten(1).long())

    def decode(tokens_NK: Tensor) -> Tensor:
        return tokens_NK.view(-1, 1, 2, 2) / 255

    player.reset(player.seen())
    rollout = imagine(actor, player, decode, player.seen(), actor.fresh(2), 5, Sampled(0, "oracle", Moment(0)))
    assert rollout.ends_NH[0].tolist() == [False, False, True, False, False]
    assert rollout.rewards_NH[1].tolist() == [-1.0] * 5
    assert [int(frame[0, 0, 0] * 255 + 0.5) for frame in rollout.seen_NHCHW[0]] == [0, 1, 2, 3, 4]


def test_what_was_seen_before_is_of_this_episode_alone() -> None:
    player, zeros_N = EmulatorPlayer(Counting(), lambda frames: frames.flatten(1).long()), torch.zeros(2).long()
    tokens_NTK, mask_NT = player.recent(3)
    assert tokens_NTK.shape == (2, 3, 4) and mask_NT.tolist() == [[False, False, True]] * 2
    for _ in range(2):
        player.step(zeros_N, likeliest, observe=False)
    tokens_NTK, mask_NT = player.recent(3)
    assert tokens_NTK[0, :, 0].tolist() == [0, 1, 2] and mask_NT.all()
    for _ in range(2):
        player.step(zeros_N, likeliest)  # the third step ends both episodes, the fourth is cut in the second game
    tokens_NTK, mask_NT = player.recent(3)
    assert tokens_NTK[0, :, 0].tolist() == [2, 3, 4]
    assert mask_NT.tolist() == [[False, True, True], [False, False, True]]
    assert player.recent(1)[0].tolist() == [[[4] * 4]] * 2


def test_actions_are_told_in_the_games_numbers() -> None:
    games = Counting()
    EmulatorPlayer(games, lambda frames: frames.flatten(1).long(), lambda own: own + 10).step(
        torch.tensor([1, 2]), likeliest
    )
    assert games.played.tolist() == [11, 12]


def test_another_number_of_rows_is_refused() -> None:
    player = EmulatorPlayer(Counting(), lambda frames: frames.flatten(1).long())
    with pytest.raises(ValueError, match="3 rows cannot be played in 2 games: give one to each"):
        player.reset(torch.zeros(3, 4, dtype=torch.long))
