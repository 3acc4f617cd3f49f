"""GPT-2 as the backbone: what learns where blocks are frozen, and blocks of a Hugging Face checkpoint in its place.

Shapes: B rows, L tokens, D width.
"""

from collections.abc import Iterator
from dataclasses import replace
from functools import partial

import torch
from torch import Tensor

from models.blocks.transformer import Gelu, Transformer
from models.iris.gpt2 import freeze, gpt2_blocks, gpt2_names
from models.iris.world_model import WorldModel
from models.parity.iris.case import Case
from models.parity.iris.training import Stage, trained, world_model_stage

FROZEN = "world_model_frozen_"
"""before what is frozen: "true", or the number of last blocks that learn on"""
GELUS: tuple[tuple[str, Gelu], ...] = (("gelu", "none"), ("gelu_new", "tanh"))


def gpt2_outputs(case: Case) -> dict[str, Tensor]:
    """Entries `hf/*`, `frozen/*` and the losses, gradients and steps of frozen stages."""
    found = dict(hugging_face_outputs(case))
    found["frozen/total_parameters"] = torch.tensor(sum(one.numel() for one in _model(case).parameters()))
    for name in sorted({entry.split("/")[1] for entry in case.golden.arrays if entry.startswith(f"frozen/{FROZEN}")}):
        # The config refuses more blocks than there are.
        config = replace(case.config.world_model, frozen=True, learning_blocks=learning_blocks(name))
        freeze(_model(case).transformer, config.learning_blocks)
        learning = sum(one.numel() for one in case.world_model.parameters() if one.requires_grad)
        found[f"frozen/{name}/trainable_parameters"] = torch.tensor(learning)
        found |= trained(case, (partial(gpt2_stage, name=name),))
        case.world_model.requires_grad_(True)
    return found


def gpt2_stage(case: Case, name: str = "world_model") -> Stage:
    """The transformer's stage under the thesis's names of parameters."""
    return world_model_stage(case, name, names=gpt2_names)


def learning_blocks(name: str) -> int:
    """How many last blocks learn in a stage of that name. Raises ValueError where it is neither "true" nor a number."""
    text = name.removeprefix(FROZEN)
    return 0 if text == "true" else int(text)


@torch.no_grad()
def hugging_face_outputs(case: Case) -> Iterator[tuple[str, Tensor]]:
    """Entries `hf/*`: the same embeddings through the checkpoint's blocks, with both GELUs, and the world on them."""
    config, x_BLD = case.config.world_model, case.golden.tensor("batch/hf/inputs_embeds")
    blocks = gpt2_blocks(case.golden.tensors("weights/hf/"), config.layers, config.width).weights
    for name, gelu in GELUS:
        transformer = Transformer(config.layers, config.heads, config.width, 0.0, gelu).eval()
        transformer.load_state_dict(blocks)
        after_block = transformer.blocks[0](x_BLD, 0, None, False)
        yield f"hf/after_block0_{name}", after_block
        yield f"hf/last_hidden_state_{name}", transformer(x_BLD)
        if gelu == "none":
            yield "hf/original_after_block0", after_block
            yield "hf/original_transformer_output", transformer(x_BLD)
    batch, model = case.world_batch(), _model(case)
    model.transformer.load_state_dict(blocks)
    logits_BSV = model(batch.tokens_BTK, batch.actions_BT).observations_BSV
    case.restore("world_model")
    yield (
        "hf/original_logits_observations",
        logits_BSV[:, : case.recorded("hf/original_logits_observations", 20, axis=1)],
    )


def _model(case: Case) -> WorldModel:
    assert isinstance(case.world_model, WorldModel)
    return case.world_model
