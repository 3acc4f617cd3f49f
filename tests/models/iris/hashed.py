"""IRIS at full size with weights and inputs that a formula gives, as for the facts of `tests/golden/iris_facts.json`.

A number is a hash of its place j in its tensor and the tensor's rank r: frac(43758.5453 sin(12.9898 j + 78.233 r)).
"""

import json
import math
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from models.iris.config import TOKENIZER, ActorCriticConfig, WorldModelConfig
from models.iris.world_model import WorldModel
from models.practice.actor_critic import ActorCritic
from models.tokenizers.vq import Tokenizer

GOLDEN = Path(__file__).parents[2] / "golden"
FACTS: dict[str, Any] = json.loads((GOLDEN / "iris_facts.json").read_text())
ACTIONS, STEPS = 4, 20
TABLES = ("emb.weight", "embedding.weight", "embedding_tables.0.weight", "embedding_tables.1.weight")


def hashed(count: int, rank: int) -> np.ndarray:
    """Numbers in [0, 1), float64 (count,)."""
    found = 43758.5453 * np.sin(12.9898 * np.arange(count) + 78.233 * rank)
    return found - np.floor(found)


def between(shape: tuple[int, ...], rank: int, low: float, high: float) -> Tensor:
    """Numbers of [low, high), float32."""
    return torch.from_numpy((low + (high - low) * hashed(math.prod(shape), rank)).astype(np.float32)).view(shape)


def weights(shapes: dict[str, tuple[int, ...]]) -> dict[str, Tensor]:
    """Weights of these names and shapes; the rank of a tensor is its place among the sorted names."""
    found = {}
    for rank, name in enumerate(sorted(shapes)):
        shape = shapes[name]
        if name.endswith(TABLES):
            found[name] = between(shape, rank, -0.5, 0.5)
        elif len(shape) >= 2:
            bound = 1.5 / math.sqrt(math.prod(shape[1:]))
            found[name] = between(shape, rank, -bound, bound)
        else:
            found[name] = between(shape, rank, *((0.8, 1.2) if name.endswith("weight") else (-0.1, 0.1)))
    return found


def fill(network: nn.Module) -> Any:
    """The network in eval mode with such weights."""
    network.load_state_dict(weights({name: tuple(each.shape) for name, each in network.state_dict().items()}))
    return network.eval()


@cache
def tokenizer() -> Tokenizer:
    return fill(Tokenizer(TOKENIZER))


@cache
def world_model() -> WorldModel:
    return fill(WorldModel(WorldModelConfig(num_actions=ACTIONS)))


@cache
def actor_critic() -> ActorCritic:
    return fill(ActorCritic(ActorCriticConfig(num_actions=ACTIONS)))


@cache
def frames() -> Tensor:
    """(2, 20, 3, 64, 64) uint8."""
    return between((2, STEPS, 3, 64, 64), 5001, 0, 256).floor().clamp(max=255).to(torch.uint8)


def whole_numbers(shape: tuple[int, ...], rank: int, below: int) -> Tensor:
    """Numbers of 0 .. below - 1, long."""
    return torch.from_numpy(np.floor(hashed(math.prod(shape), rank) * below).astype(np.int64)).view(shape)


def agrees(found: Tensor, fact: dict[str, Any], error: float = 2e-6) -> bool:
    """Whether shape, mean, deviation and some numbers are the recorded ones, which have six digits."""
    flat = found.detach().double().flatten()
    ours = [flat.mean(), flat.std(correction=0), *flat[:4], *flat[-2:]]
    theirs = [fact["mean"], fact["std"], *fact["first4"], *fact["last2"]]
    return list(found.shape) == fact["shape"] and np.allclose(ours, theirs, rtol=0, atol=error)
