"""IRIS's weights under the names of the original's checkpoints, there and back.

Our modules use the same names. What the original keeps besides are the attention's mask and the heads' positions, which
its own loader wants, and LPIPS weights inside the tokenizer, which are dropped. Its `last.pt` is one flat state_dict of
all networks, each behind its name: `tokenizer.`, `world_model.`, `actor_critic.`.
"""

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn

from models.blocks.weights import copied_weights, load_exactly, network_part, released_weights
from models.iris.gpt2 import own_names
from models.iris.world_model import TokenWorldModel, WorldModel


def own_weights(network: str, state_dict: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """A network's weights, of its own state_dict or of a whole checkpoint; buffers and LPIPS are dropped."""
    return own_names(released_weights(network_part(network, state_dict)))  # GPT-2's names in the thesis's checkpoints


def load_original(name: str, network: nn.Module, state_dict: Mapping[str, Tensor]) -> None:
    """Load a network's weights as `own_weights` finds them, all or, with a ValueError that says why, none.

    Where the file has masks and positions too they must be ours, or the weights would mean something else here.
    """
    theirs = network_part(name, state_dict)
    for place, ours in buffers(network).items() if isinstance(network, TokenWorldModel) else ():
        if place in theirs and not torch.equal(theirs[place].to(ours.dtype), ours):
            raise ValueError(
                f"'{place}' is another one than an IRIS of as many positions has: these weights attend to other "
                "tokens, or predict at others"
            )
    load_exactly(network, own_weights(name, state_dict))


def original_state_dict(network: nn.Module) -> dict[str, Tensor]:
    """Copies of a network's weights as the original's own loader wants them, but for LPIPS."""
    weights = copied_weights(network)
    return weights | buffers(network) if isinstance(network, TokenWorldModel) else weights


def buffers(model: "TokenWorldModel[Any]") -> dict[str, Tensor]:
    """The causal mask of every layer of a transformer, and the positions at which each head is evaluated."""
    config = model.config
    places, last = torch.arange(config.max_tokens), config.tokens_per_step - 1
    place_in_step = places % config.tokens_per_step
    mask = torch.ones(config.max_tokens, config.max_tokens).tril()
    layers = config.layers if isinstance(model, WorldModel) else 0  # circuits see no later token anyway
    found = {f"transformer.blocks.{layer}.attn.mask": mask.clone() for layer in range(layers)}
    found["head_observations.indices"] = places[place_in_step != last - 1]
    return found | {f"head_{head}.indices": places[place_in_step == last] for head in ("rewards", "ends")}
