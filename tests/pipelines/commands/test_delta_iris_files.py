"""Delta-IRIS's own files come in and go out again, bit for bit; what is none of its checkpoints is one line."""

from dataclasses import replace
from pathlib import Path

import pytest
import torch
from torch import Tensor

from models.delta_iris.agent import DeltaIrisAgent
from pipelines import home
from pipelines.cli import run
from pipelines.graph.experiment import find
from pipelines.store.store import Store
from pipelines.training.weight_files import original_files
from tests.models.delta_iris.small_delta import CONFIG

STACKS = ("tokenizer.encoder", "tokenizer.decoder", "tokenizer.frame_cnn", "world_model.frame_cnn")
SETS = [f"{stack}.norm_groups=2" for stack in (*STACKS, "actor_critic.frame_cnn")]
SETS += ["world_model.heads=2", "actor_critic.burn_in=2"]
GIVEN = [word for each in SETS for word in ("--set", each)]


@pytest.fixture
def file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("WORLDLINE_HOME", str(tmp_path / "home"))
    monkeypatch.delenv("WORLDLINE_STORAGE", raising=False)
    return tmp_path / "last.pt"


def saved(file: Path) -> dict[str, Tensor]:
    """Of Crafter's 17 actions."""
    config = replace(CONFIG, actions=tuple(range(17)), frame=(64, 64, 3))
    theirs = original_files(DeltaIrisAgent(config, seed=4), {}, {})["last.pt"]
    torch.save(theirs, file)
    return theirs


@pytest.mark.parametrize("game", [[], ["--game", "crafter"]])
def test_in_and_out_again_is_exact_masks_too(file: Path, tmp_path: Path, game: list[str]) -> None:
    theirs = saved(file)
    assert theirs["world_model.transformer.blocks.1.sa.mask"].dtype == torch.bool
    assert run(["import", "delta-iris", "--file", str(file), *GIVEN, *game]) == 0
    assert run(["export", "checkpoint", "last", "--to", "delta_iris", "--out", str(tmp_path / "out")]) == 0
    [folder] = [path for path in (tmp_path / "out").iterdir() if path.is_dir()]
    found = torch.load(folder / "last.pt", weights_only=True)
    assert found.keys() == theirs.keys()
    assert all(torch.equal(found[name], theirs[name]) and found[name].dtype == theirs[name].dtype for name in theirs)
    experiment = find(home.home() / "experiments", "last")
    made = Store(home.home() / "store")
    config = made.open(made.resolve(f"imported/{experiment.key}")).manifest.config["networks"]
    assert config["tokenizer"]["resolution"] == 16 and config["tokenizer"]["tokens_per_frame"] == 4
    assert config["world_model"]["rewards"] == "sign" and config["actions"] == list(range(17))


def test_what_is_no_delta_iris_of_the_game_is_one_line(file: Path, capsys: pytest.CaptureFixture[str]) -> None:
    theirs = saved(file)

    def refused(weights: dict[str, Tensor], *more: str) -> str:
        torch.save(weights, file)
        capsys.readouterr()
        assert run(["import", "delta-iris", "--file", str(file), *GIVEN, *more]) in (1, 2)
        printed = capsys.readouterr()
        assert printed.err.count("\n") == 1 and "fault of Worldline" not in printed.err, printed
        return printed.err

    assert "belongs to none of tokenizer, world_model, actor_critic" in refused(theirs | {"critic.x": torch.zeros(1)})
    lacking = {name: each for name, each in theirs.items() if name != "tokenizer.quantizer.codebook"}
    assert "it lacks 'tokenizer.quantizer.codebook', which every Delta-IRIS has" in refused(lacking)
    lacking = {name: each for name, each in theirs.items() if name != "actor_critic.target_model.lstm.bias_hh"}
    assert "missing: target_model.lstm.bias_hh" in refused(lacking)
    odd = theirs | {"world_model.head_rewards.head_module.2.weight": torch.zeros(7, 16)}
    assert "its rewards are of 7 classes" in refused(odd)
    assert "It knows 17 actions and Breakout has 4" in refused(theirs, "--game", "Breakout")
