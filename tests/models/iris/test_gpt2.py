"""GPT-2's weights as a world model's blocks: against Hugging Face's recorded outputs; what is frozen; bad files."""

from collections.abc import Iterator

import numpy as np
import pytest
import torch
from torch import Tensor

from models.blocks.transformer import Gelu, Transformer
from models.iris.config import WorldModelConfig
from models.iris.gpt2 import add_projection, freeze, gpt2_blocks, gpt2_names, own_names
from models.iris.world_model import WorldModel
from tests.fakes import ROOT

LAYERS, HEADS, WIDTH = 3, 2, 32
Arrays = dict[str, Tensor]


@pytest.fixture(scope="module")
def golden() -> Iterator[Arrays]:
    """A tiny random GPT-2 of Hugging Face: its state_dict, an input and what came out."""
    with np.load(ROOT / "tests/golden/thesis_gpt2.npz") as file:
        yield {name: torch.from_numpy(file[name]) for name in file.files if "hf/" in name}


@pytest.fixture
def checkpoint(golden: Arrays) -> Arrays:
    return {name.removeprefix("weights/hf/"): tensor for name, tensor in golden.items() if name.startswith("weights/")}


def transformer(gelu: Gelu = "none") -> Transformer:
    return Transformer(LAYERS, HEADS, WIDTH, dropout=0.0, gelu=gelu)


@pytest.mark.parametrize(("gelu", "recorded"), [("none", "gelu"), ("tanh", "gelu_new")])
@torch.no_grad()
def test_blocks_give_what_hugging_faces_give(golden: Arrays, checkpoint: Arrays, gelu: Gelu, recorded: str) -> None:
    network, x_BLD = transformer(gelu), golden["batch/hf/inputs_embeds"]
    network.load_state_dict(gpt2_blocks(checkpoint, LAYERS, WIDTH).weights)
    after_block = network.blocks[0](x_BLD, 0, None, False)
    torch.testing.assert_close(after_block, golden[f"hf/after_block0_{recorded}"], rtol=1e-5, atol=1e-5)
    torch.testing.assert_close(network(x_BLD), golden[f"hf/last_hidden_state_{recorded}"], rtol=1e-5, atol=1e-5)


@torch.no_grad()
def test_the_two_gelus_differ_by_what_was_measured(golden: Arrays, checkpoint: Arrays) -> None:
    outputs = []
    for gelu in ("none", "tanh"):
        network = transformer(gelu)
        network.load_state_dict(gpt2_blocks(checkpoint, LAYERS, WIDTH).weights)
        outputs.append(network(golden["batch/hf/inputs_embeds"]))
    assert 1e-4 < (outputs[0] - outputs[1]).abs().max() < 1e-3


def test_exactly_embeddings_language_head_and_masks_are_left_out(checkpoint: Arrays) -> None:
    assert gpt2_blocks(checkpoint, LAYERS, WIDTH).left_out == ("wte.weight", "wpe.weight", "lm_head.weight")
    masks = {
        f"transformer.h.{i}.attn.{name}": torch.ones(1, 1, 16, 16) for i in range(3) for name in ("bias", "masked_bias")
    }
    left_out = gpt2_blocks(checkpoint | masks, LAYERS, WIDTH).left_out
    assert set(left_out) == {"wte.weight", "wpe.weight", "lm_head.weight"} | {
        name.removeprefix("transformer.") for name in masks
    }


def test_files_without_the_prefix_are_the_same(checkpoint: Arrays) -> None:
    plain = {name.removeprefix("transformer."): tensor for name, tensor in checkpoint.items()}
    first, second = (gpt2_blocks(each, LAYERS, WIDTH).weights for each in (checkpoint, plain))
    assert all(torch.equal(first[name], second[name]) for name in first) and first.keys() == second.keys()


def test_a_file_that_lacks_a_blocks_weight_is_refused_in_one_line(checkpoint: Arrays) -> None:
    del checkpoint["transformer.h.1.mlp.c_fc.bias"], checkpoint["transformer.h.2.ln_2.weight"]
    with pytest.raises(ValueError, match=r"h\.1\.mlp\.c_fc\.bias is missing, 2 in all; give a file of that size$"):
        gpt2_blocks(checkpoint, LAYERS, WIDTH)


@pytest.mark.parametrize(
    ("layers", "width", "words"),
    [
        (4, WIDTH, r"of 4 layers and width 32: h\.3\.ln_1\.weight is missing, 12 in all"),
        (2, WIDTH, r"h\.2\.ln_1\.weight is unknown, 12 in all; set world_model\.layers to"),
        (LAYERS, 64, r"h\.0\.ln_1\.weight is \(32,\), not \(64,\); set world_model\.width to"),
    ],
)
def test_another_size_is_refused(checkpoint: Arrays, layers: int, width: int, words: str) -> None:
    with pytest.raises(ValueError, match=words):
        gpt2_blocks(checkpoint, layers, width)


@pytest.mark.parametrize("learning_blocks", range(LAYERS + 1))
def test_what_learns(learning_blocks: int) -> None:
    network = transformer()
    freeze(network, learning_blocks)
    per_block = 12 * WIDTH**2 + 13 * WIDTH - 4 * WIDTH  # without its two LayerNorms
    norms = (2 * LAYERS + 1) * 2 * WIDTH
    learning = sum(one.numel() for one in network.parameters() if one.requires_grad)
    assert learning == learning_blocks * per_block + norms
    last = [number for number, block in enumerate(network.blocks) if block.attn.key.weight.requires_grad]
    assert last == list(range(LAYERS - learning_blocks, LAYERS))


@pytest.mark.parametrize(
    ("heads", "layers", "width", "frozen", "but_last", "everything", "learning"),
    [
        (4, 10, 256, False, 0, 8_447_493, 8_447_493),
        (12, 12, 768, False, 0, 87_882_757, 87_882_757),
        (12, 12, 768, True, 0, 87_882_757, 2_865_157),
        (12, 12, 768, True, 1, 87_882_757, 9_949_957),
        (16, 24, 1024, True, 0, 306_866_693, 4_655_621),
        (20, 36, 1280, True, 0, 715_067_397, 6_863_877),
    ],
)
def test_sizes_of_the_thesis(
    heads: int, layers: int, width: int, frozen: bool, but_last: int, everything: int, learning: int
) -> None:
    with torch.device("meta"):
        network = WorldModel(WorldModelConfig(layers=layers, heads=heads, width=width, num_actions=4))
    assert sum(parameter.numel() for parameter in network.parameters()) == everything
    if frozen:
        freeze(network.transformer, but_last)
    assert sum(parameter.numel() for parameter in network.parameters() if parameter.requires_grad) == learning


def test_names_of_the_thesis_there_and_back() -> None:
    ours = {f"transformer.{name}": tensor for name, tensor in transformer().state_dict().items()}
    ours |= {"head_rewards.head_module.0.weight": torch.ones(1), "pos_emb.weight": torch.ones(2)}
    theirs = gpt2_names(ours)
    assert {name for name in theirs if "blocks.1" in name} == {
        f"transformer.blocks.1.{place}.{kind}"
        for place in ("ln_1", "ln_2", "attn.c_attn", "attn.c_proj", "mlp.c_fc", "mlp.c_proj")
        for kind in ("weight", "bias")
    }
    back = own_names(theirs)
    assert back.keys() == ours.keys() and all(torch.equal(back[name], ours[name]) for name in ours)


def test_frozen_weights_stay_bit_for_bit_and_norms_move() -> None:
    torch.manual_seed(0)
    network = transformer()
    freeze(network, 1)
    before = {name: tensor.clone() for name, tensor in network.state_dict().items()}
    optimiser = torch.optim.AdamW(network.parameters(), lr=1e-2, weight_decay=0.5)
    for _ in range(10):
        optimiser.zero_grad()
        network(torch.randn(2, 5, WIDTH)).square().mean().backward()
        optimiser.step()
    changed = {name for name, tensor in network.state_dict().items() if not torch.equal(tensor, before[name])}
    frozen = {name for name in before if name.startswith(("blocks.0.", "blocks.1.")) and ".ln" not in name}
    assert changed == set(before) - frozen


@pytest.mark.parametrize("given", [{"learning_blocks": 1}, {"frozen": True, "learning_blocks": 11}])
def test_more_learning_blocks_than_frozen_ones(given: dict) -> None:
    with pytest.raises(ValueError, match=r"learning_blocks \d+ are more than the \d+ frozen ones: lower it"):
        WorldModelConfig(**given)


@torch.no_grad()
def test_projections_stand_around_the_blocks() -> None:
    network, x_BLD = transformer(), torch.randn(1, 4, WIDTH)
    plain = network(x_BLD)
    add_projection(network, before=True, behind=True)
    for place in (network.before, network.behind):
        place[0].weight.copy_(torch.eye(WIDTH)), place[0].bias.zero_()
    torch.testing.assert_close(network(x_BLD.abs()), transformer_like(network)(x_BLD.abs()).relu())
    assert not torch.equal(network(x_BLD), plain)


def transformer_like(network: Transformer) -> Transformer:
    """The same blocks without projections."""
    other = transformer()
    own = other.state_dict().keys()
    other.load_state_dict({name: tensor for name, tensor in network.state_dict().items() if name in own})
    return other
