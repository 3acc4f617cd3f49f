"""Stage `imported`: a released JOWA checkpoint as safetensors under our config, ready to be evaluated and fine-tuned.

Run: `worldline import-jowa --tokenizer tokenizer.pt --model JOWA_150M.pt --size 150m`.
"""

import re
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar

from models.jowa.config import JowaConfig
from models.tokenizers.config import TokenizerConfig
from pipelines.errors import UsageError, WorldlineError
from pipelines.store.artefact import Draft, Report
from pipelines.store.files import sha256_of
from pipelines.store.stage_config import StageConfig, manner
from pipelines.store.store import Store

if TYPE_CHECKING:
    from torch import Tensor, nn

    from models.jowa.model import Jowa
    from models.tokenizers.vq import Tokenizer


@dataclass(frozen=True)
class ReleasedConfig(StageConfig):
    """Weights that someone else trained, as an artefact of ours. Where the files lie decides nothing.

    `name` and the networks' sizes are the recipe's.
    """

    STAGE: ClassVar[str] = "imported"
    CODE: ClassVar[str] = "1"
    CHECKS: ClassVar[tuple[str, ...]] = ("round_trip",)

    tokenizer_sha256: str = ""
    model_sha256: str = ""
    tokenizer_file: str = manner("")
    model_file: str = manner("")
    name: str = ""
    tokenizer: TokenizerConfig = field(default_factory=TokenizerConfig)
    model: JowaConfig = field(default_factory=JowaConfig)

    def __post_init__(self) -> None:
        for field_name in ("tokenizer_sha256", "model_sha256"):
            if not re.fullmatch("[0-9a-f]{64}", getattr(self, field_name)):
                raise UsageError(
                    f"{field_name} is '{getattr(self, field_name)}': give the file's sha256, 64 hexadecimal digits"
                )

    @property
    def subject(self) -> str:
        return self.name


def run(config: ReleasedConfig, store: Store) -> Report:
    """Import the two files that `config` names, or find their artefact."""
    return store.produce(config.spec(), lambda draft: _build(config, draft))


def _build(config: ReleasedConfig, draft: Draft) -> None:
    from models.jowa.model import Jowa
    from models.tokenizers.vq import Tokenizer
    from pipelines.training import checkpoints as checkpoint
    from pipelines.training.weight_files import read_state_dict

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


def _load(network: "Tokenizer | Jowa", weights: "dict[str, Tensor]", path: Path) -> None:
    from models.jowa.state_dict import load_released

    try:
        load_released(network, weights)
    except ValueError as error:
        message = f"{path}: {error}"
        if found := _other_sizes(network, weights):
            message = f"{path} holds {found}: choose the --size it was trained with"
        raise WorldlineError(message) from error


def _other_sizes(network: "Tokenizer | Jowa", weights: "dict[str, Tensor]") -> str:
    """What the weights look like where they are of the same family but another size, in words; else nothing."""
    from models.jowa.model import Jowa
    from models.jowa.state_dict import jowa_sizes, released_weights, tokenizer_sizes

    family, sizes = ("JOWA", jowa_sizes) if isinstance(network, Jowa) else ("tokenizer", tokenizer_sizes)
    try:
        theirs = sizes({name: tuple(tensor.shape) for name, tensor in released_weights(weights).items()})
    except ValueError:
        return ""
    pairs = [(name, found, getattr(network.config, name)) for name, found in theirs.items()]
    differ = [f"{name} {found} where {ours} is asked for" for name, found, ours in pairs if found != ours]
    return f"another {family}: {', '.join(differ)}" if differ else ""


def _comes_back(network: "nn.Module", weights: "dict[str, Tensor]") -> bool:
    """Whether what the export would write holds every weight that was taken from the file unchanged."""
    import torch

    from models.jowa.state_dict import original_state_dict, released_weights

    written = {name: tensor for name, tensor in original_state_dict(network).items() if name in network.state_dict()}
    return all(
        torch.equal(written[name], tensor.to(written[name].dtype))
        for name, tensor in released_weights(weights).items()
        if name in written
    )
