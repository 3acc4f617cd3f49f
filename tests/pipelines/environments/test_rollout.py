"""Rollouts: every named episode counts, whole, however many play at once; then with the real emulator."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from pipelines.environments import registry, rollout
from pipelines.environments.actions import legal_mask
from pipelines.environments.atari.games import AtariRules
from pipelines.environments.atari.roms import find, shipped
from pipelines.environments.registry import Step, emulator_seeds, protocol
from pipelines.environments.rollout import Episode, EpisodeBatch, play, play_together, replay
from pipelines.errors import WorldlineError

RULES = AtariRules("test", sticky=0.0, max_frames=400)


class Scripted:
    """An episode of seed s takes s steps (an odd one is truncated), pays s a step and -5 on the last.

    Frames show the seed and the step.
    """

    def __init__(self, seeds: Sequence[int]) -> None:
        self.lengths, self.at = np.array(seeds), np.zeros(len(seeds), int)
        self.actions: list[list[int]] = []
        self.spaces = registry.spaces("Pong", RULES)

    def reset(self) -> NDArray[np.uint8]:
        return self._frames()

    def restart(self, rows: Sequence[int], seeds: Sequence[int]) -> NDArray[np.uint8]:
        self.lengths[list(rows)], self.at[list(rows)] = seeds, 0
        return self._frames()

    def step(self, actions: NDArray[np.integer]) -> Step:
        self.actions.append(actions.tolist())
        self.at += 1
        ended = self.at == self.lengths
        rewards = np.where(ended, -5.0, self.lengths).astype(np.float32)
        self.at[ended] = 0
        odd = self.lengths % 2 == 1
        return Step(self._frames(), rewards, ended & ~odd, ended & odd)

    def close(self) -> None:
        self.closed = True

    def _frames(self) -> NDArray[np.uint8]:
        frames = np.zeros((len(self.at), 84, 84), np.uint8)
        frames[:, 0, 0], frames[:, 0, 1] = self.lengths % 251, self.at % 251
        return frames


class Watcher:
    """Plays the step's number, and sees that every row's frames are those of the episode it began there."""

    def __init__(self) -> None:
        self.seeds: dict[int, int] = {}
        self.at: dict[int, int] = {}
        self.asked: list[list[int]] = []

    def begin(self, row: int, seed: int) -> None:
        self.seeds[row], self.at[row] = seed, 0

    def act(self, frames: NDArray[np.uint8], rows: Sequence[int]) -> NDArray[np.integer]:
        self.asked.append(list(rows))
        assert frames[:, 0, 0].tolist() == [self.seeds[row] % 251 for row in rows]
        assert frames[:, 0, 1].tolist() == [self.at[row] % 251 for row in rows]
        for row in rows:
            self.at[row] += 1
        return np.array([self.at[row] % 18 for row in rows])


def run(seeds: Sequence[int], **options: int) -> tuple[list[Episode], Watcher, Scripted]:
    made: list[Scripted] = []
    found: list[Episode] = []
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(rollout, "make", lambda game, seeds, *_, **__: made.append(Scripted(seeds)) or made[-1])
        player = Watcher()
        play(EpisodeBatch("Pong", RULES, dict(enumerate(seeds)), found.append, **options), player)
    return found, player, made[0]


def test_short_and_long_episodes_count_once_each_and_the_ended_are_asked_no_more() -> None:
    found, player, games = run([2, 6, 3])
    assert found == [
        Episode(0, 2, 2 - 5, 1 - 1, 2, "terminated", bytes([1, 2])),
        Episode(2, 3, 2 * 3 - 5, 2 - 1, 3, "truncated", bytes([1, 2, 3])),
        Episode(1, 6, 5 * 6 - 5, 5 - 1, 6, "terminated", bytes(range(1, 7))),
    ]
    assert player.asked == [[0, 1, 2]] * 2 + [[1, 2]] + [[1]] * 3
    assert games.actions[-1] == [0, 6, 0]  # who has ended idles
    assert games.closed


def test_an_environment_takes_the_next_episode_at_once() -> None:
    found, player, _ = run([2, 6, 3], envs=2)
    assert [episode.episode for episode in found] == [0, 2, 1]
    assert player.asked == [[0, 1]] * 5 + [[1]]


@given(st.lists(st.integers(1, 40), min_size=1, max_size=9, unique=True), st.integers(0, 10), st.integers(0, 30))
def test_how_many_play_at_once_changes_no_episode(seeds: list[int], envs: int, limit: int) -> None:
    together, alone = run(seeds, max_steps=limit)[0], run(seeds, envs=1, max_steps=limit)[0]
    some = run(seeds, envs=envs, max_steps=limit)[0]
    assert [episode.episode for episode in alone] == list(range(len(seeds)))
    for found in (together, some):
        assert sorted(found, key=lambda episode: episode.episode) == alone


def test_a_limit_cuts_what_has_not_ended() -> None:
    found, _, _ = run([2, 9, 5], max_steps=4)
    assert [(episode.length, episode.ended) for episode in found] == [(2, "terminated"), (4, "limit"), (4, "limit")]
    assert found[1].score == 4 * 9


def test_an_episode_that_ends_on_the_limit_has_ended() -> None:
    assert run([4], max_steps=4)[0][0].ended == "terminated"


def test_an_emulator_that_never_ends_is_cut_by_the_protocol() -> None:
    (episode,) = run([10**6])[0]
    assert (episode.length, episode.ended) == (RULES.max_steps + 1, "limit")


@given(st.lists(st.lists(st.integers(1, 30), max_size=5, unique=True), max_size=4), st.integers(0, 3))
def test_games_that_play_together_get_the_episodes_that_each_gets_alone(games: list[list[int]], envs: int) -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(rollout, "make", lambda game, seeds, *_, **__: Scripted(seeds))
        found: list[list[Episode]] = [[] for _ in games]
        player = Watcher()
        tables = [
            EpisodeBatch("Pong", RULES, dict(enumerate(seeds)), episodes.append, envs)
            for seeds, episodes in zip(games, found, strict=True)
        ]
        play_together(tables, player, "all")
    assert found == [run(seeds, envs=envs)[0] if seeds else [] for seeds in games]
    steps = [sum(episode.length for episode in episodes) for episodes in found]
    assert sum(map(len, player.asked)) == sum(steps)
    assert len(player.asked) == max([0, *(len(run(seeds, envs=envs)[1].asked) for seeds in games if seeds)])


class Chance:
    """Random play of Breakout."""

    def __init__(self) -> None:
        self.draws: dict[int, np.random.Generator] = {}
        self.legal = np.flatnonzero(legal_mask("Breakout"))

    def begin(self, row: int, seed: int) -> None:
        self.draws[row] = np.random.default_rng(seed)

    def act(self, frames: NDArray[np.uint8], rows: Sequence[int]) -> NDArray[np.integer]:
        return np.array([self.draws[row].choice(self.legal) for row in rows])


def breakout(rules: str, seed: int, **options: object) -> list[Episode]:
    found: list[Episode] = []
    seeds = dict(enumerate(emulator_seeds(seed, 3)))
    play(EpisodeBatch("Breakout", protocol(rules), seeds, found.append, **options), Chance())  # type: ignore[arg-type]
    return sorted(found, key=lambda episode: episode.episode)


@pytest.mark.parametrize("rules", [pytest.param("machado", marks=pytest.mark.slow), "atari100k"])
def test_the_emulator_repeats_itself_with_its_seed_however_many_play(rules: str) -> None:
    one, two, other = breakout(rules, 3), breakout(rules, 3, envs=2), breakout(rules, 4)
    assert one == two != other
    assert {episode.ended for episode in one} == {"terminated"}
    assert all(episode.score >= 0 and episode.length > 50 for episode in one)
    assert [episode.seed for episode in one] == list(emulator_seeds(3, 3))


def test_an_episode_plays_again_from_its_actions() -> None:
    episode = breakout("machado", 3)[1]
    frames = list(replay("Breakout", episode, protocol("machado")))
    assert len(frames) == episode.length and frames[0].shape == (84, 84)
    assert len({frame.tobytes() for frame in frames}) > episode.length // 2
    other = Episode(1, episode.seed + 1, episode.score + 1, 0, episode.length, "terminated", episode.actions)
    with pytest.raises(WorldlineError, match=r"Episode 1 of Breakout gives .* when played again, not"):
        list(replay("Breakout", other, protocol("machado")))


def test_a_rom_of_ones_own_is_played_whatever_its_file_is_called(tmp_path: Path) -> None:
    (tmp_path / "Brick Kick.a26").write_bytes(shipped("Breakout").path.read_bytes())
    rom = find("Breakout", tmp_path)
    assert rom.origin == "yours"
    assert breakout("jowa", 3, options={"rom": rom}, max_steps=40) == breakout("jowa", 3, max_steps=40)
