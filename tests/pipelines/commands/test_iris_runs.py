"""IRIS's own files come in and go out again, bit for bit; what is none of its checkpoints is one line."""

import os
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from models.iris.agent import IrisAgent
from models.iris.config import TOKENIZER, ActorCriticConfig, IrisConfig, WorldModelConfig
from models.iris.gpt2 import gpt2_names
from models.losses.frames import VGG_STAGES
from models.tokenizers.config import TokenizerWeights
from pipelines import home
from pipelines.cli import run
from pipelines.graph.experiment import find
from pipelines.store.ref import Ref
from pipelines.store.store import Store
from pipelines.training.weight_files import original_files

HEADS = ("--set", "world_model.heads=2")
CELL = "world_model.ncp_layers.0.ncp.rnn_cell"
Weights = dict[str, Tensor]


def networks(actions: int = 6) -> IrisConfig:
    """A small IRIS of a game with so many actions; Pong has six."""
    return IrisConfig(
        tokenizer=replace(
            TOKENIZER, vocab_size=16, embed_dim=8, z_channels=8, channels=32, res_blocks=1, resolution=32,
            attention_at=(8,),
        ),
        world_model=WorldModelConfig(16, 4, 5, 2, 2, 16, 0.0, actions),
        actor_critic=ActorCriticConfig((4, 6), 8, num_actions=actions, resolution=32),
    )  # fmt: skip


def lpips() -> Weights:
    """Of the right names and shapes, as IRIS keeps them."""
    widths, entering, found = (64, 128, 256, 512, 512), 3, {}
    for number, (stage, width) in enumerate(zip(VGG_STAGES, widths, strict=True)):
        for place in stage:
            found[f"lpips.net.slice{number + 1}.{place}.weight"] = torch.zeros(width, entering, 3, 3)
            found[f"lpips.net.slice{number + 1}.{place}.bias"] = torch.full((width,), 0.5)
            entering = width
        found[f"lpips.lin{number}.model.1.weight"] = torch.ones(1, width, 1, 1)
    return found | {"lpips.scaling_layer.shift": torch.zeros(1, 3, 1, 1)}


@pytest.fixture
def file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A checkpoint as IRIS's own code leaves one, but for LPIPS."""
    monkeypatch.setenv("WORLDLINE_HOME", str(tmp_path / "home"))
    monkeypatch.delenv("WORLDLINE_STORAGE", raising=False)
    path = tmp_path / "Pong.pt"
    torch.save(original_files(IrisAgent(networks(), seed=4), {}, {})["last.pt"], path)
    return path


def exported(name: str, out: Path, *more: str) -> Weights:
    assert run(["export", "checkpoint", name, "--to", "iris", "--out", str(out), *more]) == 0
    [folder] = [path for path in out.iterdir() if path.is_dir()]
    return torch.load(folder / "last.pt", weights_only=True)


def same(one: Weights, other: Weights) -> bool:
    return one.keys() == other.keys() and all(
        torch.equal(one[name], other[name]) and one[name].dtype == other[name].dtype for name in one
    )


def refused(capsys: pytest.CaptureFixture[str], *arguments: object) -> str:
    """The one line that a refused import prints; nothing may be left of it."""
    capsys.readouterr()
    assert run(["import", "iris", *map(str, arguments)]) in (1, 2)
    printed = capsys.readouterr()
    assert printed.err.count("\n") == 1 and not printed.out and "fault of Worldline" not in printed.err, printed
    assert not (home.home() / "store" / "imported").exists() and not (home.home() / "experiments").exists()
    return printed.err


def test_in_and_out_again_is_exact_masks_positions_and_dtypes_too(
    file: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    theirs = torch.load(file)
    theirs["tokenizer.embedding.weight"] = theirs["tokenizer.embedding.weight"].bfloat16()
    theirs["actor_critic.lstm.bias_hh"].view(-1)[0] = -0.0
    torch.save(theirs | {f"tokenizer.{name}": each for name, each in lpips().items()}, file)
    assert run(["import", "iris", "--file", str(file), *HEADS]) == 0
    assert "let it play with 'worldline evaluate Pong --games GAME'" in capsys.readouterr().out
    assert same(exported("Pong", tmp_path / "without"), theirs)
    assert same(exported("Pong", tmp_path / "with", "--lpips", str(file)), torch.load(file))


@pytest.mark.parametrize(
    "world",
    [
        {"kind": "ncp_tokens", "units": 40},
        pytest.param({"kind": "ncp_frames", "width": 4, "units": 60, "max_steps": 20}, marks=pytest.mark.slow),
    ],
    ids=lambda world: str(world["kind"]),
)
def test_circuits_of_the_thesis_come_in_and_go_out_exactly(file: Path, tmp_path: Path, world: dict[str, Any]) -> None:
    config = replace(networks(), world_model=replace(networks().world_model, **world, heads=4))
    theirs = original_files(IrisAgent(config, seed=4), {}, {})["last.pt"]
    mask = f"{CELL}.layer_0.sparsity_mask"
    theirs[mask] = theirs[mask].flip(0)  # of another wiring, which the file decides about
    torch.save(theirs, file)
    assert run(["import", "iris", "--file", str(file)]) == 0
    assert same(exported("Pong", tmp_path / "out"), theirs)
    made = Store(home.home() / "store").open(find_imported()).manifest.config["networks"]
    assert made["world_model"]["kind"] == world["kind"] and made["world_model"]["units"] == world["units"]


def find_imported() -> Ref:
    experiment = find(home.home() / "experiments", "Pong")
    return Store(home.home() / "store").resolve(f"imported/{experiment.key}")


def test_a_gpt2_and_a_critic_of_the_thesis_come_in_by_their_names(file: Path, tmp_path: Path) -> None:
    """Out they go under IRIS's names, as any IRIS."""
    world = replace(networks().world_model, width=64, heads=1)
    config = replace(
        networks(),
        world_model=world,
        tokenizer=replace(networks().tokenizer, value_layers=(5, 3)),
        weights=TokenizerWeights(value=1.0),
    )
    ours = original_files(IrisAgent(config, seed=4), {}, {})["last.pt"]
    theirs = gpt2_names(ours)
    assert "world_model.transformer.blocks.1.attn.c_attn.weight" in theirs and theirs.keys() != ours.keys()
    torch.save(theirs, file)
    assert run(["import", "iris", "--file", str(file)]) == 0
    assert same(exported("Pong", tmp_path / "out"), ours)
    made = Store(home.home() / "store").open(find_imported()).manifest.config["networks"]
    assert made["world_model"]["heads"] == 1 and made["tokenizer"]["value_layers"] == [5, 3]


def test_it_knows_the_games_own_actions_and_is_scored_under_its_own_rules(file: Path) -> None:
    assert run(["import", "iris", "--file", str(file), "--name", "theirs", *HEADS]) == 0
    quick = ["--set", "evaluate.max_steps=12", "--set", "evaluate.random_episodes=2", "--episodes", "2"]
    assert run(["evaluate", "theirs", "--games", "Pong", *quick]) == 0
    store, theirs = Store(home.home() / "store"), find(home.home() / "experiments", "theirs")
    [score] = {ref for name, ref in store.pointers().items() if name.startswith(f"scores/{theirs.key}/Pong")}
    manifest = store.open(score).manifest
    assert (manifest.config["protocol"], manifest.config["planner"]) == ("iris", "actor")
    assert manifest.config["search"]["temperature"] == 0.5
    made = store.open(store.resolve(f"imported/{theirs.key}"))
    assert made.manifest.config["networks"]["actions"] == [
        0,
        1,
        3,
        4,
        11,
        12,
    ]
    assert made.manifest.checks[0].name == "round_trip" and made.manifest.checks[0].passed


@pytest.mark.parametrize(
    ("change", "more", "words"),
    [
        (lambda w: w, ("--game", "Breakout"), "It knows 6 actions and Breakout has 4 (NOOP, FIRE, RIGHT, LEFT): say"),
        (lambda w: w, ("--game", "Pongg"), "did you mean 'Pong'"),
        (lambda w: w, ("--set", "world_model.width=8"), "has other sizes than --set world_model.width=8: leave out"),
        (lambda w: w, ("--set", "world_model.wdth=8"), "did you mean 'world_model.width'"),
        (lambda w: {n: t for n, t in w.items() if n != "tokenizer.embedding.weight"}, (), "'tokenizer.embedding.wei"),
        (
            lambda w: {n: t for n, t in w.items() if "conv2.bias" not in n},
            (),
            "missing: decoder.mid.block_1.conv2.b",
        ),
        (lambda w: w | {"actor_critic.stranger": torch.ones(1)}, (), "unexpected: stranger"),
        (lambda w: w | {"actor_critic.lstm.bias_ih": torch.ones(8)}, (), "lstm.bias_ih (8,) for (32,)"),
        (lambda w: w | {"world_model.tokenizer.embedding.weight": torch.ones(16, 8)}, (), "model is the game itself"),
        (
            lambda w: (
                w | {f"world_model.ncp_layers.0.ncp.rnn_cell.layer_{n}.ff1.bias": torch.ones(3) for n in range(3)}
            ),
            (),
            "its circuits have 3 outputs",
        ),
        (lambda w: w | {"epoch": 600}, (), "holds a int under 'epoch', not a tensor"),
        (lambda w: {"model": w}, (), "holds a dict under 'model', not a tensor"),
        (lambda w: [w], (), "holds a list, not weights by name"),
        (lambda w: {f"head.{n}": t for n, t in w.items()}, (), "holds 'head.tokenizer.encoder.conv_in.weight', which"),
        (
            lambda w: w | {"world_model.head_ends.indices": torch.arange(5)},
            (),
            "'head_ends.indices' is another one than an IRIS of as many positions has",
        ),
    ],
)
def test_what_is_no_checkpoint_of_that_game_is_refused_in_one_line(
    file: Path,
    capsys: pytest.CaptureFixture[str],
    change: Callable[[Weights], object],
    more: tuple[str, ...],
    words: str,
) -> None:
    torch.save(change(torch.load(file)), file)
    assert words in refused(capsys, "--file", file, *HEADS, *more)


class _Code:
    def __reduce__(self) -> tuple[object, tuple[str]]:
        return os.mkdir, ("ran",)


def test_files_that_are_none_and_code_in_a_file_are_refused(
    file: Path, capsys: pytest.CaptureFixture[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    assert "cannot be read" in refused(capsys, "--file", tmp_path / "none.pt")
    other = file.rename(tmp_path / "last.pt")
    assert "last.pt is not named after a game: say whose it is" in refused(capsys, "--file", other, *HEADS)
    torch.save({"tokenizer.embedding.weight": _Code()}, other)
    assert "holds more than tensors ('posix.mkdir')" in refused(capsys, "--file", other, "--game", "Pong")
    assert not (tmp_path / "ran").exists()


def test_wrong_exports_are_one_line(file: Path, capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    assert run(["import", "iris", "--file", str(file), *HEADS]) == 0
    out = ("--out", str(tmp_path / "out"))
    for arguments, words in (
        (("--to", "jowa"), "--to jowa is for agents of the family 'jowa', this one is of 'iris'"),
        (("--to", "irs"), "Unknown format 'irs': did you mean 'iris'"),
        (("--to", "iris", "--lpips", str(file)), "Pong.pt holds no weight lpips.*: give a checkpoint that"),
        (("--to", "iris", "--game", "Boxing"), "plays no Boxing: it plays Pong"),
    ):
        capsys.readouterr()
        assert run(["export", "checkpoint", "Pong", *arguments, *out]) == 2
        printed = capsys.readouterr()
        assert words in printed.err and printed.err.count("\n") == 1
    assert not (tmp_path / "out").exists()


def test_a_run_folder_of_what_was_imported_has_weights_and_config_alone(
    file: Path, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    assert run(["import", "iris", "--file", str(file), *HEADS]) == 0
    to = tmp_path / "out" / "pong"
    assert run(["export", "run", "Pong", "--to", str(to)]) == 0
    assert sorted(each.relative_to(to).as_posix() for each in to.rglob("*") if each.is_file()) == [
        "checkpoints/last.pt",
        "config/trainer.yaml",
    ]
    assert same(torch.load(to / "checkpoints" / "last.pt", weights_only=True), torch.load(file))
    capsys.readouterr()
    assert run(["export", "run", "Pong", "--to", str(to)]) == 2
    assert "is there and not empty: add --overwrite or choose another place" in capsys.readouterr().err
    assert run(["export", "run", "Pong", "--to", str(to), "--game", "Boxing"]) == 2
    assert "plays no Boxing" in capsys.readouterr().err
