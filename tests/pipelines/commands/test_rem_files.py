"""REM's own files come in and go out again, bit for bit; what is none of its checkpoints is one line."""

from pathlib import Path

import pytest
import torch
from torch import Tensor

from models.rem.agent import RemAgent
from tests.models.rem.small_rem import VARIANTS
from tests.pipelines.commands.pong_files import pong, refused, saved, through

NOT_TOLD = {"no pop": ("--set", "world_model.pop=false"), "no action inputs": ()}


@pytest.fixture
def file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("WORLDLINE_HOME", str(tmp_path / "home"))
    monkeypatch.delenv("WORLDLINE_STORAGE", raising=False)
    return tmp_path / "Pong.pt"


def agent(variant: str) -> RemAgent:
    return RemAgent(pong(VARIANTS[variant]), seed=4)


@pytest.mark.parametrize("variant", VARIANTS)
def test_in_and_out_again_is_exact_angles_too(file: Path, variant: str) -> None:
    theirs = saved(file, agent(variant))
    assert "world_model._model.layers.1.retention.thetas" in theirs
    made = through(file, theirs, "rem", *NOT_TOLD.get(variant, ()))
    expected = pong(VARIANTS[variant])
    assert made["tokenizer"]["resolution"] == 32 and made["world_model"]["heads"] == 2
    assert made["actor_critic"]["kind"] == expected.actor_critic.kind
    assert made["actor_critic"]["rnn"] == expected.actor_critic.rnn


def test_what_is_no_rem_of_the_game_is_one_line(file: Path, capsys: pytest.CaptureFixture[str]) -> None:
    theirs = saved(file, agent("rem"))

    def said(weights: dict[str, Tensor], *more: str) -> str:
        return refused(file, weights, "rem", capsys, *more)

    assert "belongs to none of tokenizer, world_model, actor_critic" in said(theirs | {"critic.x": torch.zeros(1)})
    lacking = {name: each for name, each in theirs.items() if name != "tokenizer.embedding.weight"}
    assert "it lacks 'tokenizer.embedding.weight', which every REM has" in said(lacking)
    cell = theirs | {"actor_critic.rnn.weight_hh": torch.zeros(40, 8)}
    assert "no LSTM and no GRU" in said(cell)
    odd = theirs | {"world_model.placeholder_embeddings.weight": torch.zeros(18, 16)}
    assert "predicts 17 tokens a frame behind 3 halvings, which makes no square grid" in said(odd)
    assert "It knows 6 actions and Breakout has 4" in said(theirs, "--game", "Breakout")
    angles = "world_model._model.layers.1.retention.thetas"
    assert "turns tokens by other angles" in said(theirs | {angles: theirs[angles] * 2})
