"""The inputs of a golden file of Delta-IRIS as objects of ours: an agent with the recorded weights, batches, draws.

Shapes: B segments or N rows, T steps, C x R x R frames, K tokens a change.
"""

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor, nn

from models.api import Batch, Learning
from models.delta_iris.agent import DeltaIrisAgent, changes
from models.delta_iris.config import DeltaIrisConfig
from models.delta_iris.state_dict import NAMES
from models.delta_iris.tokenizer import Change
from models.parity.delta_iris.config import Training, delta_iris_config
from models.parity.golden_file import GoldenFile
from models.parity.learning import restored
from models.practice.draws import Given

NETWORKS = ("tokenizer", "world_model", "actor_critic")


@dataclass(frozen=True)
class Case:
    """A file with its networks, in eval mode. No caller may change these."""

    golden: GoldenFile
    config: DeltaIrisConfig
    training: Training
    agent: DeltaIrisAgent

    @classmethod
    def of(cls, golden: GoldenFile) -> "Case":
        """Read the file. Raises ValueError or KeyError where its config or weights are damaged or do not fit."""
        config, training = delta_iris_config(golden.config)
        agent = DeltaIrisAgent(config)
        agent.start(Learning(0, torch.ones(0, 0, dtype=torch.bool)), NETWORKS)
        case = cls(golden, config, training, agent)
        for name in NETWORKS:
            case.restore(name)
        return case

    def restore(self, name: str) -> nn.Module:
        """A network with the recorded weights, which training may have changed."""
        return restored(NAMES, name, self.agent.networks[name], self.golden)

    def batch(self, name: str) -> Batch:
        """A network's segments, with their frames."""
        return self.golden.segments(name)

    def change(self) -> Change:
        """Those of the tokenizer's segments, row by row: they are the world model's."""
        return changes(
            self.golden.frames("batch/world_model/observations"), self.golden.tensor("batch/world_model/actions")
        )

    def draws(self, name: str, *, actions: bool = False) -> Given:
        """What was drawn in `env` or `imagine`, step by step and token by token. Two-hot rewards are not drawn."""
        tensor = self.golden.tensor
        kinds = {"ends": "ends"} | ({"actions": "actions"} if actions else {})
        kinds |= {"rewards": "reward_classes"} if self.config.world_model.rewards == "sign" else {}
        given = {kind: list(tensor(f"draws/{name}/{entry}").unbind(1)) for kind, entry in kinds.items()}
        return Given(tokens=list(tensor(f"draws/{name}/latent_tokens").flatten(1).unbind(1)), **given)

    def shown(self, name: str) -> Tensor | None:
        """The frames (N, S, C, R, R) in [0, 1] that the original drew, where the file keeps all: a pixel at the edge
        of rounding may fall otherwise here, and what follows is to be compared all the same.
        """
        found = self.golden.arrays.get(name)
        sizes = self.config.tokenizer
        shape = (sizes.frame_channels, sizes.resolution, sizes.resolution)
        if found is None or found.dtype != "uint8" or found.shape[2:] != shape:
            return None
        return torch.from_numpy(np.array(found)).float() / 255
