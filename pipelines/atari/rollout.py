"""Play given episodes to their end with any player, several at once; none waits for another.

Taking the first n episodes that end would prefer short ones; here the episodes are named beforehand, each with the
emulator's seed, and all of them count. An environment whose episode has ended takes the next one that waits; when none
does, it drops out of what the player is asked for. So how many play at once changes the time, not the episodes.
Cost: the emulator's 1,000 to 1,900 agent steps a second and core, plus the player. Letters: N rows that are playing.
"""

import time
from collections import deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import nullcontext
from dataclasses import dataclass, field
from typing import Protocol as Interface

import numpy as np
from numpy.typing import NDArray

from pipelines.atari.actions import legal_mask
from pipelines.atari.environment import VectorGame
from pipelines.atari.protocols import Protocol
from pipelines.atari.roms import Rom, playable
from pipelines.errors import WorldlineError
from pipelines.progress import track


class Player(Interface):
    """Chooses actions for the environments that are playing."""

    def begin(self, row: int, seed: int) -> None:
        """begin(row, seed): that environment begins a new episode, whose emulator has that seed."""
        ...

    def act(self, frames: NDArray[np.uint8], rows: Sequence[int]) -> NDArray[np.integer]:
        """act(frames (N, 84, 84) uint8, rows) -> actions (N,) in the 18-action set, for those environments."""
        ...


@dataclass(frozen=True)
class Episode:
    """How one episode went. `seed` is the emulator's own; `ended` is terminated, truncated (protocol) or limit."""

    episode: int
    seed: int
    score: float  # sum of raw rewards: the return
    clipped_score: float  # sum of the rewards' signs
    length: int  # agent steps
    ended: str
    actions: bytes = field(default=b"", repr=False)  # one a step, in the 18-action set


@dataclass
class _Run:
    """An episode that is being played."""

    number: int
    seed: int
    score: float = 0.0
    clipped: float = 0.0
    actions: bytearray = field(default_factory=bytearray)

    def done(self, ended: str) -> Episode:
        return Episode(self.number, self.seed, self.score, self.clipped, len(self.actions), ended, bytes(self.actions))


def play(
    game: str,
    player: Player,
    protocol: Protocol,
    seeds: Mapping[int, int],
    finished: Callable[[Episode], None],
    *,
    envs: int = 0,
    max_steps: int = 0,
    rom: Rom | None = None,
    title: str = "",
) -> None:
    """Play the episodes `seeds` (number -> emulator's seed) and hand each to `finished` as soon as it has ended.

    At most `envs` play at once (0: all); `max_steps` cuts them (0: the protocol's limit).
    """
    waiting = deque(seeds.items())
    runs: dict[int, _Run] = {}
    for row in range(min(envs or len(seeds), len(seeds))):
        runs[row] = _Run(*waiting.popleft())
        player.begin(row, runs[row].seed)
    limit = max_steps or protocol.max_steps + 1
    idle = int(np.flatnonzero(legal_mask(game))[0])
    played, started = 0, time.monotonic()
    with (
        playable(rom) if rom else nullcontext() as path,
        track(title or f"Play {game}", total=len(seeds), unit="episodes") as advance,
    ):
        games = VectorGame(game, [run.seed for run in runs.values()], protocol, rom=path)
        frames = games.reset()
        actions = np.full(len(runs), idle, np.int64)
        while runs:
            rows = sorted(runs)
            actions[:] = idle
            actions[rows] = player.act(frames[rows], rows)
            step = games.step(actions)
            frames, played = step.frames, played + len(rows)
            for row in rows:
                run = runs[row]
                run.score += float(step.rewards[row])
                run.clipped += float(np.sign(step.rewards[row]))
                run.actions.append(actions[row])
                if not (step.ended[row] or len(run.actions) == limit):
                    continue
                how = "terminated" if step.terminated[row] else "truncated" if step.truncated[row] else "limit"
                finished(run.done(how))
                advance(1)
                del runs[row]
                if waiting:
                    runs[row] = _Run(*waiting.popleft())
                    player.begin(row, runs[row].seed)
                    frames = games.restart([row], [runs[row].seed])
            rate = played / max(time.monotonic() - started, 1e-6)
            advance(0, note=f"{played:,} steps, {rate:,.0f}/s")


def replay(game: str, episode: Episode, protocol: Protocol, rom: Rom | None = None) -> Iterator[NDArray[np.uint8]]:
    """The frames (84, 84) that were seen at each of its actions, by playing them again from its seed.

    Raises WorldlineError at the end where the emulator did not give the same return again.
    """
    with playable(rom) if rom else nullcontext() as path:
        games = VectorGame(game, [episode.seed], protocol, threads=1, rom=path)
        frames, score = games.reset(), 0.0
        for action in episode.actions:
            yield frames[0]
            step = games.step(np.array([action]))
            frames, score = step.frames, score + float(step.rewards[0])
    if score != episode.score:
        raise WorldlineError(
            f"Episode {episode.episode} of {game} gives {score} when played again, not {episode.score}: the emulator "
            "is not the one it was played in; install that ale-py, or evaluate again"
        )
