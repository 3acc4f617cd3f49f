"""REM's weights under the names of the original's checkpoints: see `OriginalNames`.

What the original keeps besides weights are the angles of its rotation. Checkpoints from before February 2024 have a
decoder of 32 norm groups in the same shapes: they decode differently with 8, so that one says
`tokenizer.decoder_groups=32` for these.
"""

from torch import Tensor, nn

from models.blocks.retnet import angles
from models.practice.original_names import OriginalNames
from models.rem.world_model import WorldModel


def thetas(network: nn.Module) -> dict[str, Tensor]:
    """The angles that the original keeps in every layer of its world model."""
    if not isinstance(network, WorldModel) or network.config.attention:
        return {}
    found_E = angles(network.config.width // network.config.heads).float()
    return {f"_model.layers.{layer}.retention.thetas": found_E.clone() for layer in range(network.config.layers)}


NAMES = OriginalNames(thetas, "turns tokens by other angles than a REM's: these weights are another model's")
