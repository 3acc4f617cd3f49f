"""Tiny versions of Delta-IRIS's recipes play, learn two rounds through the real stage, and play again."""

from dataclasses import replace
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from models.api import Acting, Context
from models.delta_iris.agent import DeltaIrisAgent
from pipelines.recipes.delta_iris import networks
from pipelines.recipes.registry import recipe
from pipelines.stages import learn
from pipelines.stages.learn import LearnConfig
from pipelines.store.store import Store
from pipelines.training.checkpoints import load_agent
from pipelines.training.device import Device
from pipelines.training.play_turns import CheckPlay
from pipelines.training.schedule import LoopConfig, total_steps
from tests.models.delta_iris.small_delta import ACTOR, TOKENIZER, WORLD

ENVIRONMENTS = {"delta_iris_mini": ("Crafter", "crafter", 17), "delta_iris_atari": ("Pong", "iris", 18)}


def tiny(name: str) -> LearnConfig:
    """The recipe's numbers, but for sizes and how often."""
    full, (game, rules, _) = recipe(name), ENVIRONMENTS[name]
    given, config = networks(full), full.of(LearnConfig)
    made = replace(
        given,
        tokenizer=replace(TOKENIZER, num_actions=given.tokenizer.num_actions, revive_updates=-1),
        world_model=replace(WORLD, num_actions=given.world_model.num_actions, rewards=given.world_model.rewards),
        actor_critic=replace(ACTOR, num_actions=given.actor_critic.num_actions, values=given.actor_critic.values),
        tokenizer_steps=3,
    )
    return replace(
        config,
        game=game,
        networks=made,
        rounds=2,
        uses=tuple(replace(use, start=0, first=3, updates=2, batch=4) for use in config.uses),
        collect=replace(config.collect, steps=8, until=0, first_steps=24),
        check=CheckPlay(every=1, episodes=1, max_steps=6, steps=12, protocol=rules),
        loop=LoopConfig(precision="float32", log_every=1),
        sight_frames=2,
    )


@pytest.mark.parametrize("name", ["delta_iris_mini", pytest.param("delta_iris_atari", marks=pytest.mark.slow)])
def test_two_rounds_are_played_and_learned_and_the_agent_plays(tmp_path: Path, name: str) -> None:
    config, actions = tiny(name), ENVIRONMENTS[name][2]
    assert total_steps(config.schedule) == 3 * (3 + 2), "the first round learns amounts of its own"
    found = learn.run(config, Store(tmp_path / "store")).artefact
    assert found.manifest.counts["frames"] == 24 + 8
    sight = found.manifest.metrics["sight"][config.game]
    assert 0 < sight["codes_used"] <= 16 and sight["reconstruction_error"] > 0
    agent = load_agent(found, Device("cpu", False))
    assert isinstance(agent, DeltaIrisAgent) and agent.spaces is not None
    fresh = DeltaIrisAgent(agent.config, config.seed)
    for network, module in fresh.networks.items():
        kept = load_file(found.path(f"{network}.safetensors"))
        assert any(not torch.equal(each, kept[key]) for key, each in module.state_dict().items()), network
    frames = torch.randint(0, 256, (2, 3, 64, 64), dtype=torch.uint8)
    policy = agent.policy(Acting(torch.zeros(2).long(), torch.ones(2, actions, dtype=torch.bool), temperature=1.0))
    assert policy.act(frames, [0, 1]).shape == (2,)
    dream = agent.dream(seed=1)
    dream.reset(Context(agent.encode(frames)[:, None], torch.zeros(2, 0).long(), torch.zeros(2).long()))
    assert dream.step(torch.tensor([3, 1])).tokens_NK.shape == (2, agent.tokens_per_frame)


def test_frames_of_another_size_are_refused_before_anything_is_made(tmp_path: Path) -> None:
    config = tiny("delta_iris_mini")
    with pytest.raises(ValueError, match="Frames of \\(8, 8, 3\\) are smaller than the tokenizer's 16 pixels"):
        replace(config.networks, frame=(8, 8, 3))
