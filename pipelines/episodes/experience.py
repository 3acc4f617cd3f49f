"""Episodes that grow while an agent learns: what it has played so far, appended turn by turn and read at once.

A folder holds the frames and the steps of each environment, one behind the other (`0.frames` raw bytes, `0.steps`
records), and `turns.jsonl`, a line a turn of collection. A turn exists once its line is on the disk; what lies behind
the counts of the last line was torn by a kill, or is being written by another process, and only the next turn writes
over it: to read alters nothing. `origin.json` says what was played: game, frame, and what else its `origin` names, such
as the ROM; nothing is added to what is of another origin. `rewind` goes back to an earlier turn, so that a resumed
training sees what it saw then. Frames are read through memory maps: the operating system keeps as
many in memory as fit, and lets go of them where others need it, so experience may be larger than memory.

`Experience` is a `TrajectoryReader`: samplers, sheets and measures read it like any trajectories, and `pack_into`
leaves a file of those. Rewards are the game's own points. The last episode of an environment may be unfinished.
Letters: N transitions, E episodes, H and W pixels; an RGB frame has a last axis of 3.
"""

import json
import os
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pipelines.environments.actions import action_names, stored_action
from pipelines.episodes.trajectories import CHUNK, FLAT, FlatEpisodes, TrajectoryWriter, pack
from pipelines.errors import WorldlineError
from pipelines.store.files import sync, write_whole

TURNS = "turns.jsonl"
ORIGIN = "origin.json"
STEP = np.dtype([("actions", "u1"), ("rewards", "<f4"), ("terminals", "u1"), ("truncations", "u1")])
"""A step of a game whose actions are choices; `step_of` tells it of any"""


def step_of(game: str) -> np.dtype[Any]:
    """A record of one step of a game: what was done, and what came of it."""
    return np.dtype([("actions", stored_action(game)), *((name, STEP[name]) for name in (STEP.names or ())[1:])])


@dataclass(frozen=True)
class Game:
    """The game that an environment is playing: its seed, how many it played before, and the step at which it began."""

    seed: int
    number: int = 0
    first: int = 0


@dataclass(frozen=True)
class Turn:
    """Where each environment stands after a turn: its steps in all, and its game."""

    steps: tuple[int, ...]
    games: tuple[Game, ...]


class Experience(FlatEpisodes):
    """The experience in `folder`, which is made where it is not there. It may be pickled and read after a fork.

    `games` are where the environments begin, one for each; `origin` is what all of it must have been played with, of
    plain values. Raises WorldlineError for a damaged folder, or one of another game, frame, origin or number of
    environments.
    """

    actions: NDArray[Any]  # (N,) uint8, the game's own ids, or (N, A) float32
    rewards: NDArray[np.float32]  # (N,) the game's own points
    terminals: NDArray[np.uint8]  # (N,) 1 where the episode was over, by the rules it was played under
    truncations: NDArray[np.uint8]  # (N,) 1 where the rules' limit cut the episode
    episode_starts: NDArray[np.int64]  # (E+1,), N at its end

    def __init__(
        self,
        folder: Path,
        game: str,
        frame_shape: tuple[int, ...],
        games: Sequence[Game],
        origin: Mapping[str, Any] | None = None,
    ) -> None:
        self.folder, self.game, self.frame_shape, self.step = folder, game, frame_shape, step_of(game)
        self.origin = {"game": game, "frame": list(frame_shape), **(origin or {})}
        self._begin = Turn((0,) * len(games), tuple(games))
        self._pending = [0] * len(games)
        folder.mkdir(parents=True, exist_ok=True)
        self._turns = self._read()

    @property
    def turns(self) -> int:
        """How many were committed."""
        return len(self._turns)

    @property
    def last(self) -> Turn:
        """Where the environments stand."""
        return self._turns[-1] if self._turns else self._begin

    @property
    def lasting(self) -> NDArray[np.int64]:
        """(N,) rising numbers of the transitions, which stay their own whatever is played later."""
        steps = self.last.steps
        return np.concatenate([np.arange(count) + (row << 40) for row, count in enumerate(steps)])

    # ---- writing ----

    def add(self, row: int, frames: NDArray[np.uint8], steps: NDArray[Any]) -> None:
        """Append steps of one environment, which count from `commit` on.

        frames: (n, H, W) or (n, H, W, 3) uint8, what was seen; steps: (n,) of dtype `step`, what was done then.
        """
        if frames.shape != (len(steps), *self.frame_shape) or steps.dtype != self.step:
            raise ValueError(f"{frames.shape} frames and {len(steps)} steps: give ({len(steps)}, *{self.frame_shape})")
        first = self.last.steps[row] + self._pending[row]
        for name, data, width in (("frames", frames, int(np.prod(self.frame_shape))), ("steps", steps, steps.itemsize)):
            handle = os.open(self._path(row, name), os.O_RDWR | os.O_CREAT, 0o644)
            try:
                view, offset = memoryview(np.ascontiguousarray(data).tobytes()), first * width
                while view:
                    written = os.pwrite(handle, view, offset)
                    view, offset = view[written:], offset + written
            finally:
                os.close(handle)
        self._pending[row] += len(steps)

    def commit(self, games: Sequence[Game]) -> None:
        """What was added counts from now on, and survives whatever happens."""
        steps = tuple(done + added for done, added in zip(self.last.steps, self._pending, strict=True))
        for row, count in enumerate(steps):
            if count:
                sync(self._path(row, "frames"))
                sync(self._path(row, "steps"))
        if not (self.folder / ORIGIN).exists():
            text = json.dumps(self.origin, indent=1) + "\n"
            write_whole(self.folder / ORIGIN, text.encode(), self.folder / f".{ORIGIN}")
        turn = Turn(steps, tuple(games))
        (self.folder / TURNS).touch()
        with (self.folder / TURNS).open("r+b") as file:
            file.seek(self._whole)
            file.truncate()  # what a kill tore
            self._whole += file.write(_lines([turn]))
            file.flush()
            os.fsync(file.fileno())
        self._turns.append(turn)
        self._forget()

    def rewind(self, turns: int) -> None:
        """Go back to what there was after so many turns. Raises WorldlineError where there were not so many."""
        if turns > self.turns:
            raise WorldlineError(
                f"{self.folder} holds {self.turns} turns of play and the training stands after {turns}: the folder was "
                "altered; delete its parent folder, and the training starts anew"
            )
        if turns < self.turns:
            self._turns = self._turns[:turns]
            lines = _lines(self._turns)
            write_whole(self.folder / TURNS, lines, self.folder / f".{TURNS}")
            self._whole = len(lines)
        self._forget()

    def refresh(self) -> None:
        """Read what another process committed."""
        self._turns = self._read()
        self._forget()

    def pack_into(self, path: Path) -> str:
        """Write everything as a file of trajectories; returns the hash of its frames, as `downsample` counts it.

        Rewards stay the game's own points. Raises WorldlineError where nothing was played.
        """
        lengths = np.diff(self.episode_starts).tolist()
        names, numbers = action_names(self.game), sum(self.step["actions"].shape)
        with TrajectoryWriter(path, self.game, names, lengths, self.frame_shape, numbers) as writer:
            for name in FLAT:
                writer.write(name, 0, getattr(self, name))
            for number, first in enumerate(range(0, len(self), CHUNK)):
                frames = self.frames(first, min(first + CHUNK, len(self)))
                if len(frames) < min(CHUNK, len(self)):  # HDF5's chunks are whole
                    frames = np.concatenate([frames, np.zeros((CHUNK - len(frames), *self.frame_shape), np.uint8)])
                writer.write_chunk(number, pack(np.ascontiguousarray(frames)))
            return writer.frames_sha256()

    # ---- reading: `TrajectoryReader` ----

    def __getattr__(self, name: str) -> Any:
        """The columns, and where episodes start: read when they are first asked for."""
        if name == "_steps":
            self._steps = self._all_steps()
        elif name in FLAT:
            setattr(self, name, np.ascontiguousarray(self._steps[name]))
        elif name == "episode_starts":
            firsts = np.cumsum([0, *self.last.steps])
            ended = np.flatnonzero(self.terminals | self.truncations) + 1
            self.episode_starts = np.unique(np.concatenate([firsts, ended])).astype(np.int64)
        else:
            raise AttributeError(f"Experience has no '{name}'")
        return self.__dict__[name]

    def frames(self, start: int, stop: int) -> NDArray[np.uint8]:
        """(stop-start, H, W) or (stop-start, H, W, 3) uint8: frames start .. stop-1."""
        found, first = [], 0
        for mapped in self._maps:
            here = slice(max(start - first, 0), min(stop - first, len(mapped)))
            if here.start < here.stop:
                found.append(mapped[here])
            first += len(mapped)
        if len(found) == 1:
            return found[0]
        return np.concatenate([np.zeros((0, *self.frame_shape), np.uint8), *found])

    def close(self) -> None:
        """Let go of files; the next read opens them again."""
        self.__dict__.pop("_maps", None)

    # ---- inside ----

    @cached_property
    def _maps(self) -> list[NDArray[np.uint8]]:
        found: list[NDArray[np.uint8]] = []
        for row, count in enumerate(self.last.steps):
            shape = (count, *self.frame_shape)
            path = self._path(row, "frames")
            found.append(np.memmap(path, np.uint8, "r", shape=shape) if count else np.zeros(shape, np.uint8))
        return found

    def _all_steps(self) -> NDArray[Any]:
        """(N,) of dtype `step`."""
        read = [
            np.fromfile(self._path(row, "steps"), self.step, count) if count else np.zeros(0, self.step)
            for row, count in enumerate(self.last.steps)
        ]
        return np.concatenate(read)

    def _path(self, row: int, name: str) -> Path:
        return self.folder / f"{row}.{name}"

    def _forget(self) -> None:
        """Drop what was read: there is more now, or less."""
        self._pending = [0] * len(self._pending)
        for name in ("_maps", "_steps", *FLAT, "episode_starts"):
            self.__dict__.pop(name, None)

    def _read(self) -> list[Turn]:
        """The committed turns. A line without an end is none: a kill tore it off, or it is being written.

        Raises WorldlineError as the class says.
        """
        path = self.folder / TURNS
        raw = path.read_bytes() if path.is_file() else b""
        self._whole = raw.rfind(b"\n") + 1  # bytes of turns.jsonl that count
        try:
            found = [self._turn(json.loads(line)) for line in raw[: self._whole].splitlines()]
        except (ValueError, TypeError, KeyError) as error:
            raise self._damaged(f"{TURNS} is unreadable: {error}") from error
        if found:
            self._require_origin()
            self._require_whole(found[-1])
        return found

    def _require_origin(self) -> None:
        path = self.folder / ORIGIN
        try:
            found = json.loads(path.read_bytes()) if path.is_file() else {}  # of a version that did not note it
        except ValueError as error:
            raise self._damaged(f"{ORIGIN} is unreadable: {error}") from error
        for name in found if isinstance(found, dict) else ():
            if name in self.origin and found[name] != self.origin[name]:
                raise WorldlineError(
                    f"{self.folder} was played with {name} {found[name]}, here it is {self.origin[name]}: play with "
                    "that one again, or delete its parent folder, and the training starts anew"
                )

    def _turn(self, line: dict[str, Any]) -> Turn:
        turn = Turn(tuple(map(int, line["steps"])), tuple(Game(**game) for game in line["games"]))
        if len(turn.steps) != len(self._begin.steps) or len(turn.games) != len(turn.steps):
            raise ValueError(f"it is of {len(turn.steps)} environments, not {len(self._begin.steps)}")
        return turn

    def _require_whole(self, turn: Turn) -> None:
        for row, count in enumerate(turn.steps):
            for name, width in (("frames", int(np.prod(self.frame_shape))), ("steps", self.step.itemsize)):
                path = self._path(row, name)
                size = path.stat().st_size if path.is_file() else 0
                if size < count * width:
                    raise self._damaged(f"{path.name} has {size} bytes, {count * width} were written")

    def _damaged(self, why: str) -> WorldlineError:
        return WorldlineError(
            f"{self.folder} is no experience of {self.game} with frames of {self.frame_shape} ({why}): delete its "
            "parent folder, and the training starts anew"
        )

    def __getstate__(self) -> dict[str, Any]:
        return {name: value for name, value in self.__dict__.items() if name != "_maps"}


def _lines(turns: Sequence[Turn]) -> bytes:
    """A line a turn."""
    return "".join(json.dumps(asdict(turn)) + "\n" for turn in turns).encode()
