"""A tiny version of Simulus's recipe plays, learns through the real stage, goes on after a kill, and plays again."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file

from models.api import Acting, Context
from models.simulus.agent import SimulusAgent
from models.simulus.config import SimulusConfig
from pipelines.recipes.registry import recipe
from pipelines.stages import learn
from pipelines.stages.learn import LearnConfig
from pipelines.store.store import Store
from pipelines.training import loop
from pipelines.training.checkpoints import load_agent
from pipelines.training.device import Device
from pipelines.training.play_turns import CheckPlay, PlayTurns
from pipelines.training.schedule import LoopConfig


def tiny(rounds: int = 2, until: int = 1) -> LearnConfig:
    """The recipe's numbers, but for sizes and how often; play is collected in the first rounds alone."""
    full = recipe("simulus").of(LearnConfig)
    networks = full.networks
    assert isinstance(networks, SimulusConfig)
    tokenizer = replace(
        networks.tokenizer, vocab_size=16, fsq_levels=(4, 4), embed_dim=16, z_channels=16, channels=4, norm_groups=2
    )
    world = replace(networks.world_model, layers=2, heads=2, width=16, max_steps=4)
    actor = replace(networks.actor_critic, mlp=(8,), horizon=4, burn_in=3, return_buffer=40)
    return replace(
        full,
        game="Pong",
        networks=replace(networks, tokenizer=tokenizer, world_model=world, actor_critic=actor),
        rounds=rounds,
        uses=tuple(replace(use, start=0, updates=2, batch=4) for use in full.uses),
        collect=PlayTurns(full.collect.protocol, steps=20, until=until),
        check=CheckPlay(every=rounds, episodes=1, max_steps=6, steps=0),
        loop=LoopConfig(precision="float32", log_every=1, save_seconds=0.001),
        sight_frames=2,
    )


def test_rounds_are_played_and_learned_with_curiosity_while_play_lasts(tmp_path: Path) -> None:
    config = tiny()
    found = learn.run(config, Store(tmp_path / "store")).artefact
    agent = load_agent(found, Device("cpu", False))
    assert isinstance(agent, SimulusAgent) and agent.spaces is not None
    scale = agent.actor_critic.return_scale
    assert scale is not None and int(scale.seen) == 2 * 2 * 4 * 2, "2 rounds of 2 updates, 4 rows, 2 learned steps"
    fresh = SimulusAgent(agent.config, config.seed)
    for network, module in fresh.networks.items():
        kept = load_file(found.path(f"{network}.safetensors"))
        changed = {key for key, each in module.state_dict().items() if not torch.equal(each, kept[key])}
        assert changed, network
    curves = found.path("metrics.csv").read_text() if "metrics.csv" in found.names() else ""
    assert not curves or "curiosity" in curves
    frames = torch.randint(0, 256, (2, 3, 64, 64), dtype=torch.uint8)
    legal = torch.zeros(2, 18, dtype=torch.bool)
    legal[:, [0, 3, 11]] = True
    policy = agent.policy(Acting(torch.zeros(2).long(), legal, temperature=1.0))
    assert set(policy.act(frames, [0, 1]).tolist()) <= {0, 3, 11}
    dream = agent.dream(seed=1)
    dream.reset(Context(agent.encode(frames)[:, None], torch.zeros(2, 0).long(), torch.zeros(2).long()))
    assert dream.step(torch.tensor([3, 11])).tokens_NK.shape == (2, agent.tokens_per_frame)


@pytest.mark.slow
def test_a_run_that_was_killed_goes_on_bit_for_bit(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    config = tiny(until=2)
    whole = learn.run(config, Store(tmp_path / "whole")).artefact
    update, done = loop.update, []

    def killed(*given: Any, **named: Any) -> Any:
        done.append(1)
        if len(done) == 11:
            raise KeyboardInterrupt
        return update(*given, **named)

    monkeypatch.setattr(loop, "update", killed)
    store = Store(tmp_path / "killed")
    with pytest.raises(KeyboardInterrupt):
        learn.run(config, store)
    monkeypatch.setattr(loop, "update", update)
    again = learn.run(config, store).artefact
    for network in ("tokenizer", "world_model", "actor_critic"):
        mine, theirs = (load_file(each.path(f"{network}.safetensors")) for each in (whole, again))
        assert mine.keys() == theirs.keys()
        assert all(torch.equal(each, theirs[name]) for name, each in mine.items()), network
