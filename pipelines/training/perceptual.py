"""The tokenizer's optional perceptual term: LPIPS from a weights file of one's own, named by its sha256.

The digest decides what is trained and is part of the artefact's key; where the file lies is not. Any file will do that
holds VGG16's and LPIPS's tensors under their usual names: safetensors, or a torch checkpoint, such as a released JOWA
tokenizer; read with `weights_only`, so nothing in it is run.
"""

import hashlib
import re
from pathlib import Path

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor

from models.losses.lpips import Lpips
from pipelines.errors import UsageError, WorldlineError
from pipelines.training.device import Device
from pipelines.training.torch_file import read_data


def load_lpips(file: str, sha256: str, device: Device) -> Lpips | None:
    """The distance on its device; None where neither file nor digest is given.

    Raises UsageError when one of the two is missing, the file is another one, or it holds no LPIPS weights.
    """
    if not file and not sha256:
        return None
    if not file:
        raise UsageError(f"LPIPS weights of sha256 {sha256} are wanted: say where they lie (pretrain.lpips_file=PATH)")
    path = Path(file)
    try:
        with path.open("rb") as opened:
            found = hashlib.file_digest(opened, "sha256").hexdigest()
    except OSError as error:
        raise UsageError(f"LPIPS weights {file} cannot be read ({error.strerror}): give a file") from error
    if found != sha256:
        wanted = f"not {sha256}" if re.fullmatch("[0-9a-f]{64}", sha256) else "which the config must name"
        raise UsageError(f"LPIPS weights {file} have sha256 {found}, {wanted}: set pretrain.lpips_sha256={found}")
    try:
        return Lpips(_tensors(path)).to(torch.device(device.name))
    except ValueError as error:
        raise UsageError(f"{file}: {error}: give a state_dict with VGG16's and LPIPS's weights") from error


def _tensors(path: Path) -> dict[str, Tensor]:
    try:
        if path.suffix == ".safetensors":
            return load_file(path)
        data = read_data(path)
    except WorldlineError as error:
        raise UsageError(f"LPIPS weights: {error}") from error
    except (SafetensorError, OSError) as error:
        raise ValueError(f"no weights can be read ({' '.join(str(error).split())[:120]})") from error
    if not isinstance(data, dict):
        raise ValueError(f"it holds a {type(data).__name__}, not a state_dict")
    return {name: tensor for name, tensor in data.items() if isinstance(name, str) and isinstance(tensor, Tensor)}
