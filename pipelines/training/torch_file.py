"""Files that were saved with torch, by someone else or by a killed run, read as data: nothing in them is run.

Cost: as much memory as the file is large.
"""

import re
import warnings
import zipfile
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from pipelines.errors import WorldlineError

CODE = re.compile(r"(?:Unsupported (?:global|class)|GLOBAL|Trying to call reduce for)[: ]+(?:GLOBAL )?(\S+)")
# amid torch's advice to trust the file:
WHY = re.compile(r"WeightsUnpickler error: (.+?)(?= Check the documentation|$)")


def read_data(path: Path) -> Any:
    """Tensors, numbers, text and containers of them, as they were saved, on the CPU.

    Raises WorldlineError, in one line, for a file that is missing, damaged, packed so that it could swell, or that
    holds code.
    """
    try:
        path.open("rb").close()
    except OSError as error:
        raise WorldlineError(f"{path} cannot be read ({error.strerror}): give a checkpoint's file") from error
    try:
        _check_archive(path)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # about odd pickles; they are refused or read
            return torch.load(path, map_location="cpu", weights_only=True)
    except WorldlineError:
        raise
    except Exception as error:  # hostile bytes raise anything inside torch's unpickler
        text = " ".join(str(error).split())
        if found := CODE.search(text):
            raise WorldlineError(
                f"{path} holds more than tensors ('{found[1]}') and was refused, nothing in it was run: save its "
                "state_dict alone"
            ) from error
        why = found[1] if (found := WHY.search(text)) else text
        raise WorldlineError(
            f"{path} is no torch checkpoint, or a damaged one ({type(error).__name__}: {why[:120]}): download it again"
        ) from error


def read_state_dict(path: Path) -> dict[str, Tensor]:
    """The tensors of a torch checkpoint by name, on the CPU.

    Raises WorldlineError where `read_data` does, for anything but a mapping of names to tensors, and for weights that
    are not finite.
    """
    data = read_data(path)
    if not isinstance(data, dict) or not data:
        raise WorldlineError(f"{path} holds a {type(data).__name__}, not weights by name: save a state_dict")
    for name, tensor in data.items():
        if not isinstance(name, str) or not isinstance(tensor, Tensor):
            raise WorldlineError(
                f"{path} holds a {type(tensor).__name__} under '{name}', not a tensor: save the network's state_dict "
                "alone, one file for the tokenizer and one for the model"
            )
        if tensor.is_floating_point() and not bool(tensor.isfinite().all()):
            raise WorldlineError(f"{path}: weight '{name}' holds a number that is not finite: download the file again")
    return data


def _check_archive(path: Path) -> None:
    """torch.load compares no checksums, and torch.save never compresses: what is compressed is not from there."""
    if not zipfile.is_zipfile(path):  # the format before torch 1.6, or no checkpoint: torch.load will tell
        return
    with zipfile.ZipFile(path) as archive:
        for entry in archive.infolist():
            if entry.compress_type != zipfile.ZIP_STORED:
                raise WorldlineError(f"{path} is compressed inside, which torch never does: save it with torch.save")
        if (damaged := archive.testzip()) is not None:
            raise WorldlineError(f"{path} is damaged ('{damaged}' has another checksum): download it again")
