"""Simulus's sizes from names and shapes: of the recorded checkpoints, whose weights then fit, and of what is none."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from models.simulus.agent import SimulusAgent
from models.simulus.config import SimulusConfig
from models.simulus.sizes import sized
from tests.models.parity.golden_files import path_of

PAPER = SimulusConfig()


@pytest.mark.parametrize(
    ("file", "groups", "backbone", "quantizer", "separate", "grid"),
    [("simulus_atari", 8, "attention", "fsq", False, 8), ("simulus_options", 4, "retnet", "ema", True, 4)],
)
def test_a_recorded_checkpoint_loads_into_the_sizes_that_it_tells(
    file: str, groups: int, backbone: str, quantizer: str, separate: bool, grid: int
) -> None:
    with np.load(path_of(file), allow_pickle=False) as golden:
        names = [name for name in golden.files if name.startswith("weights/")]
        weights = {n.removeprefix("weights/").replace("/", ".", 1): torch.from_numpy(golden[n]) for n in names}
    levels = weights.get("tokenizer.tokenizers.image.fsq._levels")
    codes = {} if levels is None else {"fsq_levels": tuple(levels.tolist()), "vocab_size": int(levels.prod())}
    given = replace(PAPER, tokenizer=replace(PAPER.tokenizer, norm_groups=groups, **codes))
    found = sized(given, {name: tuple(each.shape) for name, each in weights.items()})
    assert (found.world_model.backbone, found.tokenizer.quantizer) == (backbone, quantizer)
    assert found.actor_critic.separate == separate
    assert found.tokenizer.tokens_per_frame == grid**2
    agent = SimulusAgent(replace(found, actions=tuple(range(found.world_model.num_actions))))
    for name in agent.networks:
        agent.load_original(name, weights)
        for key, each in agent.original_state_dict(name).items():
            computed = key.endswith(("inv_freq", ".thetas"))  # elsewhere, up to rounding
            torch.testing.assert_close(each, weights[f"{name}.{key}"], rtol=1e-5 * computed, atol=0)


def test_sizes_are_those_of_the_agent_whose_shapes_they_are() -> None:
    agent = SimulusAgent(PAPER)
    theirs = {f"{part}.{name}": tuple(each.shape) for part in agent.networks
              for name, each in agent.original_state_dict(part).items()}  # fmt: skip
    other = replace(
        PAPER,
        world_model=replace(PAPER.world_model, layers=3, heads=2, ensemble=0),
        actor_critic=replace(PAPER.actor_critic, mlp=(64, 32), separate=True),
    )
    assert sized(other, theirs) == PAPER
    with pytest.raises(ValueError, match="turns 20 numbers a head of 256, which do not divide it"):
        sized(PAPER, theirs | {"world_model._model.rotary_emb.inv_freq": (10,)})
