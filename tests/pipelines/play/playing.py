"""What tests of play share: sources of small fresh agents of every family, and steps of a mode."""

from dataclasses import replace
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from models.iris.agent import IrisAgent
from models.jowa.agent import JowaAgent
from models.jowa.config import JowaAgentConfig
from models.rem.agent import RemAgent
from pipelines.environments.registry import protocol
from pipelines.evaluation.player_settings import PlayerSettings, SearchConfig
from pipelines.play.mode import Mode, Shown
from pipelines.play.source import PlaySource
from pipelines.recipes.demo import mini
from tests.pipelines.stages.test_learn_iris import NETWORKS
from tests.pipelines.stages.test_learn_rem import tiny

FAMILIES = ("jowa", "iris", "rem")


def source(family: str = "jowa", game: str = "Breakout", **changes: Any) -> PlaySource:
    """A fresh agent that plays by what it thinks, greedily or as an actor."""
    if family != "jowa":
        search = SearchConfig(temperature=1e-3)  # the likeliest action
        settings = PlayerSettings("actor", 1, 0, context=2, epsilon=0.0, search=search)
        agent = IrisAgent(NETWORKS, seed=1) if family == "iris" else RemAgent(tiny("rem").networks, seed=1)
        found = PlaySource(game, protocol("iris"), agent, settings, seed=5)
    else:
        networks = mini().pretrain.networks
        assert isinstance(networks, JowaAgentConfig)
        settings = PlayerSettings("greedy", 1, 0, context=2, epsilon=0.0)
        found = PlaySource(game, protocol("sticky"), JowaAgent(networks, seed=1), settings, seed=5)
    for network in found.agent.networks.values():
        network.eval().requires_grad_(False)
    ends(found, -9.0)
    return replace(found, **changes)


def ends(source: PlaySource, logit: float) -> None:
    """Have the world model say of every step that it ended the game, or did not where `logit` is below 0."""
    model = source.agent.networks["model" if "model" in source.agent.networks else "world_model"]
    layers = [each for each in model.get_submodule("head_ends").modules() if isinstance(each, nn.Linear)]
    layers[-1].weight.zero_()
    layers[-1].bias.copy_(torch.tensor([0.0, logit]))


def played(mode: Mode, steps: int, presses: int | None = None, seed: int | None = None) -> list[Shown]:
    """The beginning and so many steps."""
    return [mode.reset(seed), *(mode.step(presses) for _ in range(steps))]


def pictures(shown: list[Shown], title: str) -> NDArray[np.uint8]:
    """All of one title, (steps + 1, H, W) or (steps + 1, H, W, 3)."""
    return np.stack([each.pictures[title] for each in shown])
