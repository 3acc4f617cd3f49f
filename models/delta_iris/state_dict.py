"""Delta-IRIS's weights under the names of the original's checkpoints: see `OriginalNames`.

Residual blocks and the transformer's layers have other names there, and the attention's mask and the
places at which heads are evaluated are kept besides, which its own loader wants.
"""

import re
from collections.abc import Mapping

import torch
from torch import Tensor, nn

from models.delta_iris.world_model import ACTION, WorldModel
from models.practice.original_names import OriginalNames

PLACES = (  # ours, theirs
    (".norm1.", ".f.0."),
    (".conv1.", ".f.2."),
    (".norm2.", ".f.3."),
    (".conv2.", ".f.5."),
    (".nin_shortcut.", ".skip_projection."),
)
LAYERS = (
    (".ln1.", ".sa.ln."),
    (".attn.proj.", ".sa.attention.proj."),
    (".attn.", ".sa."),
    (".ln2.", ".mlp.ln."),
    (".mlp.0.", ".mlp.mlp.0."),
    (".mlp.2.", ".mlp.mlp.2."),
)
WHOLE = (("transformer.ln_f.", "transformer.ln."), ("pos_emb.", "transformer.pos_emb."))
BUFFERS = re.compile(r"^head_\w+\.indices$|\.sa\.mask$")


def their_name(name: str) -> str:
    """The original's name of a parameter of ours."""
    return _renamed(name, 0, 1)


def our_name(name: str) -> str:
    """Our name of a parameter of the original's."""
    return _renamed(name, 1, 0)


def _renamed(name: str, known: int, wanted: int) -> str:
    """A name under the other side's: 0 is ours, 1 theirs."""
    for pair in WHOLE:
        if name.startswith(pair[known]):
            return pair[wanted] + name.removeprefix(pair[known])
    for pair in LAYERS if name.startswith("transformer.blocks.") else PLACES:
        if pair[known] in name:
            return name.replace(pair[known], pair[wanted])
    return name


def own(weights: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Weights of theirs under our names; masks are dropped."""
    return {our_name(name): each for name, each in weights.items() if not BUFFERS.search(name)}


def theirs(weights: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Weights of ours under their names."""
    return {their_name(name): each for name, each in weights.items()}


def buffers(model: nn.Module) -> dict[str, Tensor]:
    """The causal mask of every layer of the world model, and the places at which each head is evaluated."""
    if not isinstance(model, WorldModel):
        return {}
    places = torch.arange(model.max_tokens)
    in_block, last = places % model.tokens_per_block, model.tokens_per_block - 1
    mask = torch.ones(model.max_tokens, model.max_tokens, dtype=torch.bool).tril()
    found = {f"transformer.blocks.{layer}.sa.mask": mask.clone() for layer in range(model.config.layers)}
    found["head_latents.indices"] = places[(in_block >= ACTION) & (in_block < last)]
    return found | {f"head_{head}.indices": places[in_block == ACTION] for head in ("rewards", "ends")}


NAMES = OriginalNames(
    buffers,
    "is another one than a Delta-IRIS of as many positions has: these weights attend to other tokens, or predict at "
    "others",
    own,
    theirs,
)
