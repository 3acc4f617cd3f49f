"""The inputs of a golden file of JOWA as objects of ours: networks with the recorded weights, batches, legal actions.

Shapes: B segments, T steps, N rows, H x W pixels, G games, A actions.
"""

from dataclasses import dataclass

import torch
from torch import Tensor

from models.api import Batch, mixed
from models.jowa.config import JowaConfig
from models.jowa.model import Jowa
from models.jowa.state_dict import load_released
from models.parity.golden_file import GoldenFile
from models.parity.jowa.config import model_config, tokenizer_config
from models.tokenizers.config import TokenizerConfig
from models.tokenizers.vq import Tokenizer


@dataclass(frozen=True)
class Case:
    """A file with its networks, in eval mode, as the file's options `action` have them. No caller may change these."""

    golden: GoldenFile
    model: Jowa
    tokenizer: Tokenizer
    commitment_beta: float
    legal_GA: Tensor

    @classmethod
    def of(cls, golden: GoldenFile) -> "Case":
        """Read the file. Raises ValueError or KeyError where its config or weights are damaged or do not fit."""
        tokenizer, beta = tokenizer_config(golden.config)
        model, _ = model_config(golden.config, golden.config["action"])
        legal_GA = torch.zeros(model.num_games, model.num_actions, dtype=torch.bool)
        for game in golden.config["games"].values():
            legal_GA[game["id"], game["legal"]] = True
        return cls(golden, new_model(golden, model).eval(), new_tokenizer(golden, tokenizer).eval(), beta, legal_GA)

    def batch(self) -> Batch:
        """The real segments."""
        return self._batch("batch/")

    def batch_with_imagined(self) -> Batch:
        """The real segments, then the imagined ones."""
        return mixed(self.batch(), self._batch("batch/imagined/"))

    def _batch(self, prefix: str) -> Batch:
        tensor = self.golden.tensor
        return Batch(
            tokens_BTK=tensor(f"{prefix}tokens"),
            actions_BT=tensor(f"{prefix}actions"),
            rewards_BT=tensor(f"{prefix}rewards"),
            ends_BT=tensor(f"{prefix}ends"),
            mask_BT=tensor(f"{prefix}mask_padding").bool(),
            games_B=tensor(f"{prefix}envs"),
        )

    def game(self, name: str) -> int:
        """The id of a game that the file names. Raises KeyError for another."""
        return int(self.golden.config["games"][name]["id"])


def new_tokenizer(golden: GoldenFile, config: TokenizerConfig) -> Tokenizer:
    """A tokenizer with the recorded weights. Raises ValueError where they do not fit."""
    tokenizer = Tokenizer(config)
    load_released(tokenizer, golden.tensors("weights/tokenizer/"))
    return tokenizer


def new_model(golden: GoldenFile, config: JowaConfig) -> Jowa:
    """A JOWA with the recorded weights. Raises ValueError where they do not fit."""
    model = Jowa(config)
    load_released(model, golden.tensors("weights/jowa/"))
    return model
