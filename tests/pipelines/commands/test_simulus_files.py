"""Simulus's own files come in and go out again, bit for bit; what is none of its checkpoints is one line."""

from pathlib import Path

import pytest
import torch
from torch import Tensor

from models.simulus.agent import SimulusAgent
from tests.models.simulus.small_simulus import VARIANTS
from tests.pipelines.commands.pong_files import pong, refused, saved, through


@pytest.fixture
def file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("WORLDLINE_HOME", str(tmp_path / "home"))
    monkeypatch.delenv("WORLDLINE_STORAGE", raising=False)
    return tmp_path / "Pong.pt"


def agent(variant: str) -> SimulusAgent:
    return SimulusAgent(pong(VARIANTS[variant]), seed=4)


@pytest.mark.parametrize("variant", VARIANTS)
def test_in_and_out_again_is_exact(file: Path, variant: str) -> None:
    theirs = saved(file, agent(variant))
    made = through(file, theirs, "simulus")
    expected = pong(VARIANTS[variant])
    for part, names in (("tokenizer", "resolution quantizer"), ("world_model", "heads backbone ensemble reward_bins"),
                        ("actor_critic", "separate value_bins")):  # fmt: skip
        for name in names.split():
            assert made[part][name] == getattr(getattr(expected, part), name), (part, name)
    assert made["actor_critic"]["mlp"] == list(expected.actor_critic.mlp)


def test_what_is_no_simulus_of_the_game_is_one_line(file: Path, capsys: pytest.CaptureFixture[str]) -> None:
    theirs = saved(file, agent("simulus"))

    def said(weights: dict[str, Tensor], *more: str) -> str:
        return refused(file, weights, "simulus", capsys, *more)

    assert "belongs to none of tokenizer, world_model, actor_critic" in said(theirs | {"critic.x": torch.zeros(1)})
    lacking = {name: each for name, each in theirs.items() if name != "actor_critic.actor_linear.weight"}
    assert "it lacks 'actor_critic.actor_linear.weight', which every Simulus has" in said(lacking)
    odd = theirs | {"world_model._model.pred_tokens": torch.zeros(17, 16)}
    assert "predicts 17 tokens a frame behind 3 halvings, which makes no square grid" in said(odd)
    assert "It knows 6 actions and Breakout has 4" in said(theirs, "--game", "Breakout")
    levels = "tokenizer.tokenizers.image.fsq._levels"
    lacking = {name: each for name, each in theirs.items() if name != levels}
    assert "FSQ has 2 levels that make 16 tokens, and fsq_levels (8, 8, 8) do not" in said(lacking)
    for wrong in ([4, 5], [0, 0], [[4, 4]], [1 << 40, 1 << 40], [4.0, 4.0]):
        said(theirs | {levels: torch.tensor(wrong)})
    other = ("--set", "tokenizer.fsq_levels=2,8", "--set", "tokenizer.vocab_size=16")
    assert "other sizes than --set tokenizer.fsq_levels=2,8: leave out" in said(theirs, *other)
    angles = "world_model._model.rotary_emb.inv_freq"
    assert "inv_freq' is not what this config says" in said(theirs | {angles: theirs[angles] * 2})
