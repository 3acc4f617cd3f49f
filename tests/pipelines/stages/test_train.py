"""Stage 2 on real tiny tokens: what it leaves, that it reads no frame to learn, when the target head follows."""

from dataclasses import replace
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from pipelines.episodes.trajectories import Trajectories
from pipelines.errors import UsageError, WorldlineError
from pipelines.stages import train
from pipelines.stages.train import WorldActionTraining
from pipelines.store.store import Store
from pipelines.training import checkpoints as checkpoint
from pipelines.training.config import TrainConfig
from pipelines.training.device import Device
from pipelines.training.inputs import sources
from pipelines.training.metrics import read
from tests.pipelines.conftest import TinyRun

CPU = Device("cpu", False)


@pytest.fixture
def task(tiny: TinyRun, tmp_path: Path) -> WorldActionTraining:
    made = tiny.made
    data = sources([made["trajectories"]], [made["segments"]], 1, [made["tokens"]], tmp_path)
    model = checkpoint.load_model(made["pretrained"].path(checkpoint.MODEL), CPU)
    return WorldActionTraining(tiny.plan.train(), data, model, CPU)


def test_what_is_left_is_complete(tiny: TinyRun) -> None:
    made = tiny.made["world_action_model"]
    assert set(made.names()) == {
        "curves.png",
        "metrics.jsonl",
        "model.safetensors",
        "sheet_Breakout.png",
        "tensorboard/events.out.tfevents.0.worldline",
    }
    assert [check.name for check in made.manifest.checks] == list(TrainConfig.CHECKS)
    assert {"td", "cql", "observations", "rewards", "ends"} <= set(made.manifest.metrics["losses"])
    assert [row["step"] for row in read(made.path("metrics.jsonl"))] == [4]
    before = load_file(tiny.made["pretrained"].path("model.safetensors"))
    after = load_file(made.path("model.safetensors"))
    assert before.keys() == after.keys()
    moved = {name for name in before if not torch.equal(before[name], after[name])}
    assert any(name.startswith("head_q.") for name in moved)
    assert any(name.startswith("transformer.") for name in moved)
    assert not any(name.startswith("head_q_target.") for name in moved)  # it follows every 100 steps, there were 4


def test_learning_reads_tokens_and_no_frame(task: WorldActionTraining, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object) -> None:
        raise AssertionError("a frame was read")

    monkeypatch.setattr(Trajectories, "frames", refuse)
    (phase,) = task.config.phases
    losses = task.losses(phase, 0)
    assert set(losses) == {"world_action"}
    assert losses["world_action"].total.isfinite()
    assert set(task.losses(replace(phase, objectives=("world",)), 0)) == {"world"}


def test_the_target_head_follows_every_so_many_steps(task: WorldActionTraining) -> None:
    phase = replace(task.config.phases[0], target_every=3)
    head, target = task.model.head_q, task.model.head_q_target
    followed = []
    for step in range(7):
        with torch.no_grad():
            for parameter in head.parameters():
                parameter.add_(1.0)
        task.after_step(phase, step)
        pairs = zip(head.parameters(), target.parameters(), strict=True)
        followed.append(all(torch.equal(left, right) for left, right in pairs))
    assert followed == [False, False, True, False, False, True, False]


def test_a_batch_depends_on_seed_and_step_alone(task: WorldActionTraining) -> None:
    (phase,) = task.config.phases
    task.model.eval()
    later = task.losses(phase, 3)["world_action"].total.item()
    task.losses(phase, 1)
    assert task.losses(phase, 3)["world_action"].total.item() == later
    assert task.losses(phase, 4)["world_action"].total.item() != later


def test_workers_change_neither_losses_nor_key(task: WorldActionTraining) -> None:
    (phase,) = task.config.phases
    config = replace(task.config, loop=replace(task.config.loop, workers=2))
    assert config.spec() == task.config.spec()
    other = WorldActionTraining(config, task.sources, task.model, CPU)
    for step in (0, 1, 2):
        losses = []
        for each in (task, other):
            torch.manual_seed(step)
            losses.append(each.losses(phase, step)["world_action"].total.item())
        assert losses[0] == losses[1]


def test_it_needs_its_parents(tiny: TinyRun, store: Store) -> None:
    with pytest.raises(UsageError, match="starts from a pretrained artefact: name it"):
        train.run(replace(tiny.plan.train(), pretrained=None), tiny.store)
    with pytest.raises(WorldlineError, match=r"is not in the store .*: make it first \(worldline "):
        train.run(tiny.plan.train(), store)
    assert not (store.root / "world_action_model").exists()
