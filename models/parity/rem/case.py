"""The inputs of a golden file of REM as objects of ours: an agent with the recorded weights, batches, draws.

Shapes: B segments or N rows, T steps, K tokens a frame.
"""

from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from models.api import Batch
from models.parity.golden_file import GoldenFile
from models.parity.learning import Training
from models.parity.rem.config import Recording, rem_config
from models.practice.draws import Given
from models.rem.agent import RemAgent
from models.rem.config import RemConfig
from models.rem.state_dict import NAMES


@dataclass(frozen=True)
class Case:
    """A file with its networks, in eval mode. No caller may change these."""

    golden: GoldenFile
    config: RemConfig
    training: Mapping[str, Training]
    recording: Recording
    agent: RemAgent

    @classmethod
    def of(cls, golden: GoldenFile) -> "Case":
        """Read the file. Raises ValueError or KeyError where its config or weights are damaged or do not fit."""
        config, training, recording = rem_config(golden.config)
        case = cls(golden, config, training, recording, RemAgent(config))
        for name in case.agent.networks:
            case.restore(name)
        return case

    def restore(self, name: str) -> nn.Module:
        """A network with the recorded weights, which training may have changed."""
        network = self.agent.networks[name]
        NAMES.load_original(name, network, self.golden.tensors(f"weights/{name}/"))
        return network.eval()

    def frames(self, name: str) -> Tensor:
        """Recorded frames (..., C, H, W) as floats in [0, 1]."""
        return self.golden.tensor(name).float() / 255

    def batch(self, name: str) -> Batch:
        """A network's segments, with the tokens of their frames. Raises ValueError for actions that there are not."""
        actions = f"batch/{name}/actions"
        self.golden.classes(actions, tuple(self.golden.tensor(actions).shape), self.actions)
        return self.golden.segments(name, self.agent.tokenizer.encode_tokens)

    @property
    def actions(self) -> int:
        """How many there are."""
        return self.config.actor_critic.num_actions

    @property
    def rows(self) -> int:
        """N of what acts and imagines."""
        return len(self.golden.tensor("batch/actor_critic/actions"))

    def draws(self) -> Given:
        """What was drawn in `imagine`, step by step; the last step has no tokens. ValueError where it does not fit."""
        config, steps_NH = self.config, (self.rows, self.config.imagined_steps)
        tokens_NHK = (self.rows, config.imagined_steps - 1, config.tokenizer.tokens_per_frame)
        kinds: dict[str, tuple[str, tuple[int, ...], int]] = {
            "actions": ("actions", steps_NH, self.actions),
            "rewards": ("rewards_class", steps_NH, 3),
            "ends": ("ends", steps_NH, 2),
            "tokens": ("tokens", tokens_NHK, config.tokenizer.vocab_size),
        }
        found = {
            kind: self.golden.classes(f"draws/imagine/{name}", shape, count)
            for kind, (name, shape, count) in kinds.items()
        }
        return Given(**{kind: list(each.unbind(1)) for kind, each in found.items()})


def stacked(states: tuple[Tensor, ...]) -> Tensor:
    """States of all layers, or the one tensor of a memory that has one."""
    return torch.stack(states) if len(states) > 1 else states[0]
