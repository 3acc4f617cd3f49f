"""What a golden file of the original holds: its model, its batch, and the options it was recorded with.

Weights tell sizes and the kind of critic; what leaves no trace in them (heads, whether task embeddings are used, loss
weights, penalty) is read from the recorded numbers. Format: arrays named `weights/jowa/*` with the released
checkpoints' names, `batch/*`, and outputs `forward/*`, `loss/STAGE/*`, `plan/GAME/STEPS/*`, `imagine/*`.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace

import numpy as np
import torch
from torch import Tensor

from models.api import Batch
from models.jowa.config import JowaConfig
from models.jowa.model import Jowa
from models.jowa.names import load_released, released_weights
from models.parity import compare

WEIGHTS = "weights/jowa/"


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
        """The recorded batch. Its tokens are those of `forward/tokens`, which the original encoded from its frames."""
        steps_BTK = self.tensor("forward/tokens").unflatten(1, (-1, self.model.config.tokens_per_step))
        return Batch(
            tokens_BTK=steps_BTK[:, :, :-1],
            actions_BT=self.tensor("batch/actions"),
            rewards_BT=self.tensor("batch/rewards"),
            ends_BT=self.tensor("batch/ends"),
            mask_BT=self.tensor("batch/mask_padding"),
            games_B=self.tensor("batch/games"),
        )


def as_tensor(array: np.ndarray) -> Tensor:
    """A copy: arrays of a file are read-only."""
    return torch.from_numpy(np.array(array))


def read_model(arrays: Mapping[str, np.ndarray]) -> Jowa:
    """The recorded weights in the model that gives `forward/hidden`, where it is recorded, in eval mode.

    Raises ValueError where weights are missing or do not fit together.
    """
    named = {name.removeprefix(WEIGHTS): array for name, array in arrays.items() if name.startswith(WEIGHTS)}
    weights = released_weights({name: as_tensor(array) for name, array in named.items()})
    first: Jowa | None = None
    for config in _candidates(config_from_weights({name: array.shape for name, array in named.items()}), arrays):
        model = Jowa(config).eval()
        load_released(model, weights)
        first = first or model
        if "forward/hidden" not in arrays or _fits(model, arrays):
            return model
    assert first is not None, "there is always the default"
    return first


def _fits(model: Jowa, arrays: Mapping[str, np.ndarray]) -> bool:
    with torch.no_grad():
        outputs = model(as_tensor(arrays["forward/tokens"]), as_tensor(arrays["forward/games"]), heads=())
    return compare("forward/hidden", outputs.hidden_BLD.numpy(), arrays["forward/hidden"]).ok


def _candidates(config: JowaConfig, arrays: Mapping[str, np.ndarray]) -> Iterator[JowaConfig]:
    """Configurations that the weights do not tell apart, likeliest first.

    The original keeps tables of task embeddings among its weights even where it does not use them.
    """
    config = _with_loss_weights(config, arrays)
    others = [heads for heads in range(1, config.width + 1) if config.width % heads == 0 and heads != config.heads]
    for heads in (config.heads, *others):
        yield replace(config, heads=heads)
    if config.task_embedding:
        for heads in (config.heads, *others):
            yield replace(config, heads=heads, task_embedding=False)


def _with_loss_weights(config: JowaConfig, arrays: Mapping[str, np.ndarray]) -> JowaConfig:
    """Weights of the penalty and of the world model's terms as the recorded losses, float32, show them."""
    alpha = arrays.get("loss/stage2/info/alpha")
    first, second = (arrays.get(f"loss/{stage}/loss_obs") for stage in ("stage1", "stage2"))
    if alpha is not None:
        config = replace(config, cql_weight=float(f"{float(alpha):.6g}"))
    if first is not None and second is not None and float(first):
        config = replace(config, world_weight=float(f"{float(second) / float(first):.5g}"))
    return config


def config_from_weights(shapes: Mapping[str, tuple[int, ...]]) -> JowaConfig:
    """The configuration that gives a state_dict of these names and shapes, as `released_weights` names them.

    The original's index buffers, where present, tell the tokens of a step. What leaves no trace keeps its default:
    dropout, weights of losses, 36 tokens a frame without buffers. Heads leave none either: the released models have
    one for 64 of width, the golden files' tiny ones 2. Raises ValueError naming a weight that is missing.
    """
    try:
        vocab_size, width = shapes["embedder.embedding_tables.1.weight"]
        num_actions = shapes["embedder.embedding_tables.0.weight"][0]
        num_q, q_hidden, _ = shapes["head_q.head_module.params.0"]
        outputs = shapes["head_q.head_module.params.9"][1] // num_actions
        task_embedding = "task_emb.embedding_tables.0.weight" in shapes
        per_frame = JowaConfig.tokens_per_frame
        if "head_observations.indices" in shapes and "head_q.indices" in shapes:
            per_frame = shapes["head_observations.indices"][0] // shapes["head_q.indices"][0]
        return JowaConfig(
            vocab_size=vocab_size,
            tokens_per_frame=per_frame,
            max_steps=shapes["pos_emb.weight"][0] // (per_frame + 1),
            layers=len({name.split(".")[2] for name in shapes if name.startswith("transformer.blocks.")}),
            heads=width // 64 if width % 64 == 0 and width > 64 else 2,
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
