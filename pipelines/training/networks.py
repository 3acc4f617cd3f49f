"""The networks of a checkpoint, loaded once for all the games that it plays in a process."""

from collections.abc import Mapping

from models.jowa.model import Jowa
from models.tokenizers.vq import Tokenizer
from pipelines.errors import UsageError
from pipelines.store.artefact import Artefact
from pipelines.store.ref import Ref
from pipelines.training.checkpoint import MODEL, TOKENIZER, load_model, load_tokenizer
from pipelines.training.device import Device


class Networks:
    """Holds the newest pair only. Costs nothing until asked."""

    def __init__(self) -> None:
        self._of: tuple[str, str, Device] | None = None
        self._held: tuple[Tokenizer, Jowa] | None = None

    def load(
        self, game: str, checkpoint: Ref | None, holder: Ref | None, opened: Mapping[Ref, Artefact], device: Device
    ) -> tuple[Tokenizer, Jowa]:
        """Tokenizer and model that play `game`, in eval mode; `holder` has the tokenizer where `checkpoint` does not.

        Raises UsageError where there is no checkpoint or no tokenizer, WorldlineError for a damaged file.
        """
        if checkpoint is None:
            raise UsageError(f"Scores of {game} need a checkpoint: name its artefact")
        model, tokenizer = opened[checkpoint], opened[holder or checkpoint]
        if TOKENIZER not in tokenizer.names():
            raise UsageError(
                f"{tokenizer.ref} holds no tokenizer, without which {game} cannot be seen: name the artefact of the "
                "tokenizer that its model was trained with"
            )
        wanted = (model.digest, tokenizer.digest, device)
        if self._held is None or wanted != self._of:
            self._held = None  # before the next ones take as much memory again
            self._of = wanted
            self._held = load_tokenizer(tokenizer.path(TOKENIZER), device), load_model(model.path(MODEL), device)
        return self._held
