"""REM's own files come in and go out again, bit for bit; what is none of its checkpoints is one line."""

from dataclasses import replace
from pathlib import Path

import pytest
import torch
from torch import Tensor

from models.rem.agent import RemAgent
from models.rem.config import RemConfig
from pipelines import home
from pipelines.cli import run
from pipelines.graph.experiment import find
from pipelines.store.store import Store
from pipelines.training.weight_files import original_files
from tests.models.rem.small_rem import VARIANTS

SETS = ("--set", "tokenizer.norm_groups=2", "--set", "world_model.max_steps=5", "--set", "actor_critic.horizon=5")
NOT_TOLD = {"no pop": ("--set", "world_model.pop=false"), "no action inputs": ()}


def pong(config: RemConfig) -> RemConfig:
    """With the six actions of Pong, on frames of 64 pixels, which its tokenizer sees as 32."""
    return replace(config, actions=(0, 1, 2, 3, 4, 5), frame=(64, 64, 3))


@pytest.fixture
def file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("WORLDLINE_HOME", str(tmp_path / "home"))
    monkeypatch.delenv("WORLDLINE_STORAGE", raising=False)
    return tmp_path / "Pong.pt"


def saved(file: Path, variant: str) -> dict[str, Tensor]:
    theirs = original_files(RemAgent(pong(VARIANTS[variant]), seed=4), {}, {})["last.pt"]
    torch.save(theirs, file)
    return theirs


@pytest.mark.parametrize("variant", VARIANTS)
def test_in_and_out_again_is_exact_angles_too(file: Path, tmp_path: Path, variant: str) -> None:
    theirs = saved(file, variant)
    assert "world_model._model.layers.1.retention.thetas" in theirs
    assert run(["import", "rem", "--file", str(file), *SETS, *NOT_TOLD.get(variant, ())]) == 0
    assert run(["export", "checkpoint", "Pong", "--to", "rem", "--out", str(tmp_path / "out")]) == 0
    [folder] = [path for path in (tmp_path / "out").iterdir() if path.is_dir()]
    found = torch.load(folder / "last.pt", weights_only=True)
    assert found.keys() == theirs.keys() and all(torch.equal(found[name], theirs[name]) for name in theirs)
    experiment = find(home.home() / "experiments", "Pong")
    store = Store(home.home() / "store")
    made = store.open(store.resolve(f"imported/{experiment.key}")).manifest.config["networks"]
    expected = pong(VARIANTS[variant])
    assert made["tokenizer"]["resolution"] == 32 and made["world_model"]["heads"] == 2
    assert made["actor_critic"]["kind"] == expected.actor_critic.kind
    assert made["actor_critic"]["rnn"] == expected.actor_critic.rnn
    assert made["actions"] == [0, 1, 3, 4, 11, 12]


def test_what_is_no_rem_of_the_game_is_one_line(file: Path, capsys: pytest.CaptureFixture[str]) -> None:
    theirs = saved(file, "rem")

    def refused(weights: dict[str, Tensor], *more: str) -> str:
        torch.save(weights, file)
        capsys.readouterr()
        assert run(["import", "rem", "--file", str(file), *SETS, *more]) in (1, 2)
        printed = capsys.readouterr()
        assert printed.err.count("\n") == 1 and "fault of Worldline" not in printed.err, printed
        return printed.err

    assert "belongs to none of tokenizer, world_model, actor_critic" in refused(theirs | {"critic.x": torch.zeros(1)})
    lacking = {name: each for name, each in theirs.items() if name != "tokenizer.embedding.weight"}
    assert "it lacks 'tokenizer.embedding.weight', which every REM has" in refused(lacking)
    cell = theirs | {"actor_critic.rnn.weight_hh": torch.zeros(40, 8)}
    assert "no LSTM and no GRU" in refused(cell)
    odd = theirs | {"world_model.placeholder_embeddings.weight": torch.zeros(18, 16)}
    assert "predicts 17 tokens a frame behind 3 halvings, which makes no square grid" in refused(odd)
    assert "It knows 6 actions and Breakout has 4" in refused(theirs, "--game", "Breakout")
    angles = "world_model._model.layers.1.retention.thetas"
    assert "turns tokens by other angles" in refused(theirs | {angles: theirs[angles] * 2})
