"""Agents of blocks, REM and Simulus, so small that they learn in no time: what tests of both ask for."""

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from typing import Any

import torch

from models.api import Learning
from models.practice.block_agent import BlockAgent
from models.rem.agent import RemAgent
from models.simulus.agent import SimulusAgent
from tests.models.practice.learning import LEGAL, OBJECTIVES, frames_of, segments
from tests.models.rem import small_rem
from tests.models.simulus import small_simulus

STEPS, BURN_IN = small_rem.STEPS, small_rem.BURN_IN
K, DRAWS = 16, torch.Generator().manual_seed(3)
TOKENS, ACTIONS = torch.randint(16, (3, STEPS, K), generator=DRAWS), torch.randint(5, (3, STEPS), generator=DRAWS)


@dataclass(frozen=True)
class Kind:
    """A family of them."""

    agent: type[Any]
    variants: Mapping[str, Any]  # small configs by name, the plain one under the family's
    adds_up: Any  # a config that remembers no returns of other batches
    untouched: Mapping[str, Collection[str]]  # parameters that nothing asks for, by variant
    lpips: str  # where the original's checkpoints have the perceptual loss

    def learning(self, config: Any) -> BlockAgent:
        """An agent that learns everything."""
        agent = self.agent(config, seed=3)
        agent.start(Learning(7, LEGAL), OBJECTIVES)
        return agent


UNUSED = ("world_model.embed_unused.weight", "world_model.head_unused.weight")
KINDS = {
    "rem": Kind(
        RemAgent,
        {**small_rem.VARIANTS, "attention": small_rem.ATTENTION},
        small_rem.CONFIG,
        {
            "no pop": {"world_model.placeholder_embeddings.weight"},
            "no action inputs": {"actor_critic.actions_embeddings.weight"},
        },
        "tokenizer.lpips.",
    ),
    "simulus": Kind(
        SimulusAgent,
        small_simulus.VARIANTS,
        small_simulus.actor(return_buffer=0),
        {
            **{variant: UNUSED for variant in small_simulus.VARIANTS if variant != "retnet"},
            "no action inputs": (*UNUSED, "actor_critic.actor.actions.weight"),
        },
        "tokenizer.tokenizers.image.lpips.",
    ),
}
VARIANTS = [(name, variant) for name, kind in KINDS.items() for variant in kind.variants]


def batch_for(objective: str, config: Any) -> Any:
    """Segments, or frames, of which that objective learns."""
    if objective == "world_model":
        return segments(steps=STEPS, side="right")
    batch = segments(steps=config.length("actor_critic") or 0)
    return batch if objective == "actor_critic" else frames_of(batch, -1)
