"""Weights that someone else saved: torch's files and LPIPS weights, read as data; nothing in them is run.

LPIPS weights are named by their sha256, which decides what is trained and is part of the artefact's key; where the
file lies is not. Any file will do that holds VGG16's and LPIPS's tensors under their usual names: safetensors, or a
torch checkpoint, such as a released JOWA tokenizer. Reading a file takes as much memory as the file is large.
"""

import re
import warnings
import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor

from models.api import Agent
from pipelines.errors import UsageError, WorldlineError, may_pass, not_now
from pipelines.redact import one_line
from pipelines.store.files import named_file

CODE = re.compile(r"(?:Unsupported (?:global|class)|GLOBAL|Trying to call reduce for)[: ]+(?:GLOBAL )?(\S+)")

# amid torch's advice to trust the file:
WHY = re.compile(r"WeightsUnpickler error: (.+?)(?= Check the documentation|$)")


def read_data(path: Path) -> Any:
    """Tensors, numbers, text and containers of them, as they were saved, on the CPU.

    Raises WorldlineError, in one line, for a file that is missing, damaged, packed so that it could swell, or that
    holds code; MayPass where the disk or the memory failed, whatever the file is.
    """
    try:
        path.open("rb").close()
    except OSError as error:
        if may_pass(error):
            raise not_now(path, error) from error
        raise WorldlineError(f"{path} cannot be read ({error.strerror}): give a checkpoint's file") from error
    try:
        _check_archive(path)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # about odd pickles; they are refused or read
            return torch.load(path, map_location="cpu", weights_only=True)
    except WorldlineError:
        raise
    except Exception as error:  # hostile bytes raise anything inside torch's unpickler
        if may_pass(error):
            raise not_now(path, error) from error
        text = one_line(error)
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


def comes_back(agent: Agent, network: str, weights: Mapping[str, Tensor], scratch: Path) -> bool:
    """Whether a network, exported under the original's names and read back from the disk, holds these very weights.

    `weights` are a file's, with whatever that file holds besides; what the network does not take is not compared.
    """
    path = scratch / f"{network}.pt"
    torch.save(agent.original_state_dict(network), path)
    written = read_state_dict(path)
    path.unlink()
    taken = agent.original_weights(network, weights)
    return bool(taken) and all(
        name in written and torch.equal(written[name], tensor.to(written[name].dtype)) for name, tensor in taken.items()
    )


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


def outside_weights(wanted: Mapping[str, tuple[str, str]]) -> dict[str, dict[str, Tensor]]:
    """By name, the tensors of the files of others that a training wants (`Family.outside`).

    Raises UsageError as `named_file` does, and for a file that holds no weights.
    """
    return {name: _weights(name, named_file(name, file, sha256)) for name, (file, sha256) in wanted.items()}


def _weights(name: str, path: Path) -> dict[str, Tensor]:
    try:
        return _tensors(path)
    except ValueError as error:
        raise UsageError(f"{path}: {error}: give a state_dict of the {name.upper()} weights") from error


def _tensors(path: Path) -> dict[str, Tensor]:
    try:
        if path.suffix == ".safetensors":
            return load_file(path)
        data = read_data(path)
    except WorldlineError as error:
        raise UsageError(f"Weights of others: {error}") from error
    except (SafetensorError, OSError) as error:
        raise ValueError(f"no weights can be read ({one_line(error)[:120]})") from error
    if not isinstance(data, dict):
        raise ValueError(f"it holds a {type(data).__name__}, not a state_dict")
    return {name: tensor for name, tensor in data.items() if isinstance(name, str) and isinstance(tensor, Tensor)}
