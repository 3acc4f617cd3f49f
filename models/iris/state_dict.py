"""IRIS's weights under the names of the original's checkpoints: see `OriginalNames`.

What the original keeps besides weights are the attention's mask and the heads' positions. Checkpoints of the thesis
have GPT-2's names in a transformer's blocks.
"""

import torch
from torch import Tensor, nn

from models.iris.gpt2 import own_names
from models.iris.world_model import TokenWorldModel, WorldModel
from models.practice.original_names import OriginalNames


def buffers(network: nn.Module) -> dict[str, Tensor]:
    """The causal mask of every layer of a transformer, and the positions at which each head is evaluated."""
    if not isinstance(network, TokenWorldModel):
        return {}
    config = network.config
    places, last = torch.arange(config.max_tokens), config.tokens_per_step - 1
    place_in_step = places % config.tokens_per_step
    mask = torch.ones(config.max_tokens, config.max_tokens).tril()
    layers = config.layers if isinstance(network, WorldModel) else 0  # circuits see no later token anyway
    found = {f"transformer.blocks.{layer}.attn.mask": mask.clone() for layer in range(layers)}
    found["head_observations.indices"] = places[place_in_step != last - 1]
    return found | {f"head_{head}.indices": places[place_in_step == last] for head in ("rewards", "ends")}


NAMES = OriginalNames(
    buffers,
    "is another one than an IRIS of as many positions has: these weights attend to other tokens, or predict at others",
    own_names,
)
