"""IRIS's weights under the original's names, there and back."""

import json

import pytest
import torch
from torch import Tensor

from models.iris.config import TOKENIZER, ActorCriticConfig, WorldModelConfig
from models.iris.state_dict import NAMES
from models.iris.world_model import WorldModel
from models.practice.actor_critic import ActorCritic
from models.practice.config import NETWORKS
from models.tokenizers.vq import Tokenizer
from tests.models.iris.hashed import ACTIONS, GOLDEN

THEIRS: dict[str, tuple[str, ...]] = json.loads((GOLDEN / "iris_state_dict.json").read_text())
PERCEPTUAL = "tokenizer.lpips."
Networks = dict[str, torch.nn.Module]


@pytest.fixture(scope="module")
def networks() -> Networks:
    return {
        "tokenizer": Tokenizer(TOKENIZER, seed=1),
        "world_model": WorldModel(WorldModelConfig(num_actions=ACTIONS), seed=1),
        "actor_critic": ActorCritic(ActorCriticConfig(num_actions=ACTIONS), seed=1),
    }


@pytest.fixture(scope="module")
def lpips() -> dict[str, Tensor]:
    """Of the perceptual loss, which is the original's to keep."""
    shapes = {name: shape for name, (_, *shape) in THEIRS.items() if name.startswith(PERCEPTUAL)}
    return {name.removeprefix("tokenizer."): torch.full(shape, 0.5) for name, shape in shapes.items()}


def checkpoint(networks: Networks, lpips: dict[str, Tensor]) -> dict[str, Tensor]:
    """As the original's file holds all networks."""
    parts = {name: NAMES.original_state_dict(networks[name]) for name in NETWORKS}
    parts["tokenizer"] |= lpips
    return {f"{name}.{key}": tensor for name, part in parts.items() for key, tensor in part.items()}


def test_a_checkpoint_has_the_624_entries_of_the_original(networks: Networks, lpips: dict[str, Tensor]) -> None:
    ours = checkpoint(networks, lpips)
    assert len(ours) == 624
    found = {name: [str(each.dtype).removeprefix("torch."), *each.shape] for name, each in ours.items()}
    assert found == {name: list(entry) for name, entry in THEIRS.items()}
    assert torch.equal(ours["tokenizer.lpips.lin0.model.1.weight"], torch.full((1, 64, 1, 1), 0.5))
    assert ours["world_model.head_observations.indices"].tolist()[:17] == [*range(15), 16, 17]
    assert ours["world_model.head_ends.indices"].tolist() == list(range(16, 340, 17))
    assert ours["world_model.transformer.blocks.3.attn.mask"].sum() == 340 * 341 / 2


def test_numbers_of_parameters(networks: Networks, lpips: dict[str, Tensor]) -> None:
    count = {name: sum(each.numel() for each in network.parameters()) for name, network in networks.items()}
    assert count == {"tokenizer": 4_027_523, "world_model": 8_447_493, "actor_critic": 3_217_957}
    frozen = sum(each.numel() for name, each in lpips.items() if "scaling_layer" not in name)
    assert count["tokenizer"] + frozen == 18_743_683


def test_a_whole_checkpoint_loads_bit_for_bit(networks: Networks, lpips: dict[str, Tensor]) -> None:
    whole = checkpoint(networks, lpips)
    others: Networks = {
        "tokenizer": Tokenizer(TOKENIZER, seed=2),
        "world_model": WorldModel(WorldModelConfig(num_actions=ACTIONS), seed=2),
        "actor_critic": ActorCritic(ActorCriticConfig(num_actions=ACTIONS), seed=2),
    }
    for name in NETWORKS:
        NAMES.load_original(name, others[name], whole)
    again = checkpoint(others, lpips)
    assert all(torch.equal(again[name], each) for name, each in whole.items())


def test_nothing_is_loaded_of_other_actions_or_with_a_key_missing(networks: Networks) -> None:
    weights = NAMES.original_state_dict(networks["actor_critic"])
    other = ActorCritic(ActorCriticConfig(num_actions=6), seed=3)
    before = {name: each.clone() for name, each in other.state_dict().items()}
    with pytest.raises(ValueError, match=r"actor_linear\.bias \(4,\) for \(6,\)"):
        NAMES.load_original("actor_critic", other, weights)
    del weights["conv2.bias"]
    with pytest.raises(ValueError, match=r"missing: conv2\.bias"):
        NAMES.load_original("actor_critic", networks["actor_critic"], weights)
    assert all(torch.equal(each, before[name]) for name, each in other.state_dict().items())


def test_own_weights_drop_buffers_wrappers_and_lpips(networks: Networks, lpips: dict[str, Tensor]) -> None:
    world = NAMES.own_weights("world_model", NAMES.original_state_dict(networks["world_model"]))
    assert world.keys() == networks["world_model"].state_dict().keys()
    wrapped = {
        f"module.{name}": each for name, each in (NAMES.original_state_dict(networks["tokenizer"]) | lpips).items()
    }
    assert NAMES.own_weights("tokenizer", wrapped).keys() == networks["tokenizer"].state_dict().keys()


@pytest.mark.parametrize("place", ["transformer.blocks.1.attn.mask", "head_rewards.indices"])
def test_masks_and_positions_of_another_transformer_are_refused(networks: Networks, place: str) -> None:
    weights = NAMES.original_state_dict(networks["world_model"])
    weights[place] = weights[place].flip(0)
    with pytest.raises(ValueError, match=f"'{place}' is another one than an IRIS of as many positions has"):
        NAMES.load_original("world_model", networks["world_model"], weights)
    del weights[place]  # what is left out cannot contradict
    NAMES.load_original("world_model", networks["world_model"], weights)
