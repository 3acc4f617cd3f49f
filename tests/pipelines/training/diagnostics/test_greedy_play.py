"""Greedy play on the way: real episodes, the same each time, and training goes on as if nothing had been played."""

from pathlib import Path

import pytest
import torch

from models.jowa.agent import JowaAgent
from models.jowa.config import JowaAgentConfig
from pipelines.training.config import LoopConfig
from pipelines.training.device import Device
from pipelines.training.diagnostics.greedy_play import greedy_returns
from pipelines.training.distributed.ranks import ALONE
from tests.pipelines.training import toy_run
from tests.pipelines.training.toy_run import MODEL, TOKENIZER

AGENT = ("agent.json", "model.safetensors", "tokenizer.safetensors")
LOOP = LoopConfig(evaluate_episodes=2, evaluate_steps=6)


def test_play_repeats_and_leaves_modes_and_random_numbers() -> None:
    agent = JowaAgent(JowaAgentConfig(tokenizer=TOKENIZER, model=MODEL))
    model, tokenizer = agent.model.train(), agent.tokenizer.eval()
    modes = [module.training for module in model.modules()]
    torch.manual_seed(5)
    before = torch.get_rng_state()
    found = [greedy_returns(agent, ("Pong", "Breakout"), LOOP, Device("cpu", False), ALONE) for _ in "ab"]
    assert found[0] == found[1]
    assert list(found[0]) == ["Pong", "Breakout"]
    assert torch.equal(torch.get_rng_state(), before)
    assert (model.training, tokenizer.training) == (True, False)
    assert [module.training for module in model.modules()] == modes


@pytest.mark.slow
def test_checkpoints_are_played_listed_and_change_no_weight(tmp_path: Path) -> None:
    torch.set_num_threads(1)
    plain = toy_run.run(tmp_path / "plain", {})["trained"]
    loop = {"checkpoint_every": 4, "evaluate_every": 6, "evaluate_episodes": 2, "evaluate_steps": 5, "keep_last": 2}
    options = {"loop": loop, "stage": "train"}
    played = toy_run.run(tmp_path / "played", options)["trained"]
    assert played.path("model.safetensors").read_bytes() == plain.path("model.safetensors").read_bytes()
    assert {name for name in played.names() if name.startswith("checkpoints")} == {
        "checkpoints/index.json",
        *(f"checkpoints/step-{step}/{name}" for step in (6, 8, 12) for name in AGENT),
    }
    last = played.path("checkpoints/step-12/model.safetensors")
    assert last.read_bytes() == played.path("model.safetensors").read_bytes()
