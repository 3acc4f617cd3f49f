"""One .npz archive of NumPy's that somebody else wrote, compressed or not: nothing is unpickled or taken on trust.

A header is read and held against the archive's own directory before anything is allocated, so that an archive which
inflates to much more than it weighs costs what its header states and no more. `NpzFile(path, names, sliced)`.
"""

import zipfile
from collections.abc import Callable, Collection, Iterator
from math import prod
from pathlib import Path
from typing import IO, Any

import numpy as np
from numpy.typing import NDArray

MOST_MEMBERS = 1 << 12
ROWS = 64  # of the sliced array, read at a time


class NpzFile:
    """Of an archive those arrays that are `names`; of them `sliced`, uint8, is read in slices of its rows.

    `stated`: shape and dtype of each, before anything is read. Raises one of `errors.BAD_NPZ` for what is damaged,
    holds objects, lies in Fortran's order, or has another size than it states.
    """

    def __init__(self, file: Path | IO[bytes], names: Collection[str], sliced: str) -> None:
        self._zip, self._sliced = zipfile.ZipFile(file), sliced
        members = self._zip.infolist()
        if len(members) > MOST_MEMBERS:
            raise ValueError(f"{len(members):,} members, at most {MOST_MEMBERS:,} are read")
        self.members = tuple(info.filename.removesuffix(".npy") for info in members)
        self.stated = {name: self._header(name)[:2] for name in self.members if name in names}
        self._forward = Forward(self._blocks)

    def whole(self, name: str) -> NDArray[Any]:
        """A small array."""
        shape, dtype, at = self._header(name)
        with self._zip.open(f"{name}.npy") as file:
            return np.frombuffer(file.read()[at:], dtype).reshape(shape)

    def rows(self, start: int, stop: int) -> NDArray[np.uint8]:
        """Rows start .. stop-1 of the array that is read in slices. Raises StopIteration for more than there are."""
        return self._forward.read(start, stop)

    def close(self) -> None:
        """Let go of the file."""
        self._zip.close()

    def _header(self, name: str) -> tuple[tuple[int, ...], np.dtype, int]:
        """Shape, dtype, and where the values begin. Raises ValueError for objects and for another size than stated."""
        info = self._zip.getinfo(f"{name}.npy")
        with self._zip.open(info) as file:
            version = np.lib.format.read_magic(file)
            read = {(1, 0): np.lib.format.read_array_header_1_0, (2, 0): np.lib.format.read_array_header_2_0}
            if version not in read:
                raise ValueError(f"{info.filename} is of version {version} of NumPy's format")
            shape, columns_first, dtype = read[version](file)
            at = file.tell()
        if dtype.hasobject:
            raise ValueError(f"{info.filename} holds objects, and nothing is unpickled: write it as plain numbers")
        if columns_first and len(shape) > 1:
            raise ValueError(f"{info.filename} lies in Fortran's order: write it by np.ascontiguousarray")
        if info.file_size != at + prod(shape) * dtype.itemsize:
            raise ValueError(f"{info.filename} states {shape} {dtype} and has {info.file_size - at:,} bytes")
        return tuple(shape), dtype, at

    def _blocks(self) -> Iterator[NDArray[np.uint8]]:
        shape, _, at = self._header(self._sliced)
        with self._zip.open(f"{self._sliced}.npy") as file:
            file.read(at)
            for start in range(0, shape[0], ROWS):
                count = min(ROWS, shape[0] - start)
                data = file.read(count * prod(shape[1:]))
                yield np.frombuffer(data, np.uint8).reshape(count, *shape[1:])


class Forward:
    """Rows of what can be read from its beginning only. `blocks()` begins anew and yields them in their order."""

    def __init__(self, blocks: Callable[[], Iterator[NDArray[np.uint8]]]) -> None:
        self._begin, self._at, self._blocks = blocks, 0, blocks()
        self._block: NDArray[np.uint8] = np.zeros(0, np.uint8)

    def read(self, start: int, stop: int) -> NDArray[np.uint8]:
        """Rows start .. stop-1, all of which must be there; going back begins anew."""
        if start < self._at:
            self._at, self._blocks, self._block = 0, self._begin(), self._block[:0]
        parts, at = [], start
        while at < stop:
            while self._at + len(self._block) <= at:
                self._at += len(self._block)
                self._block = next(self._blocks)
            parts.append(self._block[at - self._at : stop - self._at])
            at += len(parts[-1])
        return np.concatenate(parts) if parts else self._block[:0]
