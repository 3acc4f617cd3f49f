"""Episodes as other programs recorded them, read as trajectories: their actions, frame skips and screens become ours.

A `Recording` is one reader's view of a data set. `RecordedEpisodes` makes a `TrajectoryReader` of it, by pieces:
- What is 160 pixels wide is the emulator's own screen, grey or RGB. It becomes frames by the code that plays here
  (`environment.merged`): the maximum of a step's last two screens, grey, 84x84. Whoever recorded each screen
  (frame skip 1) must have held an action over the 4 frames of a step; another sequence is refused, as no step of ours
  plays it. With frame skip 4 the last screen alone is there, and the facts say so.
- Other frames are taken as they are. They must be of frame skip 4: of resized ones no maximum can be made.
- Rewards are clipped to their sign; `raw_returns` are the sums before that.
- The last observation, after which nobody acts, is dropped. An episode that no game over ends was truncated.
Letters: T observations with an action, S agent steps, H and W pixels.
"""

from dataclasses import dataclass
from math import prod
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from pipelines.environments.actions import own_actions
from pipelines.environments.atari.games import ACTIONS, GREY_APART, PROTOCOLS, minimal_actions
from pipelines.episodes.trajectories import FlatEpisodes, frame_shape_of, require_sound
from pipelines.errors import WorldlineError

LONGEST = 1 << 20  # observations of an episode; 108,000 emulator frames are half an hour
MOST_EPISODES = 1 << 20
LARGEST_FRAME = 1 << 20  # bytes
SCREEN_WIDTH, SCREEN_LINES = 160, 192  # every screen of the emulator is so wide and has at least so many lines
PIECE = 32  # agent steps that are made into frames at a time: 13 MB of RGB screens
RULES = PROTOCOLS["sticky"]


@dataclass(frozen=True)
class Small:
    """The small arrays of one episode, each (T,), as they were recorded."""

    actions: NDArray[Any]
    rewards: NDArray[Any]
    terminals: NDArray[Any]
    truncations: NDArray[Any]


class Recording(Protocol):
    """One data set of one game."""

    where: str  # how messages name it
    game: str
    action_names: tuple[str, ...]  # of its action numbers
    frame_skip: int  # emulator frames from one observation to the next
    shape: tuple[int, ...]  # of an observation
    lengths: list[int]  # T of each episode
    facts: dict[str, Any]  # what the manifest is to say of it

    def small(self, episode: int) -> Small:
        """The episode's small arrays."""

    def observations(self, episode: int, start: int, stop: int) -> NDArray[np.uint8]:
        """(stop-start, *shape): these observations; fast where they are asked for in their order."""

    def close(self) -> None:
        """Let go of files; the next read opens them again."""


class RecordedEpisodes(FlatEpisodes):
    """A `TrajectoryReader` of a recording. Raises WorldlineError for what cannot be told as steps of ours."""

    def __init__(self, recording: Recording) -> None:
        self._recording, self.game = recording, recording.game
        self.screens = _are_screens(recording.shape)
        self._held = self._frames_of_a_step()
        self.frame_shape = RULES.frame[:2] if self.screens else frame_shape_of((1, *recording.shape))
        parts = [self._steps(episode) for episode in range(len(recording.lengths))]
        if not parts:
            raise WorldlineError(f"{recording.where} holds no episode: record at least one")
        lengths = [len(part.actions) for part in parts]
        self.episode_starts: NDArray[np.int64] = np.concatenate([[0], np.cumsum(lengths, dtype=np.int64)])
        self.raw_returns = [float(part.rewards.sum()) for part in parts]
        self.actions: NDArray[np.uint8] = np.concatenate([part.actions for part in parts])
        rewards = np.concatenate([part.rewards for part in parts])
        self.rewards: NDArray[np.float32] = np.sign(rewards).astype(np.float32)
        self.terminals: NDArray[np.uint8] = np.concatenate([part.terminals for part in parts])
        self.truncations: NDArray[np.uint8] = np.concatenate([part.truncations for part in parts])
        require_sound(self, recording.where)
        self.facts = recording.facts | {"frame_skip": recording.frame_skip, "frames": self._told()}

    def frames(self, start: int, stop: int) -> NDArray[np.uint8]:
        """(stop-start, H, W) or (stop-start, H, W, 3) uint8: frames start .. stop-1."""
        found = np.empty((max(stop - start, 0), *self.frame_shape), np.uint8)
        at = start
        while at < stop:
            episode = int(np.searchsorted(self.episode_starts, at, side="right")) - 1
            low, high = self.episode_starts[episode : episode + 2].tolist()
            until = min(stop, high, at + PIECE)
            found[at - start : until - start] = self._frames(episode, at - low, until - low)
            at = until
        return found

    def close(self) -> None:
        """Let go of files; the next read opens them again."""
        self._recording.close()

    def _frames(self, episode: int, start: int, stop: int) -> NDArray[np.uint8]:
        if not self.screens:
            return self._recording.observations(episode, start, stop)
        from pipelines.environments.atari.environment import grey, merged  # loads an emulator

        held = self._held
        first = max(start * held - 1, 0) if held > 1 else start
        screens = self._recording.observations(episode, first, (stop - 1) * held + 1)
        last = np.arange(start, stop) * held - first  # of each step before: what is seen now
        pairs = [[row - 1, row] if held > 1 and row > 0 else [row] for row in last.tolist()]
        needed = sorted({row for pair in pairs for row in pair})
        greys = grey(screens[needed]) if screens.ndim == 4 else screens[needed]
        shown = dict(zip(needed, greys, strict=True))
        return np.stack([merged([shown[row] for row in pair], RULES) for pair in pairs])

    def _frames_of_a_step(self) -> int:
        """Observations of an agent step: 4 of frame skip 1, 1 of frame skip 4."""
        recording = self._recording
        skips = (1, RULES.frame_skip) if self.screens else (RULES.frame_skip,)
        if recording.frame_skip not in skips:
            what = "the emulator's screens" if self.screens else f"frames of {recording.shape}"
            raise self._refusal(
                f"has {what} at frame skip {recording.frame_skip}, readable are {' and '.join(map(str, skips))}: "
                f"record with frame skip {RULES.frame_skip}, or each screen of 160 pixels"
            )
        if self.screens and len(recording.shape) == 3 and recording.game in GREY_APART:
            raise self._refusal(f"has RGB screens, which do not tell {recording.game}'s greys apart: record it in grey")
        return RULES.frame_skip // recording.frame_skip if self.screens else 1

    def _steps(self, episode: int) -> Small:
        """The episode's small arrays in agent steps, each (S,): own actions, rewards before they are clipped, ends."""
        recorded, where = self._recording.small(episode), f"episode {episode}"
        rewards = np.asarray(recorded.rewards, np.float64)
        ends = np.stack([recorded.terminals, recorded.truncations]) != 0
        if ends[:, :-1].any():
            inside = int(np.flatnonzero(ends[:, :-1].any(0))[0])
            raise self._refusal(f"has {where} go on after its end at step {inside}: split it there")
        if not np.isfinite(rewards).all():
            raise self._refusal(f"has a reward in {where} that is no finite number: record it again")
        firsts = np.arange(0, len(rewards), self._held)
        other = np.flatnonzero(np.repeat(recorded.actions[firsts], self._held)[: len(rewards)] != recorded.actions)
        if len(other):
            at = int(other[0]) // self._held * self._held
            seen = ", ".join(str(action) for action in recorded.actions[at : at + self._held].tolist())
            raise self._refusal(
                f"has actions {seen} in frames {at} to {at + self._held - 1} of {where}, a step of {self._held} frames "
                f"has one: hold every action for {self._held} frames, or record with frame skip {self._held}"
            )
        terminals, truncations = (np.zeros(len(firsts), np.uint8) for _ in range(2))
        terminals[-1], truncations[-1] = ends[0, -1], not ends[0, -1]
        return Small(
            self._own(recorded.actions[firsts], where), np.add.reduceat(rewards, firsts), terminals, truncations
        )

    def _own(self, actions: NDArray[Any], where: str) -> NDArray[np.uint8]:
        """Numbers of the recording's action set as the game's own."""
        names, own = self._recording.action_names, own_actions(self.game)
        if strange := actions[(actions < 0) | (actions >= len(names))].tolist():
            raise self._refusal(f"has action {strange[0]} in {where}, of {len(names)} numbered from 0: name its set")
        table = np.array([own.index(name) if name in own else 255 for name in names], np.uint8)
        found = table[actions.astype(np.int64)]
        if strange := actions[found == 255].tolist():
            raise self._refusal(
                f"has {names[strange[0]]} in {where}, which is none of {self.game}'s own actions ({', '.join(own)}): "
                "record with full_action_space=False"
            )
        return found

    def _told(self) -> str:
        if not self.screens:
            return "as recorded"
        seen = "the last screen of a step alone" if self._held == 1 else "the maximum of a step's last two screens"
        return f"{seen}, grey, resized to {RULES.frame_size}x{RULES.frame_size}"

    def _refusal(self, what: str) -> WorldlineError:
        return WorldlineError(f"{self._recording.where} {what}")


def action_set(where: str, game: str, count: int, full: bool | None = None) -> tuple[str, ...]:
    """Names of `count` action numbers: the game's own, or all 18 of Atari. `full` is which of them was stated.

    Raises WorldlineError where that is neither.
    """
    own = tuple(ACTIONS[number] for number in minimal_actions(game))
    known = {len(own): own, len(ACTIONS): ACTIONS}
    if count not in known or (full is not None and known[count] != (ACTIONS if full else own)):
        stated = "" if full is None else f" with full_action_space={full}"
        raise WorldlineError(
            f"{where} has {count} actions{stated}, {game} has {len(own)} of its own and Atari {len(ACTIONS)}: "
            "record with one of these sets"
        )
    return known[count]


def require_shape(where: str, shape: tuple[int, ...], dtype: Any) -> tuple[int, ...]:
    """Shape of an observation, (H, W) or (H, W, 3), without a last axis of 1. Raises WorldlineError for any other."""
    plain = shape[:-1] if len(shape) == 3 and shape[-1] == 1 else shape
    grey_or_rgb = len(plain) == 2 or (len(plain) == 3 and plain[2] == 3)
    if dtype != np.uint8 or not grey_or_rgb or 0 in plain or prod(plain) > LARGEST_FRAME:
        raise WorldlineError(
            f"{where} has observations of {shape} {dtype}, they must be (H, W) or (H, W, 3) uint8 of at most "
            f"{LARGEST_FRAME:,} bytes: record single frames, not stacked or scaled"
        )
    return plain


def _are_screens(shape: tuple[int, ...]) -> bool:
    return shape[1] == SCREEN_WIDTH and shape[0] >= SCREEN_LINES
