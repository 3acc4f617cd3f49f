"""Episodes that were played already, a step at a time: recorded, evaluated and imagined ones, one kind a class.

Recorded ones hold what was seen. Evaluated ones hold seeds and actions alone: they are played again, as far as they are
asked for. Imagined ones are earlier recordings of dreams.
Letters: N steps of an episode, H, W pixels.
"""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import pairwise
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from pipelines.environments.actions import stored_action, stored_actions
from pipelines.environments.registry import Environment, Rules, make
from pipelines.environments.rollout import Episode
from pipelines.episodes.trajectories import TrajectoryReader
from pipelines.errors import BAD_NPZ, UsageError, WorldlineError, may_pass, not_now

IMAGINED = "imagined"  # the set of recorded dreams
DREAMT = "pictures_dream"


@dataclass(frozen=True)
class Piece:
    """Some steps of an episode: what was seen, what was done then, and what it brought."""

    frames: NDArray[np.uint8]  # (N, H, W) or (N, H, W, 3)
    actions: NDArray[Any]  # (N,) int64, the game's own numbers; or (N, A) float32 of an action that is numbers
    rewards: NDArray[np.float32]  # (N,)


class EpisodeSet(Protocol):
    """Episodes of one kind."""

    @property
    def lengths(self) -> tuple[int, ...]:
        """Steps of each."""

    def read(self, episode: int, first: int, stop: int) -> Piece:
        """The steps first .. stop-1 of an episode, all of which must be there."""

    def earned(self, episode: int, stop: int) -> float:
        """The sum of the rewards of its first `stop` steps; no frame is read for it."""

    def close(self) -> None:
        """Let go of files and emulators."""


def require_step(what: str, episodes: EpisodeSet, episode: int, step: int) -> None:
    """Raises UsageError for an episode or a step that there is not."""
    lengths = episodes.lengths
    if not 0 <= episode < len(lengths):
        there = f"give 0 to {len(lengths) - 1}" if lengths else "there is none"
        raise UsageError(f"Episode {episode} is none of the {len(lengths)} {what} ones: {there}")
    if not 0 <= step < lengths[episode]:
        raise UsageError(
            f"Step {step} is none of the {lengths[episode]} of {what} episode {episode}: give 0 to "
            f"{lengths[episode] - 1}"
        )


class RecordedEpisodes:
    """Those of trajectories."""

    def __init__(self, reader: TrajectoryReader) -> None:
        self._reader = reader

    @cached_property
    def lengths(self) -> tuple[int, ...]:
        """See `EpisodeSet`."""
        return tuple(np.diff(self._reader.episode_starts).tolist())

    def read(self, episode: int, first: int, stop: int) -> Piece:
        """See `EpisodeSet`."""
        at, reader = int(self._reader.episode_starts[episode]), self._reader
        here = slice(at + first, at + stop)
        frames = reader.frames(here.start, here.stop)
        return Piece(frames, _plain(reader.actions[here]), reader.rewards[here])

    def earned(self, episode: int, stop: int) -> float:
        """See `EpisodeSet`."""
        at = int(self._reader.episode_starts[episode])
        return float(self._reader.rewards[at : at + stop].sum())

    def close(self) -> None:
        """See `EpisodeSet`."""
        self._reader.close()


class EvaluatedEpisodes:
    """Those of an evaluation, by their seeds and actions, as `stored_action` holds them in bytes, under its rules."""

    def __init__(self, game: str, rules: Rules, options: Mapping[str, Any], episodes: Sequence[Episode]) -> None:
        self._game, self._rules, self._options, self._episodes = game, rules, options, tuple(episodes)
        self._played = -1  # the episode that `_games` plays
        self._games: Environment | None = None
        self._frames: list[NDArray[np.uint8]] = []
        self._rewards: list[float] = []

    @classmethod
    def of(cls, game: str, rules: Rules, options: Mapping[str, Any], lines: Path, actions: Path) -> "EvaluatedEpisodes":
        """Those of the files `episodes.jsonl` and `actions.npz` of scores, but not those of random play.

        Raises WorldlineError for damaged ones.
        """
        found = []
        try:
            with np.load(actions, allow_pickle=False) as taken:
                for line in map(json.loads, lines.read_text().splitlines()):
                    name = f"{line['planner']}-{line['episode']}"
                    if line["planner"] != "random" and name in taken:
                        numbers = (line["return"], line["clipped_return"], line["length"])
                        played = taken[name].astype(stored_action(game).base).tobytes()
                        found.append(Episode(line["episode"], line["seed"], *numbers, line["ended"], played))
        except (*BAD_NPZ, OSError, KeyError) as error:
            if may_pass(error):
                raise not_now(actions, error) from error
            raise WorldlineError(f"{lines.parent} holds damaged episodes ({error}): evaluate again") from error
        return cls(game, rules, options, found)

    @property
    def lengths(self) -> tuple[int, ...]:
        """See `EpisodeSet`."""
        return tuple(len(self._actions(number)) for number in range(len(self._episodes)))

    def read(self, episode: int, first: int, stop: int) -> Piece:
        """See `EpisodeSet`. What was not played yet is played."""
        actions = self._play(episode, stop)[first:stop]
        return Piece(
            np.stack(self._frames[first:stop]),
            _plain(stored_actions(self._game, actions)),
            np.array(self._rewards[first:stop], np.float32),
        )

    def earned(self, episode: int, stop: int) -> float:
        """See `EpisodeSet`. What was not played yet is played."""
        self._play(episode, stop)
        return float(np.array(self._rewards[:stop], np.float32).sum())

    def _play(self, episode: int, stop: int) -> NDArray[Any]:
        """Play an episode on, up to that step; its actions."""
        if episode != self._played:
            self.close()
            self._games, self._played = self._begun(episode), episode
            self._frames, self._rewards = [self._games.reset()[0]], []
        assert self._games is not None
        actions = self._actions(episode)
        while len(self._rewards) < stop:
            step = self._games.step(actions[len(self._rewards)][None])
            self._frames.append(step.frames[0])
            self._rewards.append(float(step.rewards[0]))
        return actions

    def emulator(self, episode: int, step: int) -> Environment:
        """The game itself at this step of an episode, for who goes on from there, and closes it."""
        games = self._begun(episode)
        games.reset()
        for action in self._actions(episode)[:step]:
            games.step(action[None])
        return games

    def close(self) -> None:
        """See `EpisodeSet`."""
        if self._games is not None:
            self._games.close()
        self._played, self._games = -1, None

    def _begun(self, episode: int) -> Environment:
        return make(self._game, [self._episodes[episode].seed], self._rules, 1, **self._options)

    def _actions(self, episode: int) -> NDArray[Any]:
        kind = stored_action(self._game)
        return np.frombuffer(self._episodes[episode].actions, kind.base).reshape(-1, *kind.shape)


class ImaginedEpisodes:
    """Those of recordings of dreams: `files` are their `recording.npz`. Pictures of one file are in memory at a time.

    Raises WorldlineError for a damaged file.
    """

    def __init__(self, files: Sequence[Path]) -> None:
        self._places = [(file, first, stop) for file in files for first, stop in pairwise(_starts(file))]
        self._places = [(file, first, stop) for file, first, stop in self._places if stop - first > 1]
        self._open: tuple[Path, NDArray[np.uint8]] | None = None

    @property
    def lengths(self) -> tuple[int, ...]:
        """See `EpisodeSet`."""
        return tuple(stop - first - 1 for _, first, stop in self._places)

    def read(self, episode: int, first: int, stop: int) -> Piece:
        """See `EpisodeSet`. What an action led to stands behind it in a recording."""
        file, begins, _ = self._places[episode]
        if self._open is None or self._open[0] != file:
            self._open = file, _arrays(file, DREAMT)[0]
        actions, rewards = _arrays(file, "actions", "rewards")
        seen, done = slice(begins + first, begins + stop), slice(begins + first + 1, begins + stop + 1)
        return Piece(self._open[1][seen], _plain(actions[done]), rewards[done])

    def earned(self, episode: int, stop: int) -> float:
        """See `EpisodeSet`."""
        file, begins, _ = self._places[episode]
        (rewards,) = _arrays(file, "rewards")
        return float(rewards[begins + 1 : begins + stop + 1].sum())

    def close(self) -> None:
        """See `EpisodeSet`."""
        self._open = None


def _plain(actions: NDArray[Any]) -> NDArray[Any]:
    """Actions as `Piece` holds them."""
    return actions.astype(np.int64 if actions.ndim == 1 else np.float32)


def _starts(file: Path) -> list[int]:
    """Where the dreams of a recording begin, which may be in the middle of one; its length at the end."""
    (actions,) = _arrays(file, "actions")
    begins = actions < 0 if actions.ndim == 1 else np.isnan(actions).any(axis=1)
    return sorted({0, *np.flatnonzero(begins).tolist(), len(actions)})


def _arrays(file: Path, *names: str) -> list[NDArray[Any]]:
    try:
        with np.load(file, allow_pickle=False) as data:
            return [data[name] for name in names]
    except (*BAD_NPZ, OSError, KeyError) as error:
        if may_pass(error):
            raise not_now(file, error) from error
        raise WorldlineError(f"{file} is no readable recording ({error}): record it again") from error
