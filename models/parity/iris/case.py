"""The inputs of a golden file of IRIS as objects of ours: networks with the recorded weights, batches, draws.

Shapes: B segments or N rows, T steps, K tokens a frame, C x H x W frames.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from torch import nn

from models.api import Batch
from models.iris.config import IrisConfig
from models.iris.state_dict import NAMES
from models.iris.world import AnyWorldModel, new_world_model
from models.parity.golden_file import GoldenFile
from models.parity.learning import Training, restored
from models.practice.actor_critic import ActorCritic
from models.practice.draws import Given
from models.tokenizers.vq import Tokenizer

NONE = -1  # what a file records for a draw that was not made


@dataclass(frozen=True)
class Case:
    """A file with its networks, in eval mode. No caller may change these."""

    golden: GoldenFile
    config: IrisConfig
    training: Training
    tokenizer: Tokenizer
    world_model: AnyWorldModel
    actor_critic: ActorCritic

    @classmethod
    def of(cls, golden: GoldenFile, read: Callable[[Mapping[str, Any]], tuple[IrisConfig, Training]]) -> "Case":
        """Read the file. Raises ValueError or KeyError where its config or weights are damaged or do not fit."""
        config, training = read(golden.config)
        networks = (Tokenizer(config.tokenizer), new_world_model(config.world_model), ActorCritic(config.actor_critic))
        case = cls(golden, config, training, *networks)
        for name in ("tokenizer", "world_model", "actor_critic"):
            case.restore(name)
        return case

    def restore(self, name: str) -> nn.Module:
        """A network with the recorded weights, which training may have changed."""
        return restored(NAMES, name, getattr(self, name), self.golden)

    def recorded(self, name: str, usual: int, axis: int = 0) -> int:
        """How many of its frames the file keeps in this entry."""
        return self.golden.arrays[name].shape[axis] if name in self.golden.arrays else usual

    def world_batch(self) -> Batch:
        """The world model's segments, with the tokens of their frames."""
        return self.golden.segments("world_model", self.tokenizer.encode_tokens)

    def draws(self, name: str, *, actions: bool = False) -> Given:
        """What was drawn in `env` or `imagine`, step by step and token by token; a token is drawn K times a step.

        The last step, which wants no next frame, has tokens where all of them were drawn.
        """
        tensor = self.golden.tensor
        kinds = {"rewards": "reward_classes", "ends": "ends"} | ({"actions": "actions"} if actions else {})
        given = {kind: list(tensor(f"draws/{name}/{entry}").unbind(1)) for kind, entry in kinds.items()}
        tokens_NTK = tensor(f"draws/{name}/obs_tokens")
        if not bool((tokens_NTK[:, :-1] > NONE).all()):
            raise ValueError(f"draws/{name}/obs_tokens lacks tokens of a step before the last")
        drawn_NTK = tokens_NTK if bool((tokens_NTK > NONE).all()) else tokens_NTK[:, :-1]
        return Given(tokens=list(drawn_NTK.flatten(1).unbind(1)), **given)
