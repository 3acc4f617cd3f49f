"""The networks of a checkpoint, loaded once for all the games that it plays in a process."""

from collections.abc import Mapping
from pathlib import Path

from models.jowa.model import Jowa
from models.tokenizers.vq import Tokenizer
from pipelines.errors import UsageError
from pipelines.store.artefact import Artefact
from pipelines.store.ref import Ref
from pipelines.training.checkpoint import MODEL, TOKENIZER, load_model, load_tokenizer
from pipelines.training.device import Device
from pipelines.training.keep import kept_folder, kept_steps


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
