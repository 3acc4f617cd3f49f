"""`worldline parity`: our models against a golden file, entry by entry.

A golden file is an .npz with config, weights, inputs and outputs of an original's code on tiny models. Every entry is
read as an input or compared as an output (`models/parity/check.py`).
"""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import torch

from models.parity.check import FAMILIES, Check, check
from pipelines.errors import BAD_NPZ, UsageError
from pipelines.redact import one_line

MOST_BYTES = 4 << 30  # unpacked: what is compressed could swell to anything


def check_file(path: Path) -> list[Check]:
    """All checks of one file. Raises UsageError where it is no golden file, or a damaged one."""
    arrays = _read(path)
    try:
        with _one_thread():
            return check(arrays)
    except (LookupError, ValueError, RuntimeError, TypeError, AttributeError, ArithmeticError, MemoryError) as error:
        # A stranger's arrays of any type and shape meet torch here, which raises all of these.
        families = ", ".join(FAMILIES)
        raise UsageError(
            f"{path} cannot be checked: {_why(error)}; give a whole golden file of a family known here ({families})"
        ) from None


def _read(path: Path) -> dict[str, np.ndarray]:
    try:
        loaded = np.load(path, mmap_mode="r", allow_pickle=False)
        if isinstance(loaded, np.ndarray):
            raise ValueError("a single array")
        with loaded as file:
            if (size := sum(entry.file_size for entry in file.zip.infolist())) > MOST_BYTES:
                raise ValueError(f"{size} bytes unpacked, {MOST_BYTES} at most")
            return {name: file[name] for name in file.files}
    except (OSError, MemoryError, *BAD_NPZ) as error:
        raise UsageError(
            f"{path} is no readable .npz file ({_why(error)}): give a golden file such as tests/golden/*.npz"
        ) from None


def _why(error: BaseException) -> str:
    """One line, even of torch's longest message."""
    words = one_line(error)[:200]
    if "allow_pickle" in words:  # numpy's advice to load what is no archive unsafely is not passed on
        return "it is no archive of arrays"
    return f"it or its meta/config lacks {words}" if isinstance(error, KeyError) else words


@contextmanager
def _one_thread() -> Iterator[None]:
    """Networks this small gain nothing by more threads, and lose a lot where other work holds the cores."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(before)
