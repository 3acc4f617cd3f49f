"""REM's weights under the original's names, there and back."""

import pytest
import torch

from models.rem.agent import RemAgent
from models.rem.config import RemConfig
from tests.models.rem.small_rem import CONFIG

ENTRIES = {"tokenizer": 53, "world_model": 109, "actor_critic": 15}  # of the original, but for LPIPS


def test_at_full_size_names_and_shapes_are_the_originals() -> None:
    agent = RemAgent(RemConfig(actions=(0, 1, 2, 3)))
    theirs = {name: agent.original_state_dict(name) for name in agent.networks}
    assert {name: len(each) for name, each in theirs.items()} == ENTRIES
    shapes = {f"{name}.{key}": tuple(each.shape) for name, part in theirs.items() for key, each in part.items()}
    some = {
        "tokenizer.encoder.blocks.2.2.conv.weight": (256, 128, 3, 3),
        "tokenizer.encoder.out_conv.2.weight": (256, 256, 3, 3),
        "tokenizer.embedding.weight": (512, 256),
        "tokenizer.decoder.blocks.0.2.conv.weight": (128, 256, 3, 3),
        "tokenizer.decoder.out_block.2.weight": (3, 32, 3, 3),
        "world_model.embedding.weight": (517, 256),
        "world_model.placeholder_embeddings.weight": (65, 256),
        "world_model._model.layers.4.retention.thetas": (64,),
        "world_model._model.layers.0.linear1.weight": (1024, 256),
        "world_model.head_observations.2.bias": (512,),
        "actor_critic.convs.1.0.weight": (64, 128, 3, 3),
        "actor_critic.dense.0.weight": (512, 4096),
        "actor_critic.rnn.weight_ih": (2048, 512),
        "actor_critic.actions_embeddings.weight": (4, 512),
    }
    assert {name: shapes[name] for name in some} == some


def test_weights_that_turn_by_other_angles_and_those_of_other_sizes_are_refused() -> None:
    agent = RemAgent(CONFIG)
    theirs = agent.original_state_dict("world_model")
    theirs["_model.layers.1.retention.thetas"] = theirs["_model.layers.1.retention.thetas"] * 2
    for odd in (theirs["_model.layers.1.retention.thetas"], torch.ones(3)):
        theirs["_model.layers.1.retention.thetas"] = odd
        with pytest.raises(ValueError, match=r"'_model\.layers\.1\.retention\.thetas' turns tokens by other angles"):
            agent.load_original("world_model", theirs)
    theirs = agent.original_state_dict("world_model")
    del theirs["_model.layers.1.linear1.bias"]
    with pytest.raises(ValueError, match=r"does not fit: .* missing: _model\.layers\.1\.linear1\.bias"):
        agent.load_original("world_model", theirs)
