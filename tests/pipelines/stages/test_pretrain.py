"""Stage 1 on real tiny replay: what it leaves, and that a killed run ends as an uninterrupted one would."""

import hashlib
import json
import os
import signal
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from models.losses.frames import VGG_STAGES
from pipelines.errors import WorldlineError
from pipelines.graph.experiment import register
from pipelines.graph.plan import Plan, Step
from pipelines.recipes.registry import recipe
from pipelines.stages import train
from pipelines.stages.train import PretrainConfig
from pipelines.store.artefact import Artefact
from pipelines.training.checkpoints import load_agent
from pipelines.training.device import Device
from pipelines.training.metrics import read
from tests import fakes
from tests.pipelines.conftest import TINY, TinyRun

CPU = Device("cpu", False)
# A state after every step, dropout and codebook revival on: all that a resumed run could get wrong.
LONGER = (
    *TINY,
    "pretrain.loop.save_seconds=0",
    "pretrain.loop.log_every=1",
    "pretrain.model.dropout=0.1",
    "pretrain.phases.tokenizer.steps=5",
    "pretrain.phases.world.steps=40",
)
COMMAND = "import sys; from pipelines.cli import run; sys.exit(run(['pretrain', 'longer']))"


def pretraining(plan: Plan) -> PretrainConfig:
    config = plan.config(Step("pretrained"))
    assert isinstance(config, PretrainConfig)
    return config


def test_what_is_left_is_complete(tiny: TinyRun) -> None:
    made = tiny.made["pretrained"]
    assert set(made.names()) == {
        "agent.json",
        "curves.png",
        "film_Breakout.gif",
        "metrics.jsonl",
        "model.safetensors",
        "sheet_Breakout.png",
        "tensorboard/events.out.tfevents.0.worldline",
        "tensorboard/pictures/events.out.tfevents.0000000000000008.worldline",
        "tokenizer.safetensors",
    }
    assert made.manifest.counts == {"steps": 8, "games": 1}
    assert [check.name for check in made.manifest.checks] == list(PretrainConfig.CHECKS)
    assert made.manifest.metrics["sight"]["Breakout"]["mean_frame_error"] > 0
    assert {"reconstruction", "observations", "rewards", "ends"} <= set(made.manifest.metrics["losses"])
    assert [(row["phase"], row["step"]) for row in read(made.path("metrics.jsonl"))] == [("tokenizer", 4), ("world", 8)]
    config = tiny.experiment.recipe.pretrain
    assert load_agent(made, CPU).config == config.networks


def test_the_world_phase_leaves_the_tokenizer_alone(tiny: TinyRun) -> None:
    """The tokenizer of eight steps equals the one that the first phase alone leaves."""
    config = pretraining(tiny.plan)
    trained = load_file(tiny.made["pretrained"].path("tokenizer.safetensors"))
    assert int(trained["embedding.step"]) == config.phases[0].steps


def _plain_rows(made: Artefact) -> list[dict]:
    rows = [json.loads(line) for line in made.path("metrics.jsonl").read_text().splitlines()]
    return [{name: value for name, value in row.items() if name != "seconds"} for row in rows]


def test_a_run_killed_in_mid_phase_ends_as_if_it_had_not_been(
    tiny: TinyRun, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole, cut = tiny.copy(tmp_path / "whole"), tiny.copy(tmp_path / "cut")
    longer = recipe("mini", LONGER)
    config = pretraining(Plan(longer))
    register(cut.home / "experiments", "longer", longer)
    monkeypatch.setenv("WORLDLINE_HOME", str(cut.home))
    process = fakes.start(COMMAND)
    scratch = cut.store.scratch / str(config.spec().ref).replace("/", "@")
    log = scratch / "metrics.jsonl"
    fakes.wait_for(lambda: log.exists() and log.read_text().count("\n") >= 12 and (scratch / "state.pt").exists())
    os.kill(process.pid, signal.SIGKILL)
    assert fakes.finish(process)[0] == -signal.SIGKILL
    reached = log.read_text().count("\n")
    assert 12 <= reached < 45, "killed in the world phase"
    assert cut.store.find(config.spec().ref) is None

    torch.manual_seed(99)
    resumed = train.run(config, cut.store).artefact
    uninterrupted = train.run(config, whole.store).artefact
    assert resumed.path("model.safetensors").read_bytes() == uninterrupted.path("model.safetensors").read_bytes()
    ours, theirs = (load_file(made.path("tokenizer.safetensors")) for made in (resumed, uninterrupted))
    assert all(torch.equal(value, theirs[name]) for name, value in ours.items())
    assert _plain_rows(resumed) == _plain_rows(uninterrupted)
    assert [row["step"] for row in _plain_rows(resumed)] == list(range(1, 46))
    assert resumed.manifest.metrics == uninterrupted.manifest.metrics
    assert not scratch.exists()
    assert list((cut.store.root / ".partial").iterdir()) == []


def test_a_loss_that_explodes_leaves_no_artefact(tiny_copy: TinyRun) -> None:
    plan = Plan(recipe("mini", [*TINY, "pretrain.commitment=1e39"]))
    with pytest.raises(
        WorldlineError, match=r"Loss term 'tokenizer/\w+' became (nan|inf) at step \d of phase 'tokeniz"
    ):
        train.run(pretraining(plan), tiny_copy.store)
    assert tiny_copy.store.find(pretraining(plan).spec().ref) is None
    assert list((tiny_copy.store.root / ".partial").iterdir()) == []


@pytest.mark.slow
def test_the_perceptual_term_is_trained_and_its_weights_are_part_of_the_key(tiny_copy: TinyRun, tmp_path: Path) -> None:
    path, weights, channels = tmp_path / "vgg.safetensors", {}, 3
    for stage, numbers in enumerate(VGG_STAGES):
        for n in numbers:
            weights[f"features.{n}.weight"] = torch.full((2, channels, 3, 3), 0.1)
            weights[f"features.{n}.bias"] = torch.arange(2.0)
            channels = 2
        weights[f"lin{stage}.model.1.weight"] = torch.ones(1, 2, 1, 1)
    save_file(weights, path)
    digest = hashlib.sha256(path.read_bytes()).hexdigest()
    overrides = [*TINY, "pretrain.phases.tokenizer.steps=1", "pretrain.phases.world.steps=1"]
    plain = pretraining(Plan(recipe("mini", overrides)))
    config = replace(plain, networks=replace(plain.networks, lpips_sha256=digest, lpips_file=str(path)))
    assert config.spec().ref != plain.spec().ref
    assert replace(config, networks=replace(config.networks, lpips_file="elsewhere")).spec().ref == config.spec().ref
    made = train.run(config, tiny_copy.store).artefact
    assert made.manifest.metrics["losses"]["lpips"] > 0
