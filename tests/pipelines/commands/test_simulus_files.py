"""Simulus's own files come in and go out again, bit for bit; what is none of its checkpoints is one line."""

from dataclasses import replace
from pathlib import Path

import pytest
import torch
from torch import Tensor

from models.simulus.agent import SimulusAgent
from models.simulus.config import SimulusConfig
from pipelines import home
from pipelines.cli import run
from pipelines.graph.experiment import find
from pipelines.store.store import Store
from pipelines.training.weight_files import original_files
from tests.models.simulus.small_simulus import VARIANTS

SETS = ("--set", "tokenizer.norm_groups=2", "--set", "world_model.max_steps=5", "--set", "actor_critic.horizon=5")


def pong(config: SimulusConfig) -> SimulusConfig:
    """With the six actions of Pong, on frames of 64 pixels, which its tokenizer sees as 32."""
    return replace(config, actions=(0, 1, 2, 3, 4, 5), frame=(64, 64, 3))


@pytest.fixture
def file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("WORLDLINE_HOME", str(tmp_path / "home"))
    monkeypatch.delenv("WORLDLINE_STORAGE", raising=False)
    return tmp_path / "Pong.pt"


def saved(file: Path, variant: str) -> dict[str, Tensor]:
    theirs = original_files(SimulusAgent(pong(VARIANTS[variant]), seed=4), {}, {})["last.pt"]
    torch.save(theirs, file)
    return theirs


@pytest.mark.parametrize("variant", VARIANTS)
def test_in_and_out_again_is_exact(file: Path, tmp_path: Path, variant: str) -> None:
    theirs = saved(file, variant)
    assert run(["import", "simulus", "--file", str(file), *SETS]) == 0
    assert run(["export", "checkpoint", "Pong", "--to", "simulus", "--out", str(tmp_path / "out")]) == 0
    [folder] = [path for path in (tmp_path / "out").iterdir() if path.is_dir()]
    found = torch.load(folder / "last.pt", weights_only=True)
    assert found.keys() == theirs.keys() and all(torch.equal(found[name], theirs[name]) for name in theirs)
    experiment = find(home.home() / "experiments", "Pong")
    store = Store(home.home() / "store")
    made = store.open(store.resolve(f"imported/{experiment.key}")).manifest.config["networks"]
    expected = pong(VARIANTS[variant])
    for part, names in (("tokenizer", "resolution quantizer"), ("world_model", "heads backbone ensemble reward_bins"),
                        ("actor_critic", "separate value_bins")):  # fmt: skip
        for name in names.split():
            assert made[part][name] == getattr(getattr(expected, part), name), (part, name)
    assert made["actor_critic"]["mlp"] == list(expected.actor_critic.mlp)
    assert made["actions"] == [0, 1, 3, 4, 11, 12]


def test_what_is_no_simulus_of_the_game_is_one_line(file: Path, capsys: pytest.CaptureFixture[str]) -> None:
    theirs = saved(file, "simulus")

    def refused(weights: dict[str, Tensor], *more: str) -> str:
        torch.save(weights, file)
        capsys.readouterr()
        assert run(["import", "simulus", "--file", str(file), *SETS, *more]) in (1, 2)
        printed = capsys.readouterr()
        assert printed.err.count("\n") == 1 and "fault of Worldline" not in printed.err, printed
        return printed.err

    assert "belongs to none of tokenizer, world_model, actor_critic" in refused(theirs | {"critic.x": torch.zeros(1)})
    lacking = {name: each for name, each in theirs.items() if name != "actor_critic.actor_linear.weight"}
    assert "it lacks 'actor_critic.actor_linear.weight', which every Simulus has" in refused(lacking)
    odd = theirs | {"world_model._model.pred_tokens": torch.zeros(17, 16)}
    assert "predicts 17 tokens a frame behind 3 halvings, which makes no square grid" in refused(odd)
    assert "It knows 6 actions and Breakout has 4" in refused(theirs, "--game", "Breakout")
    levels = "tokenizer.tokenizers.image.fsq._levels"
    lacking = {name: each for name, each in theirs.items() if name != levels}
    assert "FSQ has 2 levels that make 16 tokens, and fsq_levels (8, 8, 8) do not" in refused(lacking)
    for wrong in ([4, 5], [0, 0], [[4, 4]], [1 << 40, 1 << 40], [4.0, 4.0]):
        refused(theirs | {levels: torch.tensor(wrong)})
    other = ("--set", "tokenizer.fsq_levels=2,8", "--set", "tokenizer.vocab_size=16")
    assert "other sizes than --set tokenizer.fsq_levels=2,8: leave out" in refused(theirs, *other)
    angles = "world_model._model.rotary_emb.inv_freq"
    assert "inv_freq' is not what this config says" in refused(theirs | {angles: theirs[angles] * 2})
