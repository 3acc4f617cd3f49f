"""GPT-2 as the backbone of a world model: its blocks' weights in, and which of them learn on.

A checkpoint of the Hugging Face layout (gpt2, -medium, -large, -xl) gives the blocks and the final LayerNorm. Token and
position embeddings and the language head are left out: the world's are its own. GPT-2 was trained with the tanh
approximation of GELU; the thesis loads it into blocks with the exact one. Blocks are pre-norm with LayerNorm eps 1e-5,
as GPT-2's are. How many heads GPT-2 has its weights do not tell: 64 numbers of width make one, in every size.

Frozen are attention and MLP; LayerNorms, embeddings and heads always learn ("frozen pretrained transformer", Lu et al.
2021, 2103.05247).
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from models.blocks.transformer import Transformer

LEFT_OUT = re.compile(r"wte\.weight|wpe\.weight|lm_head\.weight|h\.\d+\.attn\.(bias|masked_bias)")  # masks, not biases
CONV1D = re.compile(r"h\.\d+\.(attn\.c_attn|attn\.c_proj|mlp\.c_fc|mlp\.c_proj)\.weight")  # stored (inputs, outputs)
PLACES = {  # theirs by ours
    "ln1": "ln_1",
    "ln2": "ln_2",
    "attn.proj": "attn.c_proj",
    "mlp.0": "mlp.c_fc",
    "mlp.2": "mlp.c_proj",
}
OWN = {theirs: ours for ours, theirs in PLACES.items()}
FUSED, PARTS = "attn.c_attn", ("attn.query", "attn.key", "attn.value")  # one above the other, in this order
IN_BLOCK = re.compile(r"(.*\bblocks\.\d+)\.(.+)\.(weight|bias)")
KINDS = ("weight", "bias")


@dataclass(frozen=True)
class Gpt2Blocks:
    """Weights for a `Transformer` by its names, and the names in the file that were left out."""

    weights: Mapping[str, Tensor]
    left_out: tuple[str, ...]


def gpt2_blocks(checkpoint: Mapping[str, Tensor], layers: int, width: int) -> Gpt2Blocks:
    """The blocks of a Hugging Face GPT-2 as those of a `Transformer` of that size.

    checkpoint: a state_dict, with or without the prefix "transformer.". Raises ValueError, in one line, where a block's
    weight is missing, unknown or of another shape.
    """
    theirs = {name.removeprefix("transformer."): tensor for name, tensor in checkpoint.items()}
    theirs = {name: tensor.T if CONV1D.fullmatch(name) else tensor for name, tensor in theirs.items()}
    left_out = tuple(name for name in theirs if LEFT_OUT.fullmatch(name))
    kept = {name: tensor for name, tensor in theirs.items() if name not in left_out}
    _require_fit(kept, layers, width)
    weights = own_names({re.sub(r"^h\.", "blocks.", name): tensor for name, tensor in kept.items()})
    return Gpt2Blocks({name: tensor.float().contiguous() for name, tensor in weights.items()}, left_out)


def own_names(theirs: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Tensors under GPT-2's names of blocks (`...blocks.0.attn.c_attn.weight`) under ours; others keep their names.

    Linear layers are (outputs, inputs) in both, as in checkpoints of the thesis.
    """
    ours: dict[str, Tensor] = {}
    for name, tensor in theirs.items():
        block, place, kind = found.groups() if (found := IN_BLOCK.fullmatch(name)) else ("", "", "")
        if place == FUSED:
            ours |= {f"{block}.{part}.{kind}": one for part, one in zip(PARTS, tensor.chunk(3), strict=True)}
        else:
            ours[f"{block}.{OWN[place]}.{kind}" if place in OWN else name] = tensor
    return ours


def gpt2_names(ours: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The other way round: queries, keys and values become one tensor."""
    theirs: dict[str, Tensor] = {}
    for name, tensor in ours.items():
        block, place, kind = found.groups() if (found := IN_BLOCK.fullmatch(name)) else ("", "", "")
        if place == PARTS[0]:
            theirs[f"{block}.{FUSED}.{kind}"] = torch.cat([ours[f"{block}.{part}.{kind}"] for part in PARTS])
        elif place not in PARTS:
            theirs[f"{block}.{PLACES[place]}.{kind}" if place in PLACES else name] = tensor
    return theirs


def freeze(transformer: Transformer, learning: int = 0) -> None:
    """Attention and MLP of all blocks but the last `learning` keep their weights from now on."""
    for block in transformer.blocks[: len(transformer.blocks) - learning]:
        for part in ("attn", "mlp"):
            block.get_submodule(part).requires_grad_(False)


def add_projection(transformer: Transformer, before: bool, behind: bool) -> None:
    """A linear layer and a ReLU before the blocks, behind the last LayerNorm, or both."""
    for wanted, place in ((before, "before"), (behind, "behind")):
        if wanted:
            setattr(transformer, place, nn.Sequential(nn.Linear(transformer.width, transformer.width), nn.ReLU()))


def _require_fit(theirs: Mapping[str, Tensor], layers: int, width: int) -> None:
    wanted = {name: shape for layer in range(layers) for name, shape in _shapes(layer, width).items()}
    wanted |= {f"ln_f.{kind}": (width,) for kind in KINDS}
    missing = [name for name in wanted if name not in theirs]
    unknown = [name for name in theirs if name not in wanted]
    odd = [name for name, shape in wanted.items() if name in theirs and tuple(theirs[name].shape) != shape]
    size = f"These are no weights of a GPT-2 of {layers} layers and width {width}"
    if missing:
        raise ValueError(f"{size}: {missing[0]} is missing, {len(missing)} in all; give a file of that size")
    if unknown:
        raise ValueError(
            f"{size}: {unknown[0]} is unknown, {len(unknown)} in all; set world_model.layers to the file's"
        )
    if odd:
        found = tuple(theirs[odd[0]].shape)
        raise ValueError(f"{size}: {odd[0]} is {found}, not {wanted[odd[0]]}; set world_model.width to the file's")


def _shapes(layer: int, width: int) -> dict[str, tuple[int, ...]]:
    """The shapes of one block's weights, those of linear layers as (outputs, inputs)."""
    matrices = {"attn.c_attn": (3, 1), "attn.c_proj": (1, 1), "mlp.c_fc": (4, 1), "mlp.c_proj": (1, 4)}
    shapes: dict[str, tuple[int, ...]] = {f"ln_{n}.{kind}": (width,) for n in (1, 2) for kind in KINDS}
    for name, (outputs, inputs) in matrices.items():
        shapes |= {f"{name}.weight": (outputs * width, inputs * width), f"{name}.bias": (outputs * width,)}
    return {f"h.{layer}.{name}": shape for name, shape in shapes.items()}
