"""Networks at rest: safetensors with their config in the header. Nothing is ever unpickled."""

import json
from dataclasses import asdict
from pathlib import Path
from typing import Any, TypeVar

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import load_file, save_file
from torch import nn

from models.jowa.config import JowaConfig
from models.jowa.model import Jowa
from models.tokenizers.config import TokenizerConfig
from models.tokenizers.vq import Tokenizer
from pipelines.errors import WorldlineError
from pipelines.training.device import Device

Module = TypeVar("Module", bound=nn.Module)
Config = TypeVar("Config", TokenizerConfig, JowaConfig)
TOKENIZER, MODEL = "tokenizer.safetensors", "model.safetensors"


def save(path: Path, module: nn.Module, config: Any) -> None:
    """Write all weights and buffers, with the config as JSON in the header."""
    tensors = {name: tensor.detach().cpu().contiguous() for name, tensor in module.state_dict().items()}
    save_file(tensors, path, metadata={"config": json.dumps(asdict(config), sort_keys=True)})


def load_tokenizer(path: Path, device: Device) -> Tokenizer:
    """The frozen tokenizer of a `pretrained` artefact, in eval mode. Raises WorldlineError for a damaged file."""
    return _load(Tokenizer(_config(path, TokenizerConfig)), path, device)


def load_model(path: Path, device: Device) -> Jowa:
    """A JOWA in eval mode. Raises WorldlineError for a damaged file."""
    return _load(Jowa(_config(path, JowaConfig)), path, device)


def trainable(model: Jowa) -> None:
    """Let a loaded model learn again; its target head stays frozen."""
    for name, parameter in model.named_parameters():
        parameter.requires_grad_(not name.startswith("head_q_target."))


def _load(module: Module, path: Path, device: Device) -> Module:
    try:
        module.load_state_dict(load_file(path))
    except (SafetensorError, RuntimeError, OSError) as error:
        why = " ".join(str(error).split())[:200]  # torch names every weight, a line each
        raise WorldlineError(f"{path} does not hold this network ({why}): make its artefact again") from error
    for parameter in module.parameters():
        parameter.requires_grad_(False)
    return module.to(torch.device(device.name)).eval()


def _tuples(value: Any) -> Any:
    """Lists of JSON as the tuples that they were."""
    return tuple(_tuples(item) for item in value) if isinstance(value, list) else value


def _config(path: Path, kind: type[Config]) -> Config:
    try:
        with safe_open(path, framework="pt") as file:
            data = json.loads(file.metadata()["config"])
        fields: dict[str, Any] = {name: _tuples(value) for name, value in data.items()}
        return kind(**fields)
    except (SafetensorError, OSError, KeyError, TypeError, ValueError, AttributeError) as error:
        raise WorldlineError(f"{path} is no network of Worldline ({error}): make its artefact again") from error
