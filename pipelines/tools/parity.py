"""`worldline parity`: our tokenizer and JOWA against a golden file, entry by entry.

A golden file is an .npz with weights, inputs and outputs of the original on tiny models. What is in it is compared,
sections that it lacks are left out, and an entry that nothing here knows is named. Cost: 6 s of CPU time a file.
"""

import zipfile
import zlib
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import torch

from models.jowa import parity as jowa
from models.parity import Check, uncovered
from models.tokenizers import parity as tokenizer
from pipelines.environments.atari.games import GAMES, minimal_actions
from pipelines.errors import UsageError

MOST_BYTES = 4 << 30  # unpacked: what is compressed could swell to anything


def check_file(path: Path) -> list[Check]:
    """All checks of one file. Raises UsageError when it is not a golden file."""
    arrays = _read(path)
    try:
        with _one_thread():
            checks = _check(arrays)
    except (KeyError, ValueError, IndexError, RuntimeError, TypeError, ZeroDivisionError, MemoryError) as error:
        # A stranger's arrays of any type and shape meet torch here, which raises all of these.
        why = " ".join(str(error).split())[:200]
        raise UsageError(
            f"{path} is no golden file ({why}): it needs weights/tokenizer, weights/jowa, inputs, outputs"
        ) from None
    if not any(one.covered for one in checks):
        raise UsageError(f"{path} is no golden file: it records no output of a tokenizer or a JOWA")
    return checks


def _read(path: Path) -> dict[str, np.ndarray]:
    try:
        loaded = np.load(path, mmap_mode="r", allow_pickle=False)
        if isinstance(loaded, np.ndarray):
            raise ValueError("a single array")
        with loaded as file:
            if (size := sum(entry.file_size for entry in file.zip.infolist())) > MOST_BYTES:
                raise ValueError(f"{size} bytes unpacked, {MOST_BYTES} at most")
            return {name: file[name] for name in file.files}
    except (OSError, ValueError, zipfile.BadZipFile, zlib.error, EOFError, NotImplementedError, MemoryError) as error:
        why = " ".join(str(error).split())[:200]
        raise UsageError(
            f"{path} is no readable .npz file ({why}): give a golden file such as tests/golden/*.npz"
        ) from None


def _check(arrays: Mapping[str, np.ndarray]) -> list[Check]:
    checks = []
    if any(name.startswith((tokenizer.WEIGHTS, *tokenizer.SECTIONS)) for name in arrays):
        checks += tokenizer.check(arrays)
    if any(name.startswith((jowa.WEIGHTS, *jowa.SECTIONS)) for name in arrays):
        checks += jowa.check(arrays, GAMES, minimal_actions)
    return checks + uncovered(arrays, checks, f"{tokenizer.INPUTS}|{jowa.INPUTS}")


@contextmanager
def _one_thread() -> Iterator[None]:
    """Networks this small gain nothing by more, and lose a lot where other work holds the cores (92 s, not 8)."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(before)
