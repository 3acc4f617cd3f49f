"""Simulus's weights under the names of the original's checkpoints: see `OriginalNames`.

What the original keeps besides weights are the levels of FSQ and the angles of rotations, which follow from the config.
An EMA codebook's own count of steps is not the original's.
"""

import re
from collections.abc import Mapping

import torch
from torch import Tensor, nn

from models.blocks.pop_attention import BASE
from models.blocks.retnet import angles
from models.practice.original_names import OriginalNames
from models.simulus.world_model import WorldModel
from models.tokenizers.fsq import FSQ
from models.tokenizers.vq import Tokenizer

IMAGE = "tokenizers.image."
RENAMED = (  # beginnings of ours and of the original's names
    ("encoder.in_conv.", f"{IMAGE}encoder.cnn.0."),
    ("encoder.blocks.", f"{IMAGE}encoder.cnn.1."),
    ("encoder.out_conv.", f"{IMAGE}encoder.cnn.2."),
    ("decoder.in_conv.", f"{IMAGE}decoder.cnn.0."),
    ("decoder.blocks.", f"{IMAGE}decoder.cnn.1."),
    ("decoder.out_block.", f"{IMAGE}decoder.cnn.2."),
    ("embedding.cluster_size", f"{IMAGE}_ema_cluster_size"),
    ("embedding.code_sum", f"{IMAGE}_ema_embed_avg"),
    ("embedding.weight", f"{IMAGE}embedding.weight"),
    ("pre_quant_conv.", f"{IMAGE}pre_quant_conv."),
    ("post_quant_conv.", f"{IMAGE}post_quant_conv."),
    ("head_observations.", "head_observations.image."),
    ("ensemble.heads.", "curiosity_head.image.ensemble."),
    ("head_rewards.0.", "head_rewards.model.0."),
    ("head_rewards.2.", "head_rewards.head.linear."),
    ("attention.", "_model."),
    ("retnet.", "_model."),
    ("pred_tokens", "_model.pred_tokens"),
    ("embed_unused.", "_model.embed."),
    ("head_unused.", "_model.obs_head."),
    ("action_embedding.", "action_encoder.embedding."),
    ("actor.convs.", "obs_encoders.image.model."),
    ("actor.fuser.", "obs_latent_fuser."),
    ("actor.actions.", "actor_actions_embeddings."),
    ("critic.convs.", "critic_encoders.image.model."),
    ("critic.fuser.", "critic_latent_fuser."),
    ("critic.actions.", "critic_actions_embeddings."),
    ("critic_linear.", "critic_v_head.linear."),
)
OF_CONFIG = re.compile(r"fsq\._(levels|basis)$|\.thetas$|rotary_emb\.inv_freq$|\.lpips\.")
COUNT = "embedding.step"  # of an EMA codebook, for its draws
LAST_LAYER = "_l0"  # what an LSTM of one layer calls it, where a cell does not


def theirs(weights: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Tensors by the original's names, of those by ours that it has."""
    return {_their_name(name): each for name, each in weights.items() if name != COUNT}


def _their_name(name: str) -> str:
    begun = next((pair for pair in RENAMED if name.startswith(pair[0])), ("", ""))
    return begun[1] + name.removeprefix(begun[0]) + (LAST_LAYER if ".lstm." in name else "")


def ours(weights: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Tensors by our names, of those by the original's, without what follows from the config and LPIPS."""
    kept = {name: each for name, each in weights.items() if not OF_CONFIG.search(name)}
    backbone = "retnet." if any(".retention." in name for name in kept) else "attention."
    pairs = [pair for pair in RENAMED if pair[1] != "_model." or pair[0] == backbone]
    pairs.sort(key=lambda pair: -len(pair[1]))  # `_model.` is the beginning of others

    def own_name(name: str) -> str:
        begun = next((pair for pair in pairs if name.startswith(pair[1])), ("", ""))
        return begun[0] + name.removeprefix(begun[1]).removesuffix(LAST_LAYER)

    return {own_name(name): each for name, each in kept.items()}


def of_config(network: nn.Module) -> dict[str, Tensor]:
    """What the original saves although it follows from the config."""
    if isinstance(network, Tokenizer) and isinstance(network.embedding, FSQ):
        levels = torch.tensor(network.config.fsq_levels)
        basis = torch.cat([levels.new_ones(1), levels[:-1].cumprod(0)])
        return {f"{IMAGE}fsq._levels": levels, f"{IMAGE}fsq._basis": basis}
    if not isinstance(network, WorldModel):
        return {}
    config = network.config
    per_head = config.width // config.heads
    if config.backbone == "attention":
        return {"_model.rotary_emb.inv_freq": BASE ** (-torch.arange(0, per_head, 2).float() / per_head)}
    thetas = angles(per_head).float()
    return {f"_model.layers.{layer}.retention.thetas": thetas.clone() for layer in range(config.layers)}


NAMES = OriginalNames(of_config, "is not what this config says: these weights are another's", ours, theirs)
