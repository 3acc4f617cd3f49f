"""Play given episodes to their end with any player, several at once and of several games; none waits for another.

Taking the first n episodes that end would prefer short ones; here the episodes are named beforehand, each with its
environment's seed, and all of them count. An environment whose episode has ended takes the next one that waits; when
none does, it drops out of what the player is asked for. So how many play at once changes the time, not the episodes.
Letters: N rows that are playing, H and W pixels; an RGB frame has a last axis of 3.
"""

import time
from collections import deque
from collections.abc import Callable, Generator, Iterator, Mapping, Sequence
from contextlib import ExitStack, closing
from dataclasses import dataclass, field
from typing import Any
from typing import Protocol as Interface

import numpy as np
from numpy.typing import NDArray

from models.spaces import Box, Discrete
from pipelines.environments.registry import Rules, achievements, make
from pipelines.errors import WorldlineError
from pipelines.progress import track


class Player(Interface):
    """Chooses actions for the environments that are playing."""

    def begin(self, row: int, seed: int) -> None:
        """begin(row, seed): that environment begins a new episode of that seed."""
        ...

    def act(self, frames: NDArray[np.uint8], rows: Sequence[int]) -> NDArray[Any]:
        """act(frames (N, H, W) or (N, H, W, 3) uint8, rows) -> actions of those environments, as their spaces say.

        Actions are (N,) integers, or (N, size) floats where the game's actions are a Box.
        """
        ...


@dataclass(frozen=True)
class Episode:
    """How one episode went. `seed` is its environment's; `ended` is terminated, truncated (by the rules) or limit."""

    episode: int
    seed: int
    score: float  # sum of raw rewards: the return
    clipped_score: float  # sum of the rewards' signs
    length: int  # agent steps
    ended: str
    actions: bytes = field(
        default=b"", repr=False
    )  # a step's after the other's: a byte each, or float32 numbers of a Box
    achievements: Mapping[str, int] = field(default_factory=dict)  # how often each was reached, where the game has some

    def row(self) -> dict[str, Any]:
        """What is written down of it, by the names that logs and tables use; the actions lie elsewhere."""
        told = {
            "episode": self.episode,
            "seed": self.seed,
            "return": self.score,
            "clipped_return": self.clipped_score,
            "length": self.length,
            "ended": self.ended,
        }
        return told | ({"achievements": dict(self.achievements)} if self.achievements else {})


@dataclass
class _Run:
    """An episode that is being played."""

    number: int
    seed: int
    score: float = 0.0
    clipped: float = 0.0
    length: int = 0
    actions: bytearray = field(default_factory=bytearray)
    achievements: dict[str, int] = field(default_factory=dict)

    def add(self, action: NDArray[Any], reward: float, achievements: Mapping[str, int]) -> None:
        """Count one step, after which so much was reached."""
        self.score, self.achievements = self.score + reward, dict(achievements)
        self.clipped += float(np.sign(reward))
        self.length += 1
        self.actions += action.tobytes()

    def done(self, ended: str) -> Episode:
        return Episode(
            self.number, self.seed, self.score, self.clipped, self.length, ended, bytes(self.actions), self.achievements
        )


@dataclass(frozen=True)
class EpisodeBatch:
    """Episodes of one game that are to be played under `rules`: `seeds` by the episode's number.

    Each is handed to `finished` as soon as it has ended. At most `envs` play at once (0: all); `max_steps` cuts them
    (0: the rules' limit). `options` are what `registry.options` found for the game.
    """

    game: str
    rules: Rules
    seeds: Mapping[int, int]
    finished: Callable[[Episode], None]
    envs: int = 0
    max_steps: int = 0
    options: Mapping[str, Any] = field(default_factory=dict)

    @property
    def rows(self) -> int:
        """How many environments it keeps."""
        return min(self.envs or len(self.seeds), len(self.seeds))


_Asked = tuple[NDArray[np.uint8], list[int]]  # frames (N, ...) and the player's rows

_Steps = Generator[_Asked, NDArray[Any], None]


def play(episodes: EpisodeBatch, player: Player, title: str = "") -> None:
    """Play one game's episodes to their end."""
    play_together([episodes], player, title or f"Play {episodes.game}")


def play_together(batches: Sequence[EpisodeBatch], player: Player, title: str) -> None:
    """Play several games' episodes to their ends; the player is asked once a step for all of their environments.

    Its rows are numbered through the batches, in order. Each batch's episodes are what they would be alone, as far as
    the player's choice for a row does not depend on who else is asked about. All games must show frames of one shape.
    """
    total, first = sum(len(batch.seeds) for batch in batches), 0
    with ExitStack() as stack, track(title, total, "episodes") as advance:
        asked: dict[_Steps, _Asked] = {}
        for batch in batches:
            if batch.seeds:
                steps = stack.enter_context(closing(_steps(batch, first, player, lambda: advance(1))))
                asked[steps], first = next(steps), first + batch.rows
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


def _steps(batch: EpisodeBatch, first: int, player: Player, ended: Callable[[], None]) -> _Steps:
    """The environments' side: asks for the actions of every step, by rows from `first` on, and is sent them."""
    waiting = deque(batch.seeds.items())
    runs: dict[int, _Run] = {}
    for row in range(batch.rows):
        runs[row] = _Run(*waiting.popleft())
        player.begin(first + row, runs[row].seed)
    limit, names = batch.max_steps or batch.rules.max_steps + 1, achievements(batch.game)
    with closing(make(batch.game, [run.seed for run in runs.values()], batch.rules, **batch.options)) as games:
        idle = _idle(games.spaces.actions, batch.game, len(runs))
        frames = games.reset()
        while runs:
            rows = sorted(runs)
            actions = idle.copy()
            actions[rows] = yield frames[rows], [first + row for row in rows]
            step = games.step(actions)
            frames = step.frames
            for row in rows:
                run = runs[row]
                reached = (
                    {} if step.achievements is None else dict(zip(names, step.achievements[row].tolist(), strict=True))
                )
                run.add(actions[row], float(step.rewards[row]), reached)
                if not (step.ended[row] or run.length == limit):
                    continue
                how = "terminated" if step.terminated[row] else "truncated" if step.truncated[row] else "limit"
                batch.finished(run.done(how))
                ended()
                del runs[row]
                if waiting:
                    runs[row] = _Run(*waiting.popleft())
                    player.begin(first + row, runs[row].seed)
                    frames = games.restart([row], [runs[row].seed])


def _idle(actions: Discrete | Box, game: str, count: int) -> NDArray[Any]:
    """What environments do that play no episode: the game's first action (N,) uint8, or zeros (N, size) float32."""
    if isinstance(actions, Box):
        return np.zeros((count, actions.size), np.float32).clip(actions.low, actions.high)
    return np.full(count, actions.mask(game).index(True), np.uint8)


def replay(game: str, episode: Episode, rules: Rules, **options: Any) -> Iterator[NDArray[np.uint8]]:
    """The frames (H, W) or (H, W, 3) seen at each of its actions, by playing them again from its seed.

    `options` are those that it was played with. Raises WorldlineError at the end where the emulator did not give the
    same return again.
    """
    with closing(make(game, [episode.seed], rules, threads=1, **options)) as games:
        kind = _idle(games.spaces.actions, game, 1)
        frames, score = games.reset(), 0.0
        for actions in np.frombuffer(episode.actions, kind.dtype).reshape(-1, *kind.shape):
            yield frames[0]
            step = games.step(actions)
            frames, score = step.frames, score + float(step.rewards[0])
    if score != episode.score:
        raise WorldlineError(
            f"Episode {episode.episode} of {game} gives {score} when played again, not {episode.score}: the emulator "
            "is not the one it was played in; install that version of it, or evaluate again"
        )
