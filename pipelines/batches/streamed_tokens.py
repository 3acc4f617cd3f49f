"""Tokens that are read in their bucket, as the cache has no room for them: the rows of a batch, or all at once.

A zarr array over files that are opened where they lie (`Artefact.sources`), whose bytes are verified as they come. What
a batch reads costs about one block of the bucket a segment, so whoever has the memory for all rows takes `whole`.
Letters: N frames of a game, K tokens a frame.
"""

import asyncio
import os
from collections.abc import Mapping
from typing import Any

import numpy as np
import zarr
from fsspec.asyn import AsyncFileSystem
from numpy.typing import NDArray
from zarr.storage import FsspecStore

from pipelines.store.artefact import Streamed


class StreamedTokens:
    """Tokens (N, K) uint16, read like an array: `tokens[rows]`. May be pickled, and used after a fork.

    files: those of the zarr array, by their names in it. Raises BucketError, in one line, for what the bucket does not
    give, and for what is not what was stored.
    """

    def __init__(self, files: Mapping[str, Streamed]) -> None:
        self._files = dict(files)
        self._array: Any = None
        self._owner = 0
        self.shape: tuple[int, int] = self._opened().shape

    def __len__(self) -> int:
        return self.shape[0]

    @property
    def nbytes(self) -> int:
        """Of all rows in memory."""
        return self.shape[0] * self.shape[1] * np.dtype(np.uint16).itemsize

    def __getitem__(self, rows: NDArray[np.int64]) -> NDArray[np.uint16]:
        """(*rows.shape, K) for rows of any shape and order. Each chunk that holds some of them is decoded once."""
        wanted, places = np.unique(rows, return_inverse=True)
        found: NDArray[np.uint16] = self._opened().oindex[wanted]
        return found[places.reshape(rows.shape)]

    def whole(self) -> NDArray[np.uint16]:
        """(N, K), in memory."""
        found: NDArray[np.uint16] = self._opened()[:]
        return found

    def _opened(self) -> Any:
        if self._array is None or self._owner != os.getpid():  # the threads that read it do not survive a fork
            store = FsspecStore(_Files(self._files), read_only=True, allowed_exceptions=(FileNotFoundError,))
            self._array, self._owner = zarr.open_array(store, mode="r", zarr_format=3), os.getpid()
        return self._array

    def __getstate__(self) -> dict[str, Any]:
        return self.__dict__ | {"_array": None}


class _Files(AsyncFileSystem):
    """As much of a file system as zarr reads from: byte ranges of files, several at a time."""

    cachable = False  # fsspec would give everybody the first of them

    def __init__(self, files: Mapping[str, Streamed]) -> None:
        super().__init__(asynchronous=True)
        self._files = files
        self._ends: dict[tuple[str, int], bytes] = {}  # indices of shards: each is asked for with each of its chunks

    async def _cat_file(self, path: str, start: int | None = None, end: int | None = None, **kwargs: Any) -> bytes:
        if path not in self._files:
            raise FileNotFoundError(path)  # to zarr, a chunk that is all zeros
        first = start or 0
        if first >= 0:
            return await asyncio.to_thread(self._read, path, first, end)
        if (path, first) not in self._ends:
            self._ends[path, first] = await asyncio.to_thread(self._read, path, first, None)
        return self._ends[path, first]

    def _read(self, path: str, start: int, end: int | None) -> bytes:
        with self._files[path].open() as file:
            size = file.seek(0, os.SEEK_END)
            first = start if start >= 0 else max(size + start, 0)
            file.seek(first)
            return file.read((size if end is None else min(end, size)) - first) or b""
