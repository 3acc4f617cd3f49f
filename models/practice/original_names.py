"""Weights under the names of an original's checkpoints, there and back, for families whose modules share these names.

What an original keeps besides are buffers that its own loader wants and that we compute, and LPIPS weights inside the
tokenizer, which are dropped. Its file is one flat state_dict of all networks, each behind its name: `tokenizer.`,
`world_model.`, `actor_critic.`. A family's `state_dict.py` is an `OriginalNames`.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from models.blocks.weights import copied_weights, load_exactly, network_part, released_weights

Weights = Mapping[str, Tensor]


def unchanged(weights: Weights) -> dict[str, Tensor]:
    """The same names."""
    return dict(weights)


@dataclass(frozen=True)
class OriginalNames:
    """How a family's networks are called in the original's files.

    buffers: of a network, what the original keeps besides its weights. otherwise: what it means where a file has one of
    these with other numbers, in words. own: weights under our names, of theirs. theirs: the other way round.
    """

    buffers: Callable[[nn.Module], dict[str, Tensor]]
    otherwise: str
    own: Callable[[Weights], dict[str, Tensor]] = unchanged
    theirs: Callable[[Weights], dict[str, Tensor]] = unchanged

    def own_weights(self, network: str, state_dict: Weights) -> dict[str, Tensor]:
        """A network's weights, of its own state_dict or of a whole checkpoint; buffers and LPIPS are dropped."""
        return self.own(released_weights(network_part(network, state_dict)))

    def load_original(self, name: str, network: nn.Module, state_dict: Weights) -> None:
        """Load a network's weights as `own_weights` finds them, all or, with a ValueError that says why, none.

        Where the file has buffers too they must be ours, or the weights would mean something else here.
        """
        theirs = network_part(name, state_dict)
        for place, ours in self.buffers(network).items():
            if place in theirs and not _same(theirs[place], ours):
                raise ValueError(f"'{place}' {self.otherwise}")
        load_exactly(network, self.own_weights(name, state_dict))

    def original_state_dict(self, network: nn.Module) -> dict[str, Tensor]:
        """Copies of a network's weights as the original's own loader wants them, but for LPIPS."""
        return self.theirs(copied_weights(network)) | self.buffers(network)


def _same(theirs: Tensor, ours: Tensor) -> bool:
    """Equal up to rounding, on another machine, of what was computed."""
    return theirs.shape == ours.shape and torch.allclose(theirs.double(), ours.double(), rtol=1e-5, atol=0)
