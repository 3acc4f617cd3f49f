"""Rollouts: every environment's first episode counts, whole, whatever its length; then with the real emulator."""

from collections.abc import Sequence

import numpy as np
import pytest
from numpy.typing import NDArray

from pipelines.atari import rollout
from pipelines.atari.actions import legal_mask
from pipelines.atari.environment import Step
from pipelines.atari.protocols import Protocol, protocol
from pipelines.atari.rollout import Episode, play

RULES = Protocol("test", sticky=0.0, max_frames=400)


class Scripted:
    """Environment n ends every `lengths[n]` steps and pays n + 1 a step, -5 on the last; frames show the step."""

    def __init__(self, lengths: Sequence[int], truncated: Sequence[int] = ()) -> None:
        self.lengths, self.cut = np.array(lengths), np.isin(np.arange(len(lengths)), truncated)
        self.seeds = tuple(100 + row for row in range(len(lengths)))
        self.at = np.zeros(len(lengths), int)
        self.actions: list[list[int]] = []

    def reset(self) -> NDArray[np.uint8]:
        return self._frames()

    def step(self, actions: NDArray[np.integer]) -> Step:
        self.actions.append(actions.tolist())
        self.at += 1
        ended = self.at == self.lengths
        rewards = np.where(ended, -5.0, np.arange(len(self.at)) + 1.0).astype(np.float32)
        self.at[ended] = 0
        return Step(self._frames(), rewards, ended & ~self.cut, ended & self.cut)

    def _frames(self) -> NDArray[np.uint8]:
        return np.repeat(self.at, 84 * 84).reshape(-1, 84, 84).astype(np.uint8)


def run(monkeypatch: pytest.MonkeyPatch, games: Scripted, **options: int) -> tuple[rollout.Rollout, list[list[int]]]:
    resets: list[list[int]] = []
    monkeypatch.setattr(rollout, "make_vector", lambda *_: games)

    def act(frames: NDArray[np.uint8]) -> NDArray[np.integer]:
        return frames[:, 0, 0].astype(np.int64) % 18

    found = play("Pong", act, resets.append, RULES, episodes=len(games.lengths), seed=0, **options)
    return found, resets


def test_short_and_long_episodes_count_once_each(monkeypatch: pytest.MonkeyPatch) -> None:
    found, resets = run(monkeypatch, games := Scripted([2, 5, 3], truncated=[2]))
    assert found.episodes == (
        Episode(0, 100, 1 - 5, 1 - 1, 2, "terminated"),
        Episode(1, 101, 4 * 2 - 5, 4 - 1, 5, "terminated"),
        Episode(2, 102, 2 * 3 - 5, 2 - 1, 3, "truncated"),
    )
    assert len(games.actions) == 5  # nobody plays on after the longest
    assert resets == [[], [0], [2], [0]]  # a policy hears of every new episode, but for the last step
    assert found.frames.shape == (0, 84, 84)


def test_a_limit_cuts_what_has_not_ended(monkeypatch: pytest.MonkeyPatch) -> None:
    found, _ = run(monkeypatch, Scripted([2, 9]), max_steps=4)
    assert [(episode.length, episode.ended) for episode in found.episodes] == [(2, "terminated"), (4, "limit")]
    assert found.episodes[1].score == 8


def test_an_episode_that_ends_on_the_limit_has_ended(monkeypatch: pytest.MonkeyPatch) -> None:
    found, _ = run(monkeypatch, Scripted([4]), max_steps=4)
    assert found.episodes[0].ended == "terminated"


def test_the_film_shows_the_first_episode_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    found, _ = run(monkeypatch, Scripted([3, 9]), film=100)
    assert found.frames[:, 0, 0].tolist() == [0, 1, 2]
    found, _ = run(monkeypatch, Scripted([3, 9]), film=2)
    assert found.frames[:, 0, 0].tolist() == [0, 1]


def test_an_emulator_that_never_ends_is_cut_by_the_protocol(monkeypatch: pytest.MonkeyPatch) -> None:
    found, _ = run(monkeypatch, Scripted([10**6]))
    assert (found.episodes[0].length, found.episodes[0].ended) == (RULES.max_steps + 1, "limit")


def _random_play(seed: int, **options: int) -> rollout.Rollout:
    draw, legal = np.random.default_rng(seed), np.flatnonzero(legal_mask("Breakout"))
    return play(
        "Breakout", lambda frames: draw.choice(legal, len(frames)), lambda rows: None, protocol("sticky"),
        episodes=2, seed=seed, **options,
    )  # fmt: skip


def test_the_emulator_repeats_itself_with_its_seed() -> None:
    one, again, other = _random_play(3, film=4), _random_play(3, film=4), _random_play(4)
    assert one.episodes == again.episodes
    assert np.array_equal(one.frames, again.frames)
    assert one.episodes != other.episodes
    assert {episode.ended for episode in one.episodes} == {"terminated"}
    assert all(episode.score >= 0 and episode.length > 50 for episode in one.episodes)
    assert len({episode.seed for episode in one.episodes}) == 2
