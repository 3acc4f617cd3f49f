"""IRIS's weights under the names of the original's checkpoints, there and back.

Our modules use the same names. What the original keeps besides are the attention's mask and the heads' positions, which
its own loader wants, and LPIPS weights inside the tokenizer. Its `last.pt` is one flat state_dict of all networks, each
behind its name: `tokenizer.`, `world_model.`, `actor_critic.`.
"""

from collections.abc import Mapping

import torch
from torch import Tensor, nn

from models.blocks.weights import copied_weights, load_exactly, released_weights
from models.iris.gpt2 import own_names
from models.iris.world_model import WorldModel

NETWORKS = ("tokenizer", "world_model", "actor_critic")
LPIPS = "lpips."


def own_weights(network: str, state_dict: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """A network's weights, of its own state_dict or of a whole checkpoint; buffers and LPIPS are dropped."""
    if any(name.startswith(f"{network}.") for name in state_dict):
        state_dict = {
            name.removeprefix(f"{network}."): tensor
            for name, tensor in state_dict.items()
            if name.startswith(f"{network}.")
        }
    return own_names(released_weights(state_dict))  # GPT-2's names in the thesis's checkpoints


def load_original(name: str, network: nn.Module, state_dict: Mapping[str, Tensor]) -> None:
    """Load a network's weights as `own_weights` finds them, all or, with a ValueError that says why, none."""
    load_exactly(network, own_weights(name, state_dict))


def original_state_dict(network: nn.Module, lpips: Mapping[str, Tensor] | None = None) -> dict[str, Tensor]:
    """Copies of a network's weights as the original's own loader wants them.

    lpips: weights that the original keeps in its tokenizer, under its names (`lpips.*`); they are passed through.
    """
    weights = copied_weights(network) | dict(lpips or {})
    return weights | buffers(network) if isinstance(network, WorldModel) else weights


def buffers(model: WorldModel) -> dict[str, Tensor]:
    """The causal mask of every layer, and the positions at which each head is evaluated."""
    config = model.config
    places, last = torch.arange(config.max_tokens), config.tokens_per_step - 1
    place_in_step = places % config.tokens_per_step
    mask = torch.ones(config.max_tokens, config.max_tokens).tril()
    found = {f"transformer.blocks.{layer}.attn.mask": mask.clone() for layer in range(config.layers)}
    found["head_observations.indices"] = places[place_in_step != last - 1]
    return found | {f"head_{head}.indices": places[place_in_step == last] for head in ("rewards", "ends")}


def checkpoint(networks: Mapping[str, nn.Module], lpips: Mapping[str, Tensor] | None = None) -> dict[str, Tensor]:
    """One flat state_dict of all networks, as the original's `last.pt` holds it."""
    return {
        f"{name}.{key}": tensor
        for name in NETWORKS
        for key, tensor in original_state_dict(networks[name], lpips if name == "tokenizer" else None).items()
    }
