"""Trajectories in JOWA's own layout: `{Game}.h5` with one group per episode, "0" to "E-1"; and safe writing of HDF5.

Each group holds observations (T,84,84) uint8, actions (T,) minimal ids, rewards (T,), terminals (T,); the game is the
file's name. Our exports note a checksum at each group. There is no flag for time-outs: an episode that no terminal ends
counts as truncated. Files of the original's scripts read as well as our exports; in theirs a time-out is a terminal, as
it is in DQN-Replay.
HDF5 writes much of a file only when it is closed, and crashes the process when the disk refuses that. So it writes
through a file of ours, which swallows the first refusal and all that follows, and raises it once HDF5 has let go.
"""

import json
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import google_crc32c
import h5py
import numpy as np
from numpy.typing import NDArray

from pipelines.environments.registry import require_game
from pipelines.episodes.trajectories import FLAT, FlatEpisodes, narrowed, require_sound
from pipelines.errors import WorldlineError, may_pass, not_now


class _Patient:
    """What h5py asks of a file object; `error` is the first refusal."""

    def __init__(self, path: Path) -> None:
        self._file = path.open("w+b", buffering=0)
        self.error: OSError | None = None

    def write(self, data: Any) -> int:
        rest = memoryview(data)
        while self.error is None and len(rest):
            try:
                rest = rest[self._file.write(rest) :]
            except OSError as error:
                self.error = error
        return len(data)

    def truncate(self, size: int | None = None) -> int:
        try:
            return self._file.truncate(size)
        except OSError as error:
            self.error = self.error or error
            return size or 0

    def __getattr__(self, name: str) -> Any:
        return getattr(self._file, name)


@contextmanager
def new_file(path: Path) -> Iterator[tuple[h5py.File, Callable[[], None]]]:
    """A new file at `path`, closed and complete when the body has ended. Raises OSError when the disk refused bytes.

    Yields the file, and what raises that error at once: long bodies call it now and then, to stop early.
    """
    patient = _Patient(path)

    def stop_if_refused() -> None:
        if patient.error is not None:
            raise patient.error

    try:
        with h5py.File(patient, "w") as file:
            yield file, stop_if_refused
    finally:
        patient.close()
        stop_if_refused()


FRAME = (84, 84)  # the layout knows no other

KEPT_OPEN = 1024  # episodes; looking a dataset up by name costs as much as reading a segment

LONGEST = 1 << 20  # steps of an episode; Dopamine stops at 27,000

NAMES = ("observations", "actions", "rewards", "terminals")

SUM = "crc32c"  # attribute of an episode's group

ROWS = 4096  # read at a time for it

BROKEN = (OSError, KeyError, RuntimeError, AttributeError, TypeError)  # what h5py raises at files that lie


class JowaTrajectories(FlatEpisodes):
    """A `TrajectoryReader`; `game` is what the file's name says unless given.

    Raises WorldlineError for a bad file, UsageError for one that says it is of another game than the one given.

    Opening reads the small arrays of all episodes.
    """

    def __init__(self, path: Path, game: str | None = None) -> None:
        self.path, self.game = path, game or path.stem
        self.frame_shape: tuple[int, ...] = FRAME
        self._file: h5py.File | None = None
        self._owner = 0
        self._observations: dict[int, h5py.Dataset] = {}
        try:
            with h5py.File(path, "r") as file:
                named = str(file.attrs.get("game", self.game))
                self.lineage = _lineage(file)
                parts: dict[str, list[NDArray[Any]]] = {name: [] for name in NAMES[1:]}
                for episode in range(len(file)):
                    for name, values in _small(file, episode, f"{path}, episode {episode}").items():
                        parts[name].append(values)
        except BROKEN as error:
            if may_pass(error):
                raise not_now(path, error) from error
            raise WorldlineError(
                f"{path} is not in JOWA's layout ({error}): groups 0 to E-1, each with {', '.join(NAMES)}"
            ) from error
        if game:
            require_game(path, named, game)
        elif named != self.game:
            raise WorldlineError(f"{path} holds {named}, its name says {self.game}: rename it to {named}.h5")
        if not parts["actions"]:
            raise WorldlineError(f"{path} holds no episode: export it again")
        lengths = [len(values) for values in parts["actions"]]
        self.episode_starts: NDArray[np.int64] = np.concatenate([[0], np.cumsum(lengths, dtype=np.int64)])
        self.actions: NDArray[np.uint8] = np.concatenate(parts["actions"])
        self.rewards: NDArray[np.float32] = np.concatenate(parts["rewards"])
        self.terminals: NDArray[np.uint8] = np.concatenate(parts["terminals"])
        self.truncations: NDArray[np.uint8] = np.zeros_like(self.terminals)
        last = self.episode_starts[1:] - 1
        self.truncations[last] = self.terminals[last] == 0
        require_sound(self, str(path))

    def frames(self, start: int, stop: int) -> NDArray[np.uint8]:
        """Frames start .. stop-1 of all episodes in a row, (stop-start, 84, 84) uint8."""
        found = np.empty((max(stop - start, 0), *FRAME), np.uint8)
        while start < stop:
            episode = int(np.searchsorted(self.episode_starts, start, side="right")) - 1
            first, until = int(self.episode_starts[episode]), min(stop, int(self.episode_starts[episode + 1]))
            try:
                read = self._frames_of(episode)[start - first : until - first]
            except BROKEN as error:
                raise self._damaged(episode, error) from error
            found[len(found) - (stop - start) :][: until - start] = read
            start = until
        return found

    def require_sums(self) -> None:
        """Compare each episode with the checksum that its export noted, where it did, as HDF5 keeps none.

        Raises WorldlineError for the first that differs.
        """
        with h5py.File(self.path, "r") as file:
            for episode in range(self.num_episodes):
                group = file[str(episode)]
                try:
                    same = SUM not in group.attrs or str(group.attrs[SUM]) == checksum(group)
                except BROKEN as error:
                    raise self._damaged(episode, error) from error
                if not same:
                    raise WorldlineError(
                        f"{self.path}, episode {episode} is not what was exported (another checksum): copy or export "
                        "it again"
                    )

    def close(self) -> None:
        """Let go of the file; the next read opens it again."""
        if self._file is not None and self._owner == os.getpid():
            self._file.close()
        self._file, self._observations = None, {}

    def _damaged(self, episode: int, error: Exception) -> WorldlineError:
        if may_pass(error):
            return not_now(self.path, error)
        why = " ".join(str(error).split())[:120]
        return WorldlineError(f"{self.path}, episode {episode} is damaged ({why}): copy or export it again")

    def _frames_of(self, episode: int) -> h5py.Dataset:
        if self._file is None or self._owner != os.getpid():  # HDF5 handles do not survive a fork
            self._file, self._owner = h5py.File(self.path, "r"), os.getpid()
            self._observations = {}
        if episode not in self._observations:
            if len(self._observations) >= KEPT_OPEN:
                self._observations.clear()
            self._observations[episode] = self._file[f"{episode}/observations"]
        return self._observations[episode]

    def __getstate__(self) -> dict[str, Any]:
        return self.__dict__ | {"_file": None, "_observations": {}}


def checksum(group: h5py.Group) -> str:
    """Hex crc32c over the bytes of an episode's arrays, in the order of NAMES."""
    found = google_crc32c.Checksum()
    for name in NAMES:
        for start in range(0, len(group[name]), ROWS):
            found.update(np.ascontiguousarray(group[name][start : start + ROWS]).tobytes())
    return found.hexdigest().decode()


def _lineage(file: h5py.File) -> dict[str, Any]:
    """What an export of ours says that it came from; empty in files of others."""
    try:
        found = json.loads(str(file.attrs.get("worldline", "{}")))
    except (ValueError, RecursionError):
        return {}
    return found if isinstance(found, dict) else {}


def _small(file: h5py.File, episode: int, where: str) -> dict[str, NDArray[Any]]:
    """The arrays of one episode but its frames, of which only the shape is looked at."""
    group = own_member(file, str(episode), where)
    data = {name: own_member(group, name, where) for name in NAMES}
    steps = data["observations"].shape[:1]
    if data["observations"].shape[1:] != FRAME or data["observations"].dtype != np.uint8 or steps > (LONGEST,):
        found = f"{data['observations'].shape} {data['observations'].dtype}"
        raise WorldlineError(
            f"{where}: observations are {found}, they must be (T, 84, 84) uint8, T at most {LONGEST:,}"
        )
    for name in NAMES[1:]:
        if data[name].shape != steps:
            raise WorldlineError(f"{where}: {data[name].shape} {name} for {steps[0]} observations: export it again")
    return {name: narrowed(data[name][:], name, FLAT[name], where) for name in NAMES[1:]}


def own_member(group: h5py.Group, name: str, where: str) -> Any:
    """A member that lies in this very file: HDF5 can also name, or map, parts of any other file."""
    link = group.get(name, getlink=True)
    if not isinstance(link, h5py.HardLink) and link is not None:
        raise WorldlineError(f"{where}: {name} points elsewhere, which no export does: export it again")
    found = group[name]
    if isinstance(found, h5py.Dataset) and (found.external or found.is_virtual):
        raise WorldlineError(f"{where}: {name} lies in another file, which no export does: export it again")
    return found
