"""`worldline parity`: our tokenizer and JOWA against a golden file, entry by entry.

A golden file is an .npz with weights, inputs and outputs of the original on tiny models. About 3 s a file.
"""

import zipfile
from pathlib import Path

import numpy as np

from models.jowa import parity as jowa
from models.parity import Check
from models.tokenizers import parity as tokenizer
from pipelines.atari.actions import minimal_actions
from pipelines.atari.games import GAMES
from pipelines.errors import UsageError


def check_file(path: Path) -> list[Check]:
    """All checks of one file. Raises UsageError when it is not a golden file."""
    try:
        loaded = np.load(path, allow_pickle=False)
        if isinstance(loaded, np.ndarray):
            raise ValueError("a single array")
        with loaded as file:
            arrays = {name: file[name] for name in file.files}
    except (OSError, ValueError, zipfile.BadZipFile, EOFError) as error:
        raise UsageError(
            f"{path} is no readable .npz file ({error}): give a golden file such as tests/golden/*.npz"
        ) from None
    try:
        return [*tokenizer.check(arrays), *jowa.check(arrays, GAMES, minimal_actions)]
    except (KeyError, ValueError, IndexError, RuntimeError, TypeError, ZeroDivisionError) as error:
        # A stranger's arrays of any type and shape meet torch here, which raises all of these.
        why = " ".join(str(error).split())[:200]
        raise UsageError(
            f"{path} is no golden file ({why}): it needs weights/tokenizer, weights/jowa, inputs, outputs"
        ) from None
