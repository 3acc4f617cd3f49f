"""Atari data sets in Minari's layout, on this disk: a folder with metadata.json and HDF5, arrow or parquet files.

Minari's library says what the set is. It is an extra: `pip install 'worldline[minari]'`. The frames are read here in
slices, because the library holds whole episodes, and one of half an hour of RGB screens at frame skip 1 is 10 GB; a
test compares them with the library's. An environment that the metadata name is never made: they may name any code.
Minari packs images as JPEG unless told otherwise, which changes pixels; `facts` says which it was.
"""

import io
import json
from collections.abc import Iterator
from math import prod
from pathlib import Path
from typing import Any

import h5py
import numpy as np
from numpy.typing import NDArray

from pipelines.environments.registry import require_game
from pipelines.episodes.episode_files import LARGEST_CHUNK
from pipelines.episodes.jowa_h5 import own_member
from pipelines.episodes.npz_file import ROWS, Forward
from pipelines.episodes.recordings import (
    LONGEST,
    MOST_EPISODES,
    Small,
    action_set,
    require_shape,
)
from pipelines.errors import UsageError, WorldlineError, may_pass, not_now
from pipelines.redact import one_line

METADATA = "metadata.json"
LARGEST_METADATA = 1 << 26  # bytes; the bounds of an RGB screen's every pixel take 1 MB
CACHE = 1 << 26  # bytes of chunks kept: screens lie in many small ones, each of a hundred rows or more
NEEDED = ("observation_space", "action_space", "dataset_id", "env_spec")
TOLD = ("game", "frameskip", "repeat_action_probability", "full_action_space", "obs_type", "mode", "difficulty")
SKIPS = {"AtariPreprocessing": "frame_skip", "MaxAndSkipObservation": "skip"}  # wrappers that play 4 frames a step


def is_there(path: Path) -> bool:
    """Whether the folder is such a set, or the one that holds its `data`."""
    return any(_states_a_format(folder / METADATA) for folder in (path, path / "data"))


class MinariEpisodes:
    """A `Recording`. Raises WorldlineError for a set that lies or is damaged, UsageError for another game's."""

    def __init__(self, path: Path, game: str) -> None:
        self.where, self.game = str(path), game
        self._folder = path / "data" if (path / "data" / METADATA).is_file() else path
        self._metadata = self._checked_metadata()
        data_set = self._opened()
        self._spec = data_set.env_spec
        self.format, self._jpeg = str(self._metadata.get("data_format")), bool(data_set.storage.jpeg_encoding)
        stated = dict(self._spec.kwargs or {})
        require_game(self.where, str(stated.get("game", self._spec.id)), game)
        space, actions = data_set.observation_space, data_set.action_space
        if type(space).__name__ != "Box" or type(actions).__name__ != "Discrete" or int(actions.start) != 0:
            raise self._refusal(f"has observations in {space}, actions in {actions}", "images and numbers are read")
        self._stored = tuple(space.shape)
        self.shape = require_shape(self.where, self._stored, space.dtype)
        self._jpeg = self._jpeg and min(self._stored[:2]) >= 32  # what the library takes for an image
        full = stated.get("full_action_space")
        self.action_names = action_set(self.where, game, int(actions.n), full if isinstance(full, bool) else None)
        self.frame_skip = self._frame_skip(stated)
        self._ids = [int(number) for number in data_set.episode_indices]
        self._file: h5py.File | None = None
        self._forward: tuple[int, Forward] | None = None
        self.lengths = [self._length(episode) for episode in range(len(self._ids))]
        self.facts: dict[str, Any] = {
            "data_set": data_set.id,
            "minari_version": str(self._metadata.get("minari_version")),
            "environment": {"id": self._spec.id} | {name: stated[name] for name in TOLD if name in stated},
            "wrappers": [each.name for each in self._spec.additional_wrappers],
            "stored_as": f"{self.format}, JPEG" if self._jpeg else self.format,
        }

    def small(self, episode: int) -> Small:
        """The episode's small arrays."""
        names = ("actions", "rewards", "terminations", "truncations")
        try:
            if self.format == "hdf5":
                return Small(*(self._member(episode, name)[:] for name in names))
            table = self._table(episode)
            if self.format == "parquet":
                columns = table.to_table(columns=list(names))
            else:
                import pyarrow

                with pyarrow.memory_map(table.files[0]) as file:
                    columns = pyarrow.Table.from_batches(_batches(file)).select(list(names))
            found = [columns[name].to_numpy() for name in names]
            return Small(*(np.array(values[:-1]) for values in found))  # a row more, for the last observation
        except Exception as error:
            raise self._damaged(episode, error) from error

    def observations(self, episode: int, start: int, stop: int) -> NDArray[np.uint8]:
        """(stop-start, *shape): these observations."""
        try:
            if self.format == "hdf5":
                rows = self._member(episode, "observations")[start:stop]
                found = np.stack([self._picture(row) for row in rows]) if self._jpeg else rows
            else:
                if self._forward is None or self._forward[0] != episode:
                    self._forward = episode, Forward(lambda: self._blocks(episode))
                found = self._forward[1].read(start, stop)
            if len(found) != stop - start:
                raise ValueError(f"{len(found)} observations in place of {stop - start}")
            return found.reshape(-1, *self.shape)
        except Exception as error:
            raise self._damaged(episode, error) from error

    def close(self) -> None:
        """Let go of files; the next read opens them again."""
        if self._file is not None:
            self._file.close()
        self._file, self._forward = None, None

    def _checked_metadata(self) -> dict[str, Any]:
        path = self._folder / METADATA
        try:
            if path.stat().st_size > LARGEST_METADATA:
                raise ValueError(f"{path.stat().st_size:,} bytes")
            found = json.loads(path.read_text())
            if missing := [name for name in NEEDED if not isinstance(found.get(name), str)]:
                raise ValueError(f"{' and '.join(missing)} not stated")
        except (ValueError, AttributeError, RecursionError) as error:
            raise self._refusal(f"has a {METADATA} that does not tell the set", one_line(error)[:120]) from error
        return found

    def _opened(self) -> Any:
        """The library's own view. It opens no environment, as spaces are stated."""
        try:
            import minari
        except ImportError as error:
            raise UsageError(
                f"{self.where} is a data set of Minari, which is not installed: pip install 'worldline[minari]'"
            ) from error
        try:
            return minari.MinariDataset(self._folder)
        except Exception as error:
            if may_pass(error):
                raise not_now(self._folder, error) from error
            raise self._refusal("is no data set that Minari opens", one_line(error)[:160]) from error

    def _frame_skip(self, stated: dict[str, Any]) -> int:
        """Emulator frames of a step: the environment's times the wrappers'."""
        skip = stated.get("frameskip")
        for wrapper in self._spec.additional_wrappers:
            if isinstance(skip, int) and wrapper.name in SKIPS:
                skip *= int((wrapper.kwargs or {}).get(SKIPS[wrapper.name], 4))
        if not isinstance(skip, int):
            raise self._refusal(f"states frameskip {skip!r} of its environment", "one number is meant, as 1 or 4")
        return skip

    def _length(self, episode: int) -> int:
        """T, of which nothing has been read yet."""
        try:
            if self.format == "hdf5":
                data = self._member(episode, "observations")
                seen, steps = len(data), len(self._member(episode, "rewards"))
                fits = data.dtype == np.uint8 and (self._jpeg or data.shape[1:] == self._stored)
                whole = prod(data.chunks or (0,)) <= LARGEST_CHUNK and (fits or (self._jpeg and data.dtype == object))
            else:
                seen = self._rows(episode)
                steps, whole = seen - 1, True
            if seen != steps + 1 or not 1 <= steps <= LONGEST or len(self._ids) > MOST_EPISODES or not whole:
                raise ValueError(f"{seen:,} observations and {steps:,} rewards, T+1 and T are meant")
            return steps
        except Exception as error:
            raise self._damaged(episode, error) from error

    def _member(self, episode: int, name: str) -> h5py.Dataset:
        if self._file is None:
            self._file = h5py.File(self._folder / "main_data.hdf5", "r", rdcc_nbytes=CACHE, rdcc_nslots=10_007)
        return own_member(own_member(self._file, f"episode_{self._ids[episode]}", self.where), name, self.where)

    def _table(self, episode: int) -> Any:
        import pyarrow.dataset

        folder = self._folder / str(self._ids[episode])
        return pyarrow.dataset.dataset(folder, format=self.format, exclude_invalid_files=False, ignore_prefixes=["m"])

    def _rows(self, episode: int) -> int:
        """Rows of arrow or parquet files; counting those of arrow, pyarrow would read them."""
        import pyarrow

        table, count = self._table(episode), 0
        if self.format == "parquet":
            return int(table.count_rows())
        for path in table.files:
            with pyarrow.memory_map(path) as file:
                count += sum(len(batch) for batch in _batches(file))
        return count

    def _blocks(self, episode: int) -> Iterator[NDArray[np.uint8]]:
        for column in self._slices(episode):
            if self._jpeg:
                yield np.stack([self._picture(np.frombuffer(each.as_buffer(), np.uint8)) for each in column])
            else:
                yield column.flatten().to_numpy().reshape(-1, *self._stored).copy()

    def _slices(self, episode: int) -> Iterator[Any]:
        """The column of observations by a few rows. An arrow file is mapped anew for each, else all of it stays."""
        import pyarrow
        import pyarrow.parquet

        files = self._table(episode).files
        if self.format == "parquet":
            for path in files:  # a data set of pyarrow's would hold all rows, and ask for more ahead
                table = pyarrow.parquet.ParquetFile(path, pre_buffer=False, buffer_size=1 << 20)
                for batch in table.iter_batches(ROWS, columns=["observations"], use_threads=False):
                    yield batch.column(0)
            return
        for path in files:
            with pyarrow.memory_map(path) as file:
                counts = [len(batch) for batch in _batches(file)]
            for number, rows in enumerate(counts):
                for start in range(0, rows, ROWS):
                    with pyarrow.memory_map(path) as file:
                        yield _batches(file)[number].column("observations")[start : start + ROWS]

    def _picture(self, packed: NDArray[np.uint8]) -> NDArray[np.uint8]:
        """One JPEG; refused before it is unpacked where its size is another than that of the set."""
        from PIL import Image

        with Image.open(io.BytesIO(packed.tobytes()), formats=["JPEG"]) as image:
            if (image.height, image.width) != self.shape[:2]:
                raise ValueError(f"a picture of {image.height}x{image.width} in a set of {self.shape}")
            return np.asarray(image, np.uint8)

    def _damaged(self, episode: int, error: BaseException) -> WorldlineError:
        if may_pass(error):
            return not_now(self.where, error)
        if isinstance(error, WorldlineError):
            return error
        why = one_line(error)[:160] or type(error).__name__
        return self._refusal(f"cannot be read in episode {self._ids[episode]}", why)

    def _refusal(self, what: str, why: str) -> WorldlineError:
        return WorldlineError(f"{self.where} {what} ({why}): copy or record it again")


def _batches(file: Any) -> list[Any]:
    import pyarrow.ipc

    found = pyarrow.ipc.open_file(file)
    return [found.get_batch(number) for number in range(found.num_record_batches)]


def _states_a_format(path: Path) -> bool:
    if not path.is_file() or path.stat().st_size > LARGEST_METADATA:
        return False
    return b'"data_format"' in path.read_bytes()
