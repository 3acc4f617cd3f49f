"""REM's weights under the names of the original's checkpoints, there and back.

Our modules use the same names. What the original keeps besides are the angles of its rotation, which its own loader
wants, and LPIPS weights inside the tokenizer, which are dropped. Its `last.pt` is one flat state_dict of all networks,
each behind its name: `tokenizer.`, `world_model.`, `actor_critic.`.
Checkpoints from before February 2024 have a decoder of 32 norm groups in the same shapes: they decode differently with
8, so that one says `tokenizer.decoder_groups=32` for these.
"""

import re
from collections.abc import Mapping

import torch
from torch import Tensor, nn

from models.blocks.retnet import angles
from models.blocks.weights import copied_weights, load_exactly, network_part, released_weights
from models.rem.world_model import WorldModel

THETAS = re.compile(r"^_model\.layers\.\d+\.retention\.thetas$")


def own_weights(network: str, state_dict: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """A network's weights, of its own state_dict or of a whole checkpoint; buffers and LPIPS are dropped."""
    weights = released_weights(network_part(network, state_dict))
    return {name: each for name, each in weights.items() if not THETAS.match(name)}


def load_original(name: str, network: nn.Module, state_dict: Mapping[str, Tensor]) -> None:
    """Load a network's weights as `own_weights` finds them, all or, with a ValueError that says why, none.

    Where the file has angles too they must be ours, or the weights would mean something else here.
    """
    theirs = network_part(name, state_dict)
    for place, ours in thetas(network).items() if isinstance(network, WorldModel) else ():
        if place in theirs and not torch.allclose(theirs[place].double(), ours.double(), rtol=1e-5, atol=0):
            raise ValueError(f"'{place}' turns tokens by other angles than a REM's: these weights are another model's")
    load_exactly(network, own_weights(name, state_dict))


def original_state_dict(network: nn.Module) -> dict[str, Tensor]:
    """Copies of a network's weights as the original's own loader wants them, but for LPIPS."""
    weights = copied_weights(network)
    return weights | thetas(network) if isinstance(network, WorldModel) else weights


def thetas(model: WorldModel) -> dict[str, Tensor]:
    """The angles that the original keeps in every layer."""
    found_E = angles(model.config.width // model.config.heads).float()
    return {f"_model.layers.{layer}.retention.thetas": found_E.clone() for layer in range(model.config.layers)}
