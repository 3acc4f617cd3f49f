"""Stage `imported`: a released JOWA checkpoint as safetensors under our config, ready to be evaluated and fine-tuned.

Run: `worldline import-jowa --tokenizer tokenizer.pt --model JOWA_150M.pt --size 150m`.
"""

from pathlib import Path

import torch
from torch import Tensor, nn

from models.jowa.golden import config_from_weights as jowa_config
from models.jowa.model import Jowa
from models.jowa.names import load_released, original_state_dict, released_weights
from models.tokenizers.parity import config_from_weights as tokenizer_config
from models.tokenizers.vq import Tokenizer
from pipelines.configs.released import ReleasedConfig
from pipelines.errors import UsageError, WorldlineError
from pipelines.store.draft import Draft
from pipelines.store.hashing import sha256_of
from pipelines.store.report import Report
from pipelines.store.store import Store
from pipelines.training import checkpoint
from pipelines.training.torch_file import read_state_dict

# What tells one JOWA from another in words.
SIZES = ("layers", "width", "num_q", "q_hidden", "vocab_size", "max_steps", "task_embedding", "critic")
TOKENIZER_SIZES = ("vocab_size", "embed_dim", "z_channels", "channels", "channel_mult", "downsample", "quantizer")


def run(config: ReleasedConfig, store: Store) -> Report:
    """Import the two files that `config` names, or find their artefact."""
    return store.produce(config.spec(), lambda draft: _build(config, draft))


def _build(config: ReleasedConfig, draft: Draft) -> None:
    tokenizer, model = Tokenizer(config.tokenizer), Jowa(config.model)
    same = True
    for file, sha256, network, name in (
        (config.tokenizer_file, config.tokenizer_sha256, tokenizer, checkpoint.TOKENIZER),
        (config.model_file, config.model_sha256, model, checkpoint.MODEL),
    ):
        path = _named(file, sha256)
        weights = read_state_dict(path)
        _load(network, weights, path)
        checkpoint.save(draft.path(name), network, network.config)
        draft.roots.append({"file": path.name, "sha256": sha256, "bytes": path.stat().st_size})
        same = same and _comes_back(network, weights)
    draft.counts |= {
        "parameters": sum(parameter.numel() for parameter in model.parameters()),
        "tokenizer_parameters": sum(parameter.numel() for parameter in tokenizer.parameters()),
    }
    draft.check("round_trip", same, "every weight of both files comes back under its name, bit for bit", blocking=True)


def _named(file: str, sha256: str) -> Path:
    """The file that the config means. Raises UsageError where it is not given, not there, or another one."""
    if not file:
        raise UsageError(
            f"The checkpoint of sha256 {sha256} is not in this store: bring it with 'worldline import-jowa'"
        )
    path = Path(file)
    try:
        found = sha256_of(path)
    except OSError as error:
        raise UsageError(f"{file} cannot be read ({error.strerror}): give a checkpoint's file") from error
    if found != sha256:
        raise UsageError(f"{file} has sha256 {found}, not {sha256}: it is another file, import it as such")
    return path


def _load(network: Tokenizer | Jowa, weights: dict[str, Tensor], path: Path) -> None:
    try:
        load_released(network, weights)
    except ValueError as error:
        message = f"{path}: {error}"
        if found := _other_sizes(network, weights):
            message = f"{path} holds {found}: choose the --size it was trained with"
        raise WorldlineError(message) from error


def _other_sizes(network: Tokenizer | Jowa, weights: dict[str, Tensor]) -> str:
    """What the weights look like where they are of the same family but another size, in words; else nothing."""
    family, names = ("JOWA", SIZES) if isinstance(network, Jowa) else ("tokenizer", TOKENIZER_SIZES)
    try:
        shapes = {name: tuple(tensor.shape) for name, tensor in released_weights(weights).items()}
        theirs = jowa_config(shapes) if isinstance(network, Jowa) else tokenizer_config(shapes)
    except ValueError:
        return ""
    pairs = [(name, getattr(theirs, name), getattr(network.config, name)) for name in names]
    differ = [f"{name} {found} where {ours} is asked for" for name, found, ours in pairs if found != ours]
    return f"another {family}: {', '.join(differ)}" if differ else ""


def _comes_back(network: nn.Module, weights: dict[str, Tensor]) -> bool:
    """Whether what the export would write holds every weight that was taken from the file unchanged."""
    written = {name: tensor for name, tensor in original_state_dict(network).items() if name in network.state_dict()}
    return all(
        torch.equal(written[name], tensor.to(written[name].dtype))
        for name, tensor in released_weights(weights).items()
        if name in written
    )
