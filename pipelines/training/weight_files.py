"""Weights that someone else saved: torch's files and LPIPS weights, read as data; nothing in them is run.

LPIPS weights are named by their sha256, which decides what is trained and is part of the artefact's key; where the
file lies is not. Any file will do that holds VGG16's and LPIPS's tensors under their usual names: safetensors, or a
torch checkpoint, such as a released JOWA tokenizer. Reading a file takes as much memory as the file is large.
"""

import json
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
from models.losses.frames import Lpips
from models.registry import family_of
from pipelines.errors import UsageError, WorldlineError, may_pass, not_now
from pipelines.redact import one_line
from pipelines.store.files import named_file

CODE = re.compile(r"(?:Unsupported (?:global|class)|GLOBAL|Trying to call reduce for)[: ]+(?:GLOBAL )?(\S+)")

FLOATS = {"float16": torch.float16, "bfloat16": torch.bfloat16, "float32": torch.float32, "float64": torch.float64}

DTYPES = "dtypes.json"
KEPT_LPIPS = re.compile(r"(?:.*\.)?(lpips\..+)")

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

    Raises WorldlineError where `read_data` does, for anything but a mapping of names to tensors, for tensors that are
    sparse, quantised, nested or without numbers, and for weights that are not finite.
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
        if kind := _unusual(tensor):
            raise WorldlineError(
                f"{path}: weight '{name}' is {kind}, not a plain array of numbers: save it as a dense float32 tensor"
            )
        if tensor.dtype in FLOATS.values() and not bool(tensor.isfinite().all()):
            raise WorldlineError(f"{path}: weight '{name}' holds a number that is not finite: download the file again")
    return data


def _unusual(tensor: Tensor) -> str:
    """What keeps a tensor from being a dense array of numbers; empty where nothing does."""
    if tensor.is_meta:
        return "on the device 'meta', without any numbers"
    if tensor.is_quantized:
        return f"quantised ({str(tensor.dtype).removeprefix('torch.')})"
    if tensor.is_nested:
        return "nested"
    return "" if tensor.layout == torch.strided else f"sparse ({str(tensor.layout).removeprefix('torch.')})"


def other_dtypes(agent: Agent, network: str, weights: Mapping[str, Tensor]) -> dict[str, str]:
    """By the original's name, the dtype of those of a file's tensors that are of another than the network's."""
    own = agent.original_state_dict(network)
    taken = agent.original_weights(network, weights)
    return {
        name: str(tensor.dtype).removeprefix("torch.")
        for name, tensor in taken.items()
        if name in own and own[name].dtype != tensor.dtype and tensor.dtype in FLOATS.values()
    }


def keep_dtypes(folder: Path, dtypes: Mapping[str, Mapping[str, str]]) -> None:
    """Note in an artefact, by network, what `other_dtypes` told; nothing where all are the networks' own."""
    if any(dtypes.values()):
        (folder / DTYPES).write_text(json.dumps(dtypes, indent=1, sort_keys=True) + "\n")


def kept_dtypes(folder: Path) -> dict[str, dict[str, str]]:
    """What `keep_dtypes` noted in an artefact's folder. Raises WorldlineError for a damaged note."""
    path = folder / DTYPES
    try:
        found = json.loads(path.read_text()) if path.exists() else {}
        sound = all(dtype in FLOATS for names in found.values() for dtype in names.values())
    except (ValueError, TypeError, AttributeError):
        sound = False
    if not sound:
        raise WorldlineError(f"{path} holds no dtypes by network and weight: delete its artefact and import it again")
    return found


def original_file(agent: Agent, network: str, dtypes: Mapping[str, str]) -> dict[str, Tensor]:
    """What the original's file of a network holds; `dtypes` are those of weights that are not the network's own."""
    weights = agent.original_state_dict(network)
    return weights | {name: weights[name].to(FLOATS[dtype]) for name, dtype in dtypes.items()}


def original_files(
    agent: Agent, dtypes: Mapping[str, Mapping[str, str]], lpips: Mapping[str, Tensor]
) -> dict[str, dict[str, Tensor]]:
    """The original's files of an agent by name: one a network, or one of all.

    dtypes: as `kept_dtypes` tells them. lpips: what goes out beside the tokenizer's weights (`lpips_of`), or nothing.
    """
    parts = {name: original_file(agent, name, dtypes.get(name, {})) for name in agent.networks}
    if lpips:
        parts["tokenizer"] |= lpips
    family = family_of(agent.config)
    if family.one_file:
        named = [(part, "" if family.whole_names else f"{name}.") for name, part in parts.items()]
        return {family.one_file: {before + key: tensor for part, before in named for key, tensor in part.items()}}
    return {f"{name}.pt": part for name, part in parts.items()}


def differences(written: Mapping[str, Tensor], weights: Mapping[str, Tensor]) -> list[str]:
    """The names of those of `weights` that `written` does not hold bit for bit, in the same dtype."""
    return [name for name, tensor in weights.items() if name not in written or not same_bits(written[name], tensor)]


def same_bits(one: Tensor, other: Tensor) -> bool:
    """Whether dtype, shape and every bit are equal, so that -0.0 is not 0.0."""
    if one.dtype != other.dtype or one.shape != other.shape:
        return False
    return torch.equal(*(each.detach().contiguous().reshape(-1).view(torch.uint8) for each in (one, other)))


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


def lpips_of(path: Path) -> dict[str, Tensor]:
    """LPIPS weights as the originals keep them with a tokenizer, by the names `lpips.*`, of any checkpoint with some.

    Raises WorldlineError as `read_state_dict`, UsageError for a file without them.
    """
    found = {place[1]: tensor for name, tensor in read_state_dict(path).items() if (place := KEPT_LPIPS.match(name))}
    if not found:
        raise UsageError(f"{path} holds no weight lpips.*: give a checkpoint that its original's own code wrote")
    try:
        Lpips(found)
    except ValueError as error:
        raise UsageError(f"{path}: {error}: give a checkpoint that its original's own code wrote") from error
    return found


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
