"""Play given episodes to their end with any player, several at once and of several games; none waits for another.

Taking the first n episodes that end would prefer short ones; here the episodes are named beforehand, each with the
emulator's seed, and all of them count. An environment whose episode has ended takes the next one that waits; when none
does, it drops out of what the player is asked for. So how many play at once changes the time, not the episodes.
Cost: the emulator's 1,000 to 1,900 agent steps a second and core, plus the player. Letters: N rows that are playing.
"""

import time
from collections import deque
from collections.abc import Callable, Generator, Iterator, Mapping, Sequence
from contextlib import ExitStack, closing, nullcontext
from dataclasses import dataclass, field
from typing import Protocol as Interface

import numpy as np
from numpy.typing import NDArray

from pipelines.environments.atari.environment import VectorGame
from pipelines.environments.atari.games import legal_mask
from pipelines.environments.atari.protocols import Protocol
from pipelines.environments.atari.roms import Rom, playable
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

    def row(self) -> dict[str, float | str]:
        """What is written down of it, by the names that logs and tables use; the actions lie elsewhere."""
        return {
            "episode": self.episode,
            "seed": self.seed,
            "return": self.score,
            "clipped_return": self.clipped_score,
            "length": self.length,
            "ended": self.ended,
        }


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


@dataclass(frozen=True)
class Table:
    """Episodes of one game that are to be played: `seeds` are the emulators', by the episode's number.

    Each is handed to `finished` as soon as it has ended. At most `envs` play at once (0: all); `max_steps` cuts them
    (0: the protocol's limit).
    """

    game: str
    protocol: Protocol
    seeds: Mapping[int, int]
    finished: Callable[[Episode], None]
    envs: int = 0
    max_steps: int = 0
    rom: Rom | None = None

    @property
    def rows(self) -> int:
        """How many environments it keeps."""
        return min(self.envs or len(self.seeds), len(self.seeds))


_Asked = tuple[NDArray[np.uint8], list[int]]  # frames (N, 84, 84) and the player's rows


def play(table: Table, player: Player, title: str = "") -> None:
    """Play one table to its end."""
    play_together([table], player, title or f"Play {table.game}")


def play_together(tables: Sequence[Table], player: Player, title: str) -> None:
    """Play several tables to their ends; the player is asked once a step for all of their environments.

    Its rows are numbered through the tables, in order. Each table's episodes are what they would be alone, as far as
    the player's choice for a row does not depend on who else is asked about.
    """
    total, first = sum(len(table.seeds) for table in tables), 0
    with ExitStack() as stack, track(title, total, "episodes") as advance:
        asked: dict[Generator[_Asked, NDArray[np.integer], None], _Asked] = {}
        for table in tables:
            if table.seeds:
                steps = stack.enter_context(closing(_steps(table, first, player, lambda: advance(1))))
                asked[steps], first = next(steps), first + table.rows
        played, started = 0, time.monotonic()
        while asked:
            rows = [row for _, wanted in asked.values() for row in wanted]
            actions = player.act(np.concatenate([frames for frames, _ in asked.values()]), rows)
            played += len(rows)
            for steps, (_, wanted) in list(asked.items()):
                mine, actions = actions[: len(wanted)], actions[len(wanted) :]
                try:
                    asked[steps] = steps.send(mine)
                except StopIteration:
                    del asked[steps]
            advance(0, note=f"{played:,} steps, {played / max(time.monotonic() - started, 1e-6):,.0f}/s")


def _steps(
    table: Table, first: int, player: Player, ended: Callable[[], None]
) -> Generator[_Asked, NDArray[np.integer], None]:
    """The emulators' side: asks for the actions of every step, by rows from `first` on, and is sent them."""
    waiting = deque(table.seeds.items())
    runs: dict[int, _Run] = {}
    for row in range(table.rows):
        runs[row] = _Run(*waiting.popleft())
        player.begin(first + row, runs[row].seed)
    limit = table.max_steps or table.protocol.max_steps + 1
    idle = int(np.flatnonzero(legal_mask(table.game))[0])
    with playable(table.rom) if table.rom else nullcontext() as path:
        games = VectorGame(table.game, [run.seed for run in runs.values()], table.protocol, rom=path)
        frames = games.reset()
        actions = np.full(len(runs), idle, np.int64)
        while runs:
            rows = sorted(runs)
            actions[:] = idle
            actions[rows] = yield frames[rows], [first + row for row in rows]
            step = games.step(actions)
            frames = step.frames
            for row in rows:
                run = runs[row]
                run.score += float(step.rewards[row])
                run.clipped += float(np.sign(step.rewards[row]))
                run.actions.append(actions[row])
                if not (step.ended[row] or len(run.actions) == limit):
                    continue
                how = "terminated" if step.terminated[row] else "truncated" if step.truncated[row] else "limit"
                table.finished(run.done(how))
                ended()
                del runs[row]
                if waiting:
                    runs[row] = _Run(*waiting.popleft())
                    player.begin(first + row, runs[row].seed)
                    frames = games.restart([row], [runs[row].seed])


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
