"""Networks at rest: written as safetensors with their config in the header, kept on the way, and loaded to play.

`checkpoints/step-N/` holds a run's networks under the names that they have in the artefact; `checkpoints/index.json`
lists them with their returns: the newest few, and the best few by what they returned in play. They lie in the scratch
folder while a run goes on and in its artefact in the end. Nothing is ever unpickled.
"""

import json
import re
import shutil
from collections.abc import Callable, Iterable, Mapping
from dataclasses import asdict, dataclass, field
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
from pipelines.errors import UsageError, WorldlineError
from pipelines.store.artefact import Artefact
from pipelines.store.ref import Ref
from pipelines.training.config import LoopConfig
from pipelines.training.device import Device
from pipelines.training.distributed.ranks import ALONE, Ranks

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


FOLDER = "checkpoints"

INDEX = "index.json"


def kept_folder(step: int) -> str:
    """Where the checkpoint of a step lies, below the scratch folder or the artefact."""
    return f"{FOLDER}/step-{step}"


def kept_steps(names: Iterable[str]) -> list[int]:
    """The steps of the checkpoints among an artefact's files, in order."""
    found = (re.match(rf"{FOLDER}/step-(\d+)/", name) for name in names)
    return sorted({int(each[1]) for each in found if each})


@dataclass(frozen=True)
class Kept:
    """One checkpoint: steps done, mean return by game where it was played, and whether it is among the best."""

    step: int
    returns: Mapping[str, float] = field(default_factory=dict)
    best: bool = False

    @property
    def score(self) -> float:
        """What `best` goes by: the mean over games."""
        return sum(self.returns.values()) / len(self.returns)


@dataclass(frozen=True)
class Keeper:
    """Makes, plays and drops checkpoints under `scratch`.

    save: writes the networks into a folder. play: mean returns by game, called on all ranks; None where a run has
    nothing that plays. Raises UsageError when plays are asked for and there is none.
    """

    scratch: Path
    loop: LoopConfig
    save: Callable[[Path], None]
    play: Callable[[], Mapping[str, float]] | None = None
    ranks: Ranks = ALONE

    def __post_init__(self) -> None:
        if self.loop.evaluate_every and self.play is None:
            raise UsageError(
                f"loop.evaluate_every is {self.loop.evaluate_every}, but nothing that this stage trains can play: "
                "set it for the train stage"
            )

    @property
    def folder(self) -> Path:
        """Where they lie while the run goes on."""
        return self.scratch / FOLDER

    def after(self, step: int) -> bool:
        """Keep a checkpoint if one is due after `step` steps; tells whether it was, the same on all ranks."""
        played = self.loop.evaluate_every and step % self.loop.evaluate_every == 0
        if not played and not (self.loop.checkpoint_every and step % self.loop.checkpoint_every == 0):
            return False
        returns = self.play() if played and self.play else {}
        if self.ranks.first:
            aside = self.folder / f".step-{step}"
            shutil.rmtree(aside, ignore_errors=True)
            aside.mkdir(parents=True)
            self.save(aside)
            shutil.rmtree(self._place(step), ignore_errors=True)
            aside.rename(self._place(step))
            self._settle([*(each for each in self.kept() if each.step != step), Kept(step, returns)])
        return True

    def kept(self) -> list[Kept]:
        """What there is, oldest first."""
        path = self.folder / INDEX
        return [Kept(**entry) for entry in json.loads(path.read_text())] if path.exists() else []

    def forget_after(self, step: int) -> None:
        """Drop checkpoints that a resumed run will make again."""
        if self.ranks.first and self.folder.exists():
            self._settle([each for each in self.kept() if each.step <= step])

    def copy_to(self, artefact: Path) -> None:
        """Put them into the finished artefact."""
        if self.folder.exists():
            shutil.copytree(self.folder, artefact / FOLDER, ignore=shutil.ignore_patterns(".*"), dirs_exist_ok=True)

    def _settle(self, found: list[Kept]) -> None:
        """Keep the newest and the best of `found`, which is in order; first the index, then the folders."""
        played = sorted((each for each in found if each.returns), key=lambda each: (each.score, each.step))
        best = {each.step for each in played[max(len(played) - self.loop.keep_best, 0) :]}
        last = {each.step for each in found[-self.loop.keep_last :]}
        left = [Kept(each.step, each.returns, each.step in best) for each in found if each.step in best | last]
        aside = self.folder / f".{INDEX}"
        aside.write_text(json.dumps([asdict(each) for each in left], indent=1) + "\n")
        aside.replace(self.folder / INDEX)
        known = {self._place(each.step) for each in left}
        for folder in self.folder.glob("step-*"):
            if folder not in known:
                shutil.rmtree(folder, ignore_errors=True)

    def _place(self, step: int) -> Path:
        return self.scratch / kept_folder(step)


class Networks:
    """Holds the newest pair only. Costs nothing until asked."""

    def __init__(self) -> None:
        self._of: tuple[str, str, Device, int] | None = None
        self._held: tuple[Tokenizer, Jowa] | None = None

    def load(
        self,
        game: str,
        checkpoint: Ref | None,
        holder: Ref | None,
        opened: Mapping[Ref, Artefact],
        device: Device,
        step: int = 0,
    ) -> tuple[Tokenizer, Jowa]:
        """Tokenizer and model that play `game`, in eval mode; `holder` has the tokenizer where `checkpoint` does not.

        `step` takes them as they were after so many steps, where training kept that; 0 as they are at the end.
        Raises UsageError where there is no such checkpoint or no tokenizer, WorldlineError for a damaged file.
        """
        if checkpoint is None:
            raise UsageError(f"Scores of {game} need a checkpoint: name its artefact")
        model, tokenizer = opened[checkpoint], opened[holder or checkpoint]
        if TOKENIZER not in tokenizer.names():
            raise UsageError(
                f"{tokenizer.ref} holds no tokenizer, without which {game} cannot be seen: name the artefact of the "
                "tokenizer that its model was trained with"
            )
        if step and step not in (kept := kept_steps(model.names())):
            choices = f"choose of {', '.join(map(str, kept))}" if kept else "it keeps none (loop.checkpoint_every)"
            raise UsageError(
                f"{model.ref} keeps no checkpoint of step {step}: {choices}, or set evaluate.step=0, the finished one"
            )
        wanted = (model.digest, tokenizer.digest, device, step)
        if self._held is None or wanted != self._of:
            self._held = None  # before the next ones take as much memory again
            self._of = wanted
            eyes = _path(tokenizer, TOKENIZER, step if tokenizer is model else 0)
            self._held = load_tokenizer(eyes, device), load_model(_path(model, MODEL, step), device)
        return self._held


def _path(artefact: Artefact, name: str, step: int) -> Path:
    """One network's file: of the checkpoint kept at `step` where that holds it, else the finished one."""
    kept = f"{kept_folder(step)}/{name}"
    return artefact.path(kept if step and kept in artefact.names() else name)
