"""RL Unplugged's episodes: read from a shard, checked against themselves, and aligned into transitions.

Shape letters: T rows of an episode, N transitions. Row t holds a frame, the action that was taken there, rewards and a
discount. The last row of an episode that ended truly (discount 0) holds the terminal frame and no action.

Whether the reward of an action stands in its own row, or in the next one where the action led to, is not documented.
`RewardEvidence` decides it from the episodes: a reward in a terminal row can only have come from the row before, and
one in a first row only from that row itself. What the two would contradict, or neither shows, it says.
Source: tensorflow/datasets, rl_unplugged (Apache-2.0).
"""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from pipelines.environments.atari.games import minimal_actions
from pipelines.errors import WorldlineError
from pipelines.sources.rlu.png import LARGEST
from pipelines.sources.rlu.tfrecord import REPAIR, Kind, Source, iter_records, parse_example
from pipelines.sources.source import TIME_LIMIT

MOST_ROWS = TIME_LIMIT + 1  # with a terminal frame

LARGEST_RECORD = 64 << 20  # bytes; the longest episode with frames of 2.4 KB, which mostly have 1

NUMBERS: dict[str, Kind] = {
    "checkpoint_idx": "integers",
    "episode_idx": "integers",
    "episode_return": "floats",
    "clipped_episode_return": "floats",
}

ROWS: dict[str, Kind] = {
    "observations": "bytes",
    "actions": "integers",
    "unclipped_rewards": "floats",
    "clipped_rewards": "floats",
    "discounts": "floats",
}


@dataclass(frozen=True)
class Episode:
    """One episode as the file has it. Rewards are raw; `clipped_T` holds their clips to [-1, 1]. pngs: T frames."""

    checkpoint: int
    episode: int
    episode_return: float
    clipped_episode_return: float
    actions_T: NDArray[np.uint8]
    rewards_T: NDArray[np.float32]
    clipped_T: NDArray[np.float32]
    discounts_T: NDArray[np.float32]
    pngs: list[memoryview]

    def __len__(self) -> int:
        return len(self.actions_T)

    @property
    def terminated(self) -> bool:
        """Whether it ended truly; else the time limit or the end of its checkpoint cut it."""
        return bool(self.discounts_T[-1] == 0)


@dataclass(frozen=True)
class Transitions:
    """The N transitions of an episode: frames (PNG), actions, raw and clipped rewards of the actions in these frames.

    terminated: it ended truly behind the last one. truncated: the time limit ended it. Neither: it is incomplete.
    """

    pngs: list[memoryview]
    actions_N: NDArray[np.uint8]
    rewards_N: NDArray[np.float32]
    clipped_N: NDArray[np.float32]
    terminated: bool
    truncated: bool

    def __len__(self) -> int:
        return len(self.actions_N)


@dataclass(frozen=True)
class RewardEvidence:
    """How many episodes show in which row a reward stands. Evidence of several files is added with `+`."""

    ended: int = 0  # episodes that ended truly
    in_last: int = 0  # of these, such with a reward in the terminal row, where no action was taken
    in_last_but_one: int = 0  # of these, such with a reward in the row before
    in_first: int = 0  # episodes, of all, with a reward in the first row, to which no action led

    @classmethod
    def of(cls, episode: Episode) -> "RewardEvidence":
        """What one episode shows."""
        rewarded, ended = episode.rewards_T != 0, episode.terminated
        return cls(
            ended=int(ended),
            in_last=int(ended and rewarded[-1]),
            in_last_but_one=int(ended and rewarded[-2]),
            in_first=int(rewarded[0]),
        )

    def __add__(self, other: "RewardEvidence") -> "RewardEvidence":
        return RewardEvidence(
            self.ended + other.ended,
            self.in_last + other.in_last,
            self.in_last_but_one + other.in_last_but_one,
            self.in_first + other.in_first,
        )

    @property
    def shifted(self) -> bool:
        """Whether a reward stands one row behind its action. Where nothing shows it, it does not."""
        return self.in_last > self.in_first

    @property
    def contradicted(self) -> bool:
        """Whether some episodes show the one and some the other."""
        return self.in_last > 0 and self.in_first > 0

    @property
    def shown(self) -> bool:
        """Whether any episode shows it."""
        return self.in_last + self.in_last_but_one + self.in_first > 0

    @property
    def detail(self) -> str:
        """One line with the counts."""
        where = "one row behind its action" if self.shifted else "in the row of its action"
        doubt = ", as more of the episodes show, not all" if self.contradicted else ""
        doubt = doubt if self.shown else " as far as anything shows, which nothing does"
        return (
            f"a reward stands {where}{doubt}: of {self.ended:,} true ends {self.in_last:,} have one in the terminal "
            f"row, {self.in_last_but_one:,} in the row before; {self.in_first:,} episodes have one in their first row"
        )


def iter_episodes(stream: Source, game: str, name: str = "The file") -> Iterator[Episode]:
    """The episodes of an inflated shard, in order; `name` is what errors call it.

    Raises WorldlineError for a damaged record and for an episode that contradicts itself.
    """
    for number, payload in enumerate(iter_records(stream, LARGEST_RECORD, name)):
        episode = parse_episode(payload, game, f"{name}: record {number}")
        del payload  # before the next one is read
        yield episode
        del episode


def parse_episode(payload: bytes, game: str, name: str = "The record") -> Episode:
    """The episode of an `Example`. Raises WorldlineError for one that is none, is too long, or contradicts itself."""
    found = parse_example(payload, NUMBERS | ROWS, MOST_ROWS, name)
    lengths = {field: len(found[field]) for field in ROWS}
    if len(set(lengths.values())) > 1:
        text = ", ".join(f"{count:,} {field}" for field, count in lengths.items())
        raise WorldlineError(f"{name} has {text}: each row of an episode has one of each; {REPAIR}")
    for field in NUMBERS:
        if len(found[field]) != 1:
            raise WorldlineError(f"{name} has {len(found[field]):,} values in its field '{field}', not one: {REPAIR}")
    checkpoint, number, total, clipped_total = (found[field][0] for field in NUMBERS)
    _, actions, rewards, clipped, discounts = (found[field] for field in ROWS)
    episode = Episode(
        int(checkpoint),
        int(number),
        float(total),
        float(clipped_total),
        actions.astype(np.uint8),
        rewards,
        clipped,
        discounts,
        found["observations"],
    )
    if fault := _fault(episode, actions, game):
        raise WorldlineError(f"{name} (checkpoint {checkpoint}, episode {number}) {fault}: {REPAIR}")
    return episode


def align(episode: Episode, shifted: bool) -> Transitions:
    """The transitions of an episode; `shifted` is what `RewardEvidence` says of all episodes of its game.

    Where the rewards are shifted, the last row's action has none: then a cut episode loses it.
    """
    count = len(episode) - (episode.terminated or shifted)
    rewarded = slice(1, count + 1) if shifted else slice(count)
    return Transitions(
        episode.pngs[:count],
        episode.actions_T[:count],
        episode.rewards_T[rewarded],
        episode.clipped_T[rewarded],
        terminated=episode.terminated,
        truncated=not episode.terminated and len(episode) >= TIME_LIMIT,
    )


def _fault(episode: Episode, actions_T: NDArray[np.int64], game: str) -> str:
    """What an episode contradicts, empty where nothing."""
    size, discounts = len(minimal_actions(game)), episode.discounts_T
    if len(episode) < 2:
        return f"has {len(episode)} rows: it needs two for a transition"
    if len(episode) == MOST_ROWS and not episode.terminated:
        return f"has {len(episode):,} rows and no end: an episode is cut at {TIME_LIMIT:,}"
    if episode.checkpoint < 0 or episode.episode < 0:
        return "counts from below 0"
    for field, values in (("unclipped_rewards", episode.rewards_T), ("clipped_rewards", episode.clipped_T)):
        if not np.isfinite(values).all():
            return f"has {field} that are no finite numbers"
    if not ((discounts >= 0) & (discounts <= 1)).all():
        return "has discounts outside 0 to 1"
    if not discounts[:-1].all():
        return (
            f"has discount 0 in row {int(np.argmin(discounts != 0)):,} of {len(episode):,}: only its last may have it"
        )
    if not ((actions_T >= 0) & (actions_T < size)).all():
        worst = int(actions_T[(actions_T < 0) | (actions_T >= size)][0])
        return f"has action {worst}: {game} has 0 to {size - 1}"
    if (wrong := np.flatnonzero(episode.clipped_T != np.clip(episode.rewards_T, -1, 1))).size:
        row = int(wrong[0])
        return f"has clipped reward {episode.clipped_T[row]:g} for {episode.rewards_T[row]:g} in row {row:,}"
    for field, stated, rewards in (
        ("episode_return", episode.episode_return, episode.rewards_T),
        ("clipped_episode_return", episode.clipped_episode_return, episode.clipped_T),
    ):
        total, size_of_all = rewards.sum(dtype=np.float64), np.abs(rewards).sum(dtype=np.float64)
        if not abs(stated - total) <= 1e-6 * size_of_all:  # float32 may have added them up
            return f"states {field} {stated:g}, its rewards add up to {total:g}"
    if (longest := max(map(len, episode.pngs))) > LARGEST:
        return f"has a frame of {longest:,} bytes, its PNG has at most {LARGEST:,}"
    return ""
