"""Sizes and names of Delta-IRIS's released checkpoints: all 434 tensors of both configs, and what is none of these."""

import json
from pathlib import Path

import pytest
import torch

from models.delta_iris.agent import DeltaIrisAgent
from models.delta_iris.config import DeltaIrisConfig
from models.delta_iris.sizes import sized
from models.delta_iris.state_dict import NAMES, our_name, their_name
from pipelines.recipes.delta_iris import delta_iris_atari, delta_iris_crafter, networks
from tests.models.delta_iris.small_delta import CONFIG

FILE = Path(__file__).parents[2] / "golden" / "delta_iris_state_dict.json"
RECIPES = {"atari": delta_iris_atari, "crafter": delta_iris_crafter}
PARAMETERS = {  # of each network, with 4 and 17 actions, the actor-critic's target among them
    "atari": {"tokenizer": 4_065_715, "world_model": 3_577_257, "actor_critic": 7_216_490},
    "crafter": {"tokenizer": 5_409_611, "world_model": 11_948_457, "actor_critic": 7_490_432},
}


@pytest.mark.parametrize("name", RECIPES)
def test_a_checkpoint_of_either_config_is_sized_and_named_exactly(name: str) -> None:
    stated = json.loads(FILE.read_text())[name]
    given = networks(RECIPES[name]())
    found = sized(DeltaIrisConfig(), {key: tuple(shape) for key, (shape, _) in stated.items()})
    assert found.world_model.heads == given.world_model.heads
    assert found.tokenizer.encoder == given.tokenizer.encoder and found.tokenizer.decoder == given.tokenizer.decoder
    assert found.tokenizer.frame_cnn == given.tokenizer.frame_cnn
    assert (found.world_model.frame_cnn, found.world_model.rewards) == (
        given.world_model.frame_cnn,
        given.world_model.rewards,
    )
    assert (found.actor_critic.values, found.world_model.max_steps) == (
        given.actor_critic.values,
        given.world_model.max_steps,
    )
    agent = DeltaIrisAgent(found)
    theirs = {f"{one}.{key}": each for one in agent.networks for key, each in agent.original_state_dict(one).items()}
    kinds = {key: [list(each.shape), str(each.dtype).removeprefix("torch.")] for key, each in theirs.items()}
    assert len(kinds) == 434 and kinds == stated
    counted = {one: sum(each.numel() for each in module.parameters()) for one, module in agent.networks.items()}
    assert counted == PARAMETERS[name]


def test_names_go_there_and_back() -> None:
    for network, module in DeltaIrisAgent(CONFIG).networks.items():
        for name in module.state_dict():
            assert our_name(their_name(name)) == name, network


def test_a_mask_of_another_kind_is_refused() -> None:
    model = DeltaIrisAgent(CONFIG).world_model
    theirs = NAMES.original_state_dict(model)
    block = "transformer.blocks.0.sa.mask"
    with pytest.raises(ValueError, match="these weights attend to other tokens"):
        NAMES.load_original("world_model", model, theirs | {block: torch.ones_like(theirs[block])})
    lacking = {name: each for name, each in theirs.items() if name != "act_emb.weight"}
    with pytest.raises(ValueError, match=r"missing: act_emb\.weight"):
        NAMES.load_original("world_model", model, lacking)
