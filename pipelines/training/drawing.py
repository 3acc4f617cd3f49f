"""Batches that are drawn from the episodes of one game, which may still grow; each objective draws by its own rule.

A rule of `batches.sampler.RULES` draws by the seed and the step alone. One of `batches.memory.MEMORIES` remembers: its
memory stands at the step that is learned next, follows every draw, and is a part of the training's state.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from pipelines.batches.loader import BatchSource
from pipelines.batches.memory import MEMORIES, Draws, Episodes, Memory
from pipelines.episodes.trajectories import TrajectoryReader

if TYPE_CHECKING:
    from pipelines.batches.sampler import Sampler
    from pipelines.episodes.experience import Experience


@dataclass(frozen=True)
class Drawing:
    """What objectives draw from `reader`, by a rule each; `rules` names them by objective.

    kept: the first episodes, the only ones that are drawn from; None for all that there are. growing: the reader, where
    it is played into while it is learned from.
    """

    reader: TrajectoryReader
    seed: int
    rules: Mapping[str, str] = field(default_factory=dict)  # "episodes" where it names none
    draws: Draws = field(default_factory=Draws)
    kept: int | None = None
    memory: NDArray[np.uint8] | None = None  # all frames, where they are kept in memory
    growing: "Experience | None" = None
    _memories: dict[str, Memory] = field(default_factory=dict, init=False)
    _samplers: dict[str, "Sampler"] = field(default_factory=dict, init=False)

    def __post_init__(self) -> None:
        for name, rule in self.rules.items():
            if rule in MEMORIES:
                self._memories[name] = MEMORIES[rule](self.draws)

    def segments(
        self, name: str, count: int, length: int, padding: str, least: int = 1, anywhere: bool = False
    ) -> BatchSource:
        """What an objective of that name reads: `count` segments a step, of `least` real steps or more."""
        from pipelines.batches.sampler import SampledSegments

        return SampledSegments(self._sampler(name, count, length, padding, least, anywhere))

    def frames(self, name: str, count: int, discount: float | None = None) -> BatchSource:
        """What an objective of that name reads: `count` single frames a step, with returns by a discount if any."""
        from pipelines.batches.sampler import SampledFrames

        return SampledFrames(self._sampler(name, count, 1, "right"), discount)

    def by_losses(self, name: str) -> bool:
        """Whether a batch of this objective can only be drawn when the one before it was learned from."""
        return self.rules.get(name) == "losses"

    def begin(self, name: str, step: int) -> None:
        """The objective goes on at `step`, with the episodes that there are now."""
        if name not in self._memories:
            return
        starts = self.reader.episode_starts[: None if self.kept is None else self.kept + 1]
        lasting = np.arange(starts[-1]) if self.growing is None else self.growing.lasting
        first_turn = self.growing is not None and self.growing.turns == 1
        sampler = self._samplers[name]
        there = Episodes(starts, lasting, first_turn, sampler.least, sampler.padding == "left")
        self._memories[name].begin(step, there)

    def follow(self, name: str, losses_B: NDArray[np.float32] | None) -> None:
        """The batch of the step where the objective stands was learned from; losses: of each of its segments."""
        if name in self._memories:
            sampler = self._samplers[name]
            self._memories[name].follow(sampler.count, sampler.stream, losses_B)

    def remembered(self) -> "Remembered | None":
        """What belongs to the training's state; None where no rule remembers anything."""
        return Remembered(self._memories) if self._memories else None

    def _sampler(
        self, name: str, count: int, length: int, padding: str, least: int = 1, anywhere: bool = False
    ) -> "Sampler":
        from pipelines.batches.sampler import Sampler

        rule, remembers = self.rules.get(name, "episodes"), self._memories.get(name)
        self._samplers[name] = Sampler(
            self.reader,
            name,
            count,
            self.seed,
            length,
            padding,
            rule,
            self.kept,
            self.memory,
            remembers,
            least,
            anywhere,
        )
        return self._samplers[name]


class Remembered(nn.Module):
    """Memories by objective, as a module without weights, so that they are saved and restored with the networks."""

    def __init__(self, memories: Mapping[str, Memory]) -> None:
        super().__init__()
        self._memories = memories

    def get_extra_state(self) -> dict[str, dict[str, Any]]:
        """Tensors by objective and name."""
        return {
            name: {part: torch.from_numpy(array.copy()) for part, array in memory.state().items()}
            for name, memory in self._memories.items()
        }

    def set_extra_state(self, state: Any) -> None:
        """Go on from what `get_extra_state` gave."""
        for name, memory in self._memories.items():
            memory.restore({part: tensor.numpy() for part, tensor in state[name].items()})
