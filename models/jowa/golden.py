"""What a golden file of the original holds: its model, its batch, and the options it was recorded with.

Weights tell sizes and the kind of critic; what leaves no trace in them (heads, whether task embeddings are used, loss
weights, penalty) is read from the recorded numbers. What leaves a trace nowhere is the paper's: the support [-10, 30],
gamma 0.99, 1 % dropout in the Q heads. Format: arrays named `weights/jowa/*` with the released checkpoints' names,
`batch/*`, and outputs `forward/*`, `loss/STAGE/*`, `plan/GAME/STEPS/*`, `imagine/*`; any of the outputs may be absent,
and numbers may be of any width.
"""

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace

import numpy as np
import torch
from torch import Tensor

from models.api import Batch
from models.jowa.config import JowaConfig
from models.jowa.model import Head, Jowa
from models.jowa.state_dict import load_released, released_weights
from models.parity import TOLERANCE, compare
from models.tokenizers.parity import read_tokenizer

WEIGHTS = "weights/jowa/"
# Recorded numbers that tell what weights leave open, and the heads which they come from.
TELLING: dict[str, tuple[Head, ...]] = {
    "forward/hidden": (),
    "forward/logits_observations": ("observations",),
    "forward/logits_rewards": ("rewards",),
    "forward/logits_ends": ("ends",),
}


@dataclass(frozen=True)
class Golden:
    """A file's arrays, and its model in eval mode. `legal_GA` (bool) has a row without True for an unknown game."""

    arrays: Mapping[str, np.ndarray]
    model: Jowa
    legal_GA: Tensor
    game_ids: Mapping[str, int]

    def tensor(self, name: str) -> Tensor:
        """An entry. Raises KeyError where there is none."""
        return as_tensor(self.arrays[name])

    def entries(self, prefix: str) -> list[str]:
        """Names that begin so, in the file's order."""
        return [name for name in self.arrays if name.startswith(prefix)]

    def batch(self) -> Batch:
        """The recorded batch. Raises KeyError where a part of it is missing."""
        return Batch(
            tokens_BTK=self._tokens(),
            actions_BT=self.tensor("batch/actions"),
            rewards_BT=self.tensor("batch/rewards"),
            ends_BT=self.tensor("batch/ends"),
            mask_BT=self.tensor("batch/mask_padding").bool(),
            games_B=self.tensor("batch/games"),
        )

    def _tokens(self) -> Tensor:
        """Those of `forward/tokens` where it is of this batch; else what the tokenizer makes of the frames."""
        actions_BT, per_step = self.tensor("batch/actions"), self.model.config.tokens_per_step
        if "forward/tokens" in self.arrays:
            tokens_BL = self.tensor("forward/tokens")
            if torch.equal(tokens_BL[:, per_step - 1 :: per_step], actions_BT):
                return tokens_BL.unflatten(1, (-1, per_step))[:, :, :-1]
        return read_tokenizer(self.arrays).eval().encode_tokens(self.tensor("batch/observations"))


def as_tensor(array: np.ndarray) -> Tensor:
    """A copy, because arrays of a file are read-only, of the type that networks read: float32, int64, bool or uint8."""
    tensor = torch.from_numpy(np.array(array))
    if tensor.is_floating_point():
        return tensor.float()
    return tensor if tensor.dtype in (torch.bool, torch.uint8) else tensor.long()


def read_model(arrays: Mapping[str, np.ndarray]) -> Jowa:
    """The recorded weights in the model that comes nearest to the recorded `forward/*`, in eval mode.

    Raises ValueError where weights are missing or do not fit together.
    """
    named = {name.removeprefix(WEIGHTS): array for name, array in arrays.items() if name.startswith(WEIGHTS)}
    weights = released_weights({name: as_tensor(array) for name, array in named.items()})
    shapes = {name: array.shape for name, array in named.items()}
    tried: list[tuple[float, Jowa]] = []
    for config in _candidates(config_from_weights(shapes, _tokens_per_frame(arrays))):
        model = Jowa(config).eval()
        load_released(model, weights)
        tried.append((_error(model, arrays), model))
        if tried[-1][0] <= TOLERANCE:
            break
    return min(tried, key=lambda one: one[0])[1]


def _error(model: Jowa, arrays: Mapping[str, np.ndarray]) -> float:
    """How far the model is from the first of the recorded numbers that tell; 0 where there are none."""
    telling = next((name for name in TELLING if name in arrays), None)
    if telling is None or not {"forward/tokens", "forward/games"} <= arrays.keys():
        return 0.0
    heads = TELLING[telling]
    with torch.no_grad():
        outputs = model(as_tensor(arrays["forward/tokens"]), as_tensor(arrays["forward/games"]), heads=heads)
    ours = outputs.logits[heads[0]] if heads else outputs.hidden_BLD
    error = compare(telling, ours.numpy(), arrays[telling]).error
    return math.inf if math.isnan(error) else error


def _tokens_per_frame(arrays: Mapping[str, np.ndarray]) -> int | None:
    """As the recorded sequences show it: one action follows a frame's tokens. None where nothing shows it."""
    if "forward/tokens" in arrays and "forward/logits_rewards" in arrays:
        return arrays["forward/tokens"].shape[1] // arrays["forward/logits_rewards"].shape[1] - 1
    return arrays["tokenizer/tokens"].shape[-1] if "tokenizer/tokens" in arrays else None


def _candidates(config: JowaConfig) -> Iterator[JowaConfig]:
    """Configurations that the weights do not tell apart, likeliest first.

    The original keeps tables of task embeddings among its weights even where it does not use them.
    """
    others = [heads for heads in range(1, config.width + 1) if config.width % heads == 0 and heads != config.heads]
    for task_embedding in (True, False) if config.task_embedding else (False,):
        for heads in (config.heads, *others):
            yield replace(config, heads=heads, task_embedding=task_embedding)


def config_from_weights(shapes: Mapping[str, tuple[int, ...]], tokens_per_frame: int | None = None) -> JowaConfig:
    """The configuration that gives a state_dict of these names and shapes, as `released_weights` names them.

    The original's index buffers, where present, tell the tokens of a step, else `tokens_per_frame`. What leaves no
    trace keeps its default: dropout, weights of losses, 36 tokens a frame. Heads leave none either: the released models
    have one for 64 of width, the golden files' tiny ones 2. Raises ValueError naming a weight that is missing.
    """
    try:
        vocab_size, width = shapes["embedder.embedding_tables.1.weight"]
        num_actions = shapes["embedder.embedding_tables.0.weight"][0]
        num_q, q_hidden, _ = shapes["head_q.head_module.params.0"]
        outputs = shapes["head_q.head_module.params.9"][1] // num_actions
        task_embedding = "task_emb.embedding_tables.0.weight" in shapes
        per_frame = tokens_per_frame or JowaConfig.tokens_per_frame
        if "head_observations.indices" in shapes and "head_q.indices" in shapes:
            per_frame = shapes["head_observations.indices"][0] // shapes["head_q.indices"][0]
        return JowaConfig(
            vocab_size=vocab_size,
            tokens_per_frame=per_frame,
            max_steps=shapes["pos_emb.weight"][0] // (per_frame + 1),
            layers=len({name.split(".")[2] for name in shapes if name.startswith("transformer.blocks.")}),
            heads=width // 64 if width % 64 == 0 and width > 64 else math.gcd(width, 2),
            width=width,
            num_q=num_q,
            q_hidden=q_hidden,
            num_actions=num_actions,
            num_games=shapes["task_emb.embedding_tables.0.weight"][0] if task_embedding else JowaConfig.num_games,
            task_embedding=task_embedding,
            critic="c51" if outputs > 1 else "mse",
            atoms=outputs if outputs > 1 else JowaConfig.atoms,
        )
    except (KeyError, IndexError) as missing:
        raise ValueError(f"These are not a JOWA's weights: {missing} is missing") from missing
