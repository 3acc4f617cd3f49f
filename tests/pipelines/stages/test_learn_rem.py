"""Tiny versions of REM's recipes play, learn a round through the real stage, and play again."""

from dataclasses import replace
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from models.api import Acting, Context
from models.rem.agent import RemAgent
from models.rem.config import RemConfig
from pipelines.recipes.registry import RECIPES, recipe
from pipelines.stages import learn
from pipelines.stages.learn import LearnConfig
from pipelines.store.artefact import Artefact
from pipelines.store.store import Store
from pipelines.training.checkpoints import load_agent
from pipelines.training.device import Device
from pipelines.training.play_turns import CheckPlay, PlayTurns
from pipelines.training.schedule import LoopConfig

REM = [name for name in RECIPES if name.startswith("rem")]


def tiny(name: str, steps: int = 20) -> LearnConfig:
    """The recipe's numbers, but for sizes and how often."""
    full = recipe(name).of(LearnConfig)
    networks = full.networks
    assert isinstance(networks, RemConfig)
    tokenizer = replace(networks.tokenizer, vocab_size=16, embed_dim=16, z_channels=16, channels=4, norm_groups=2)
    world = replace(networks.world_model, layers=2, heads=2, width=16, max_steps=4)
    actor = replace(networks.actor_critic, hidden=8, horizon=4, burn_in=3)
    return replace(
        full,
        game="Pong",
        networks=replace(networks, tokenizer=tokenizer, world_model=world, actor_critic=actor),
        rounds=1,
        uses=tuple(replace(use, start=0, updates=2, batch=4) for use in full.uses),
        collect=PlayTurns(full.collect.protocol, steps=steps),
        check=CheckPlay(every=1, episodes=1, max_steps=6, steps=0),
        loop=LoopConfig(precision="float32", log_every=1),
        sight_frames=2,
    )


def learned(tmp_path: Path, config: LearnConfig) -> Artefact:
    return learn.run(config, Store(tmp_path / "store")).artefact


PLAYED = [name for name in REM if recipe(name).of(LearnConfig).collect.steps]  # `rem_freeway` never plays


@pytest.mark.parametrize(
    "name", [name if name == "rem" else pytest.param(name, marks=pytest.mark.slow) for name in PLAYED]
)
def test_a_round_is_played_and_learned_and_the_agent_plays(tmp_path: Path, name: str) -> None:
    config = tiny(name)
    found = learned(tmp_path, config)
    agent = load_agent(found, Device("cpu", False))
    assert isinstance(agent, RemAgent) and agent.spaces is not None
    fresh = RemAgent(agent.config, config.seed)
    for network, module in fresh.networks.items():
        kept = load_file(found.path(f"{network}.safetensors"))
        changed = {key for key, each in module.state_dict().items() if not torch.equal(each, kept[key])}
        assert changed, network
    frames = torch.randint(0, 256, (2, 3, 64, 64), dtype=torch.uint8)
    legal = torch.zeros(2, 18, dtype=torch.bool)
    legal[:, [0, 3, 11]] = True
    policy = agent.policy(Acting(torch.zeros(2).long(), legal, temperature=1.0))
    assert set(policy.act(frames, [0, 1]).tolist()) <= {0, 3, 11}
    dream = agent.dream(seed=1)
    dream.reset(Context(agent.encode(frames)[:, None], torch.zeros(2, 0).long(), torch.zeros(2).long()))
    assert dream.step(torch.tensor([3, 11])).tokens_NK.shape == (2, agent.tokens_per_frame)


@pytest.mark.slow
def test_equal_configs_learn_equal_weights(tmp_path: Path) -> None:
    one, other = (learned(tmp_path / name, tiny("rem")) for name in "ab")
    for network in ("tokenizer", "world_model", "actor_critic"):
        mine, theirs = (load_file(each.path(f"{network}.safetensors")) for each in (one, other))
        assert all(torch.equal(each, theirs[name]) for name, each in mine.items())
