"""One's own episodes: npz or HDF5, one file an episode, or one HDF5 with a group an episode. See docs/import.md.

Nothing is unpickled, and nothing is allocated before its stated size was found possible and true. An episode's
observations are read in slices, so an archive that inflates to much more than it weighs costs time and no memory.
Letters: T steps of an episode, H and W pixels.
"""

import json
import zipfile
from collections.abc import Mapping
from math import prod
from pathlib import Path
from typing import Any, Protocol

import h5py
import numpy as np
from numpy.typing import NDArray

from pipelines.environments.atari.games import ACTIONS, minimal_actions
from pipelines.environments.registry import require_game
from pipelines.episodes.jowa_h5 import BROKEN, FRAME, NAMES, own_member
from pipelines.episodes.npz_file import NpzFile
from pipelines.episodes.recordings import (
    LONGEST,
    MOST_EPISODES,
    RULES,
    Small,
    require_shape,
)
from pipelines.errors import BAD_NPZ, WorldlineError, may_pass, not_now

META = "meta.json"
FRAMES, ACTS, REWARDS = "observations", "actions", "rewards"
TERMINALS = ("terminals", "terminated", "terminations")
TRUNCATIONS = ("truncations", "truncated")
ARRAYS = (FRAMES, ACTS, REWARDS, *TERMINALS, *TRUNCATIONS)
LARGEST_META = 1 << 20  # bytes
LARGEST_CHUNK = 1 << 28  # bytes; HDF5 holds a whole chunk in memory for the smallest read
HDF5_ENDINGS = (".h5", ".hdf5")
ENDINGS = (".npz", *HDF5_ENDINGS)


def is_there(path: Path) -> bool:
    """Whether these are such files: by their names in a folder, or an HDF5 file that is not in JOWA's layout."""
    if path.is_dir():
        return any(each.suffix in ENDINGS for each in path.iterdir())
    if path.suffix == ".npz":
        return zipfile.is_zipfile(path)
    try:
        with h5py.File(path, "r") as file:
            first = file if FRAMES in file else file[min(file)]
            jowas = "0" in file and set(first) == set(NAMES) and first[FRAMES].shape[1:] == FRAME
            return FRAMES in first and not jowas
    except (*BROKEN, ValueError):
        return False


class EpisodeArrays(Protocol):
    """The arrays of one episode."""

    @property
    def stated(self) -> Mapping[str, tuple[tuple[int, ...], np.dtype]]:
        """Shape and dtype of each array, before anything is read."""

    def whole(self, name: str) -> NDArray[Any]:
        """A small array."""

    def rows(self, start: int, stop: int) -> NDArray[np.uint8]:
        """Observations start .. stop-1."""

    def close(self) -> None:
        """Let go of the file."""


class EpisodeFiles:
    """A `Recording`. Raises WorldlineError for files that lie or are damaged, UsageError for another game's."""

    def __init__(self, path: Path, game: str) -> None:
        self.where, self.game = str(path), game
        self._members, meta = (_in_folder(path), _meta(path)) if path.is_dir() else _in_file(path)
        self._open: tuple[int, EpisodeArrays] | None = None
        require_game(self.where, str(meta.get("game", game)), game)
        self.action_names = _action_names(self.where, game, meta.get("actions", "minimal"))
        self.frame_skip = _frame_skip(self.where, meta.get("frame_skip", RULES.frame_skip))
        self.facts: dict[str, Any] = {}
        self.shape: tuple[int, ...] = ()
        if not self._members or len(self._members) > MOST_EPISODES:
            raise WorldlineError(
                f"{path} holds {len(self._members):,} episodes, 1 to {MOST_EPISODES:,} are read: see docs/import.md"
            )
        self.lengths = [self._length(episode) for episode in range(len(self._members))]

    def small(self, episode: int) -> Small:
        """The episode's small arrays."""
        arrays = self._arrays(episode)
        ends = [_named(arrays, names) for names in (TERMINALS, TRUNCATIONS)]
        try:
            found = [arrays.whole(name) if name else np.zeros(self.lengths[episode], np.uint8) for name in ends]
            return Small(arrays.whole(ACTS), arrays.whole(REWARDS), *found)
        except (*BAD_NPZ, *BROKEN) as error:
            raise self._damaged(episode, error) from error

    def observations(self, episode: int, start: int, stop: int) -> NDArray[np.uint8]:
        """(stop-start, *shape): these observations."""
        try:
            return self._arrays(episode).rows(start, stop).reshape(-1, *self.shape)
        except (*BAD_NPZ, *BROKEN, StopIteration) as error:
            raise self._damaged(episode, error) from error

    def close(self) -> None:
        """Let go of the file; the next read opens it again."""
        if self._open is not None:
            self._open[1].close()
        self._open = None

    def _arrays(self, episode: int) -> EpisodeArrays:
        if self._open is None or self._open[0] != episode:
            self.close()
            file, group = self._members[episode]
            try:
                found: EpisodeArrays = NpzFile(file, ARRAYS, FRAMES) if file.suffix == ".npz" else _Hdf5(file, group)
            except (*BAD_NPZ, *BROKEN) as error:
                raise self._damaged(episode, error) from error
            self._open = episode, found
        return self._open[1]

    def _length(self, episode: int) -> int:
        """T; checks what the episode says of itself, of which nothing has been read yet."""
        stated, where = self._arrays(episode).stated, self._named(episode)
        for names in ((FRAMES,), (ACTS,), (REWARDS,), TERMINALS):
            if not any(name in stated for name in names):
                raise WorldlineError(f"{where} has no {names[0]}, it has {sorted(stated)[:9]}: see docs/import.md")
        (seen, *shape), dtype = (stated[FRAMES][0] or (0,)), stated[FRAMES][1]
        plain = require_shape(where, tuple(shape), dtype)
        steps = stated[ACTS][0][0] if len(stated[ACTS][0]) == 1 else -1
        if not 1 <= steps <= LONGEST or seen - steps not in (0, 1):
            raise WorldlineError(
                f"{where} has {seen:,} observations and actions of {stated[ACTS][0]}, they must be T or T+1 and (T,), "
                f"T from 1 to {LONGEST:,}: see docs/import.md"
            )
        for name in (ACTS, REWARDS, *TERMINALS, *TRUNCATIONS):
            found, kind = stated.get(name, ((steps,), np.dtype(bool)))
            if found != (steps,) or kind.kind not in ("biu" if name != REWARDS else "biuf"):
                raise WorldlineError(f"{where} has {name} of {found} {kind} for {steps:,} actions: see docs/import.md")
        if self.shape and plain != self.shape:
            raise WorldlineError(f"{where} has observations of {plain}, others {self.shape}: import them apart")
        self.shape = plain
        return int(steps)

    def _named(self, episode: int) -> str:
        file, group = self._members[episode]
        return f"{file}, {group}" if group else str(file)

    def _damaged(self, episode: int, error: BaseException) -> WorldlineError:
        if may_pass(error):
            return not_now(self._named(episode), error)
        why = " ".join(str(error).split())[:120] or type(error).__name__
        return WorldlineError(f"{self._named(episode)} cannot be read ({why}): write or copy it again")


class _Hdf5:
    """The root of an HDF5 file, or one group of it."""

    def __init__(self, path: Path, group: str) -> None:
        self._file = h5py.File(path, "r")
        where = str(path)
        home = own_member(self._file, group, where) if group else self._file
        names = [name for name in ARRAYS if name in home]
        self._data = {name: own_member(home, name, where) for name in names}
        self.stated = {name: (data.shape or (), data.dtype) for name, data in self._data.items()}
        for name, data in self._data.items():
            if prod(data.chunks or (0,)) * data.dtype.itemsize > LARGEST_CHUNK:
                raise WorldlineError(
                    f"{where}: {name} lies in chunks of {data.chunks}, at most {LARGEST_CHUNK:,} bytes are read at a "
                    "time: write smaller chunks"
                )

    def whole(self, name: str) -> NDArray[Any]:
        """A small array."""
        return self._data[name][:]

    def rows(self, start: int, stop: int) -> NDArray[np.uint8]:
        """Observations start .. stop-1."""
        return self._data[FRAMES][start:stop]

    def close(self) -> None:
        """Let go of the file."""
        self._file.close()


def _named(arrays: EpisodeArrays, names: tuple[str, ...]) -> str:
    return next((name for name in names if name in arrays.stated), "")


def _in_folder(path: Path) -> list[tuple[Path, str]]:
    return [(each, "") for each in sorted(path.iterdir()) if each.suffix in ENDINGS]


def _in_file(path: Path) -> tuple[list[tuple[Path, str]], dict[str, Any]]:
    """The episodes of one file, groups by their numbers or names, and what its attributes say."""
    if path.suffix == ".npz":
        return [(path, "")], {}
    with h5py.File(path, "r") as file:
        said = {name: file.attrs[name] for name in ("game", "actions", "frame_skip") if name in file.attrs}
        meta = {name: value.tolist() if hasattr(value, "tolist") else value for name, value in said.items()}
        if FRAMES in file:
            return [(path, "")], meta
        return [(path, name) for name in sorted(file, key=lambda name: (len(name), name))], meta


def _meta(folder: Path) -> dict[str, Any]:
    path = folder / META
    if not path.is_file():
        return {}
    try:
        if path.stat().st_size > LARGEST_META:
            raise ValueError(f"{path.stat().st_size:,} bytes")
        found = json.loads(path.read_text())
    except (ValueError, RecursionError) as error:
        raise WorldlineError(f"{path} is no small JSON ({error}): write it as docs/import.md says") from error
    if not isinstance(found, dict):
        raise WorldlineError(f"{path} holds a {type(found).__name__}, an object is meant: see docs/import.md")
    return found


def _action_names(where: str, game: str, stated: Any) -> tuple[str, ...]:
    own = tuple(ACTIONS[number] for number in minimal_actions(game))
    sets = {"minimal": own, "full": ACTIONS}
    if isinstance(stated, str) and stated in sets:
        return sets[stated]
    if isinstance(stated, list) and stated and set(map(str, stated)) <= set(ACTIONS):
        return tuple(map(str, stated))
    raise WorldlineError(
        f"{where} states actions {str(stated)[:80]!r}: say minimal, full or a list of names, as {', '.join(own[:3])}"
    )


def _frame_skip(where: str, stated: Any) -> int:
    if isinstance(stated, int) and not isinstance(stated, bool):
        return stated
    raise WorldlineError(f"{where} states frame_skip {str(stated)[:40]!r}: say 1 or {RULES.frame_skip}")
