"""An HDF5 file to be written, on a disk that may run full.

HDF5 writes much of a file only when it is closed, and crashes the process when the disk refuses that. So it writes
through a file of ours, which swallows the first refusal and all that follows, and raises it once HDF5 has let go.
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import h5py


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
