"""The thesis's golden files: all outputs of a file, from its weights, batches, config and draws alone.

Three variants are IRIS with another world model (GPT-2's blocks, neural circuits token by token and frame by frame);
the fourth is its tokenizer with a critic, and the parts around it. What they share with IRIS is IRIS's room's.
"""

from collections.abc import Callable
from dataclasses import replace

import torch
from torch import Tensor

from models.api import Losses
from models.parity.golden_file import GoldenFile, Tolerance
from models.parity.iris import family as iris
from models.parity.iris.case import Case
from models.parity.iris.networks import actor_critic_outputs, tokenizer_outputs, world_model_outputs
from models.parity.iris.training import (
    TOKENIZER_TERMS,
    Stage,
    actor_critic_stage,
    adam,
    tokenizer_stage,
    trained,
    world_model_stage,
)
from models.parity.iris.worlds import env_outputs, imagine_outputs
from models.parity.thesis.config import thesis_config
from models.parity.thesis.gpt2 import gpt2_outputs, gpt2_stage
from models.parity.thesis.vq import tokenizer_alone_outputs
from models.parity.thesis.worlds import FIXED, ncp_outputs, new_player

VALUE = {"value_loss": ("value", 1.0)}


def outputs(golden: GoldenFile) -> dict[str, Tensor]:
    """Every output of the file by its entry. Raises ValueError or KeyError where an input is missing or damaged."""
    if golden.config["variant"] == "vq":
        return tokenizer_alone_outputs(golden)
    case = Case.of(golden, thesis_config)
    found = tokenizer_outputs(case)
    found["tokenizer/value"] = torch.zeros_like(
        golden.tensor("batch/tokenizer/returns")
    )  # a critic that weighs nothing
    found |= actor_critic_outputs(case)
    if golden.config["variant"] == "gpt2":
        found |= world_model_outputs(case) | env_outputs(case) | imagine_outputs(case) | gpt2_outputs(case)
        stages: tuple[Callable[[Case], Stage], ...] = (_tokenizer_stage, gpt2_stage, actor_critic_stage)
        return found | trained(case, stages)
    found |= ncp_outputs(case)
    return found | trained(case, (_tokenizer_stage, _circuits_stage, *map(_actor_critic_stage, ("", FIXED))))


def _tokenizer_stage(case: Case) -> Stage:
    """The tokenizer's, whose critic weighs nothing: the file records a value's loss of 0."""
    stage = tokenizer_stage(case)

    def loss() -> Losses:
        losses = stage.loss()
        return replace(losses, terms={**losses.terms, "value": torch.zeros(())})

    return replace(stage, loss=loss, terms=TOKENIZER_TERMS | VALUE)


def _circuits_stage(case: Case) -> Stage:
    """Adam without decay, of weights alone: the original's has the masks beside them, which nothing changes."""
    return replace(world_model_stage(case), optimiser=adam(case.world_model, case.training))


def _actor_critic_stage(suffix: str) -> Callable[[Case], Stage]:
    """Practising in a world with the original's reset, or with the suffix FIXED in one with ours."""
    name = f"actor_critic{suffix}"
    return lambda case: actor_critic_stage(case, name, f"imagine{suffix}", new_player(case, suffix))


NETWORKS = {"critic_weight_": "tokenizer", "world_model_": "world_model", "actor_critic_": "actor_critic"}


def tolerance(golden: GoldenFile, name: str) -> float | Tolerance:
    """As IRIS's."""
    stage = name.split("/")[1]
    if name == "dummy/first_frame_uint8":
        return iris.tolerance(golden, "env/frames_uint8")
    network = next((each for prefix, each in NETWORKS.items() if stage.startswith(prefix)), stage)
    return iris.tolerance(golden, name, network)
