"""Simulus's weights under the original's names, there and back."""

import numpy as np
import pytest
import torch

from models.simulus.agent import SimulusAgent
from models.simulus.config import SimulusConfig
from tests.models.parity.golden_files import path_of
from tests.models.simulus.small_simulus import CONFIG, VARIANTS, world


def test_at_full_size_names_and_shapes_are_the_originals() -> None:
    agent = SimulusAgent(SimulusConfig(actions=(0, 1, 2, 3)))
    theirs = {name: agent.original_state_dict(name) for name in agent.networks}
    shapes = {f"{name}.{key}": tuple(each.shape) for name, part in theirs.items() for key, each in part.items()}
    some = {
        "tokenizer.tokenizers.image.encoder.cnn.1.2.2.conv.weight": (512, 256, 3, 3),
        "tokenizer.tokenizers.image.encoder.cnn.2.2.weight": (256, 512, 3, 3),
        "tokenizer.tokenizers.image.decoder.cnn.0.1.weight": (512, 256, 3, 3),
        "tokenizer.tokenizers.image.fsq._basis": (3,),
        "tokenizer.tokenizers.image.post_quant_conv.weight": (256, 3, 1, 1),
        "world_model._model.layers.9.self_attn.q_proj.weight": (256, 256),
        "world_model._model.rotary_emb.inv_freq": (32,),
        "world_model._model.pred_tokens": (64, 256),
        "world_model.curiosity_head.image.ensemble.3.3.weight": (512, 512),
        "world_model.head_rewards.head.linear.weight": (129, 512),
        "actor_critic.obs_encoders.image.model.0.0.weight": (128, 256, 3, 3),
        "actor_critic.actor.lstm.weight_ih_l0": (2048, 512),
        "actor_critic.critic_v_head.linear.weight": (129, 512),
    }
    assert {name: shapes.get(name) for name in some} == some


@pytest.mark.parametrize("file", ["simulus_atari", "simulus_options"])
def test_names_are_those_of_a_recorded_checkpoint(file: str) -> None:
    with np.load(path_of(file), allow_pickle=False) as golden:
        recorded = {name.removeprefix("weights/") for name in golden.files if name.startswith("weights/")}
    variants = {"simulus_atari": "simulus", "simulus_options": "ema"}
    agent = SimulusAgent(VARIANTS[variants[file]])
    tokenizer = {f"tokenizer/{name}" for name in agent.original_state_dict("tokenizer")}
    levels = {name for name in recorded if ".cnn.1.3." in name}  # of a fourth halving
    assert tokenizer == {name for name in recorded if name.startswith("tokenizer/")} - levels


def test_weights_of_another_config_are_refused() -> None:
    agent = SimulusAgent(CONFIG)
    theirs = agent.original_state_dict("tokenizer")
    theirs["tokenizers.image.fsq._levels"] = torch.tensor([2, 8])
    with pytest.raises(ValueError, match=r"fsq\._levels' is not what this config says"):
        agent.load_original("tokenizer", theirs)
    theirs = agent.original_state_dict("world_model")
    theirs["_model.rotary_emb.inv_freq"] = theirs["_model.rotary_emb.inv_freq"] * 2
    with pytest.raises(ValueError, match=r"inv_freq' is not what this config says"):
        agent.load_original("world_model", theirs)
    with pytest.raises(ValueError, match=r"does not fit: .* missing: attention\.layers\.1\."):
        agent.load_original("world_model", SimulusAgent(world(layers=1)).original_state_dict("world_model"))
