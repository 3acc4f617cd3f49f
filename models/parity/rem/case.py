"""The inputs of a golden file of REM as objects of ours: an agent with the recorded weights, batches, draws.

Shapes: B segments or N rows, T steps, K tokens a frame.
"""

import torch
from torch import Tensor

from models.parity.blocks import BlockCase
from models.parity.golden_file import GoldenFile
from models.parity.rem.config import Recording, rem_config
from models.practice.draws import Given
from models.rem.agent import RemAgent
from models.rem.config import RemConfig


class Case(BlockCase[RemConfig, Recording, RemAgent]):
    """See `BlockCase`."""

    @classmethod
    def of(cls, golden: GoldenFile) -> "Case":
        """Read the file. Raises ValueError or KeyError where its config or weights are damaged or do not fit."""
        config, training, recording = rem_config(golden.config)
        case = cls(golden, config, training, recording, RemAgent(config))
        for name in case.agent.networks:
            case.restore(name)
        return case

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
