"""Fine-tuning on a tiny checkpoint: what it leaves, how dreams enter, that a kill costs nothing, what is refused."""

from dataclasses import replace
from pathlib import Path
from typing import Literal

import pytest
import torch
from safetensors.torch import load_file

from pipelines.cli import run
from pipelines.errors import UsageError, WorldlineError
from pipelines.graph.config_io import override
from pipelines.graph.experiment import find
from pipelines.graph.plan import Plan, Step
from pipelines.recipes.jowa import finetuned
from pipelines.stages import train
from pipelines.stages.train import FinetuneConfig
from pipelines.store.store import Store
from pipelines.training import inputs
from pipelines.training.checkpoints import load_agent
from pipelines.training.device import Device
from pipelines.training.inputs import ImaginedSegments
from pipelines.training.metrics import read
from pipelines.training.schedule import ImagineConfig, LoopConfig, Phase, Use
from pipelines.training.task import Task
from tests.pipelines.conftest import TinyRun

CPU = Device("cpu", False)
PHASE = Phase("expert", 6, (Use("tokenizer", 8), Use("world_action", 4, lr=5e-5)))
AGENT = ("agent.json", "model.safetensors", "tokenizer.safetensors")
IMAGINE = ImagineConfig(after=2, segments=2, every=2, capacity=8)


def config_of(
    tiny: TinyRun, imagine: ImagineConfig | None = None, penalty: Literal["", "combo"] = ""
) -> FinetuneConfig:
    recipe = finetuned(tiny.experiment.recipe, "Breakout", episodes=1)
    short = replace(
        recipe.of(FinetuneConfig),
        phases=(PHASE,),
        imagine=imagine,
        penalty=penalty,
        sight_frames=8,
        loop=LoopConfig(precision="float32", log_every=1, save_seconds=0),
    )
    config = Plan(recipe.but(finetune=short)).config(Step("finetuned", "Breakout"))
    assert isinstance(config, FinetuneConfig)
    return config


def task_of(tiny: TinyRun, imagine: ImagineConfig | None = None, penalty: Literal["", "combo"] = "") -> Task:
    config, legal = config_of(tiny, imagine, penalty), inputs.legal_actions(("Breakout",))
    agent = load_agent(tiny.made["world_action_model"], CPU)
    agent.reconfigure(world_weight=0.5, **({"penalty": penalty} if penalty else {}))
    padding = "left" if imagine else "right"
    _, experts = inputs.best_sources(tiny.made["trajectories"], 1, 8, 1, padding, 1)
    imagined = ImaginedSegments(imagine, agent, legal, CPU, 0) if imagine else None
    objectives = ("tokenizer", "world_action")
    return Task(agent, [experts], objectives, config.loop, 0, CPU, legal_GA=legal, imagined=imagined)


def test_the_paper_s_numbers_are_the_defaults() -> None:
    config = FinetuneConfig(game="Pong")
    (phase,) = config.phases
    assert phase.steps == 50_000
    assert phase.uses == (Use("tokenizer", 128, lr=1e-4), Use("world_action", 32, lr=5e-5))
    assert (config.world_weight, config.stride, ImagineConfig().after, ImagineConfig().segments) == (0.5, 1, 20_000, 16)


@pytest.mark.slow
def test_the_command_makes_an_experiment_that_plays(tiny_copy: TinyRun, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WORLDLINE_HOME", str(tiny_copy.home))
    monkeypatch.delenv("WORLDLINE_STORAGE", raising=False)
    short = ("phases.expert.steps=3", "phases.expert.world_action.batch=4", "phases.expert.tokenizer.batch=8",
             "sight_frames=8", "imagine.after=1", "imagine.segments=2")  # fmt: skip
    changes = [text for change in short for text in ("--set", f"finetune.{change}")]
    assert run(["finetune", "tiny", "--game", "breakout", "--episodes", "1", "--imagined", *changes]) == 0
    store, found = Store(tiny_copy.home / "store"), find(tiny_copy.home / "experiments", "tiny-Breakout-1-imagined")
    made = store.open(store.resolve(f"finetuned/{found.key}/Breakout"))
    assert {parent.ref.split("/")[0] for parent in made.manifest.parents} == {
        "world_action_model", "trajectories",
    }  # fmt: skip
    assert made.manifest.counts["episodes"] == 1 and made.manifest.counts["imagined"] > 0
    assert [check.name for check in made.manifest.checks] == list(FinetuneConfig.CHECKS)
    assert {"reconstruction", "td", "cql", "observations"} <= set(made.manifest.metrics["losses"])
    for name, stage in (("tokenizer", "pretrained"), ("model", "world_action_model")):
        before = load_file(tiny_copy.made[stage].path(f"{name}.safetensors"))
        after = load_file(made.path(f"{name}.safetensors"))
        assert any(not torch.equal(before[key], after[key]) for key in before)
    assert load_agent(made, CPU).config.model.world_weight == 0.5

    assert run(["evaluate", "tiny-Breakout-1-imagined"]) == 0
    score = store.open(store.resolve(f"scores/{found.key}/Breakout"))
    assert {parent.ref.split("/")[0] for parent in score.manifest.parents} == {"finetuned", "collected_replay"}
    assert run(["report"]) == 0
    assert run(["export", "checkpoint", found.name, "--to", "jowa", "--out", str(tiny_copy.home / "out")]) == 0


def test_dreams_come_after_so_many_steps_and_take_the_place_of_real_segments(tiny: TinyRun) -> None:
    task = task_of(tiny, IMAGINE)
    seen = []
    for step in range(5):
        task.losses(PHASE, step)
        assert task.imagined is not None
        seen.append(len(task.imagined))
    assert seen[:2] == [0, 0] and seen[2] > 0 and seen[3] == seen[2]
    real = inputs.to_batch(task._feed(PHASE, 5).batch(5)["world_action"])
    assert task.imagined is not None
    batch = task.imagined.mix(real, 5)
    assert batch.imagined_B is not None and batch.imagined_B.tolist() == [False, False, True, True]
    assert batch.frames_BTCHW is not None and real.frames_BTCHW is not None
    assert torch.equal(batch.frames_BTCHW[:2], real.frames_BTCHW[:2])
    assert task.imagined.mix(real, 1) is real


def test_combo_is_had_from_a_checkpoint_that_was_trained_with_cql(tiny: TinyRun) -> None:
    plain, combo = task_of(tiny, IMAGINE), task_of(tiny, IMAGINE, penalty="combo")
    assert (plain.agent.config.model.penalty, combo.agent.config.model.penalty) == ("cql", "combo")
    losses = [task.losses(PHASE, IMAGINE.after)["world_action"].terms for task in (plain, combo)]
    torch.testing.assert_close(losses[0]["q_logsumexp"], losses[1]["q_logsumexp"])
    assert not torch.equal(losses[0]["q_taken"], losses[1]["q_taken"])  # the imagined segments are left out of it
    assert "penalty" not in config_of(tiny).spec().config  # keys of fine-tunings without it stay what they were


def test_training_goes_on_in_train_mode_after_a_search(tiny: TinyRun) -> None:
    """A network left in eval mode would train without dropout, and a codebook would stand still, in silence."""
    task = task_of(tiny, IMAGINE)
    for module in task.modules.values():
        module.train()
    before = {name: [each.training for each in module.modules()] for name, module in task.modules.items()}
    task.losses(PHASE, IMAGINE.after)
    assert task.imagined is not None and len(task.imagined)
    assert {name: [each.training for each in module.modules()] for name, module in task.modules.items()} == before


def test_a_step_depends_on_seed_and_step_alone(tiny: TinyRun) -> None:
    task = task_of(tiny)
    first = {name: float(loss.total.detach()) for name, loss in task.losses(PHASE, 3).items()}
    task.losses(PHASE, 1)
    assert {name: float(loss.total.detach()) for name, loss in task.losses(PHASE, 3).items()} == first
    assert set(first) == {"tokenizer", "world_action"}


@pytest.mark.slow
def test_a_run_that_was_stopped_ends_as_if_it_had_not_been(tiny_copy: TinyRun, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WORLDLINE_QUIET", "1")
    config, store = config_of(tiny_copy, IMAGINE), tiny_copy.store
    original = Task.after_step

    def stop(self: Task, phase: Phase, step: int) -> None:
        original(self, phase, step)
        if step == 4:  # dreams are in the store, and a state was saved after the step before
            raise KeyboardInterrupt

    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(Task, "after_step", stop)
        train.run(config, store)
    resumed = train.run(config, store).artefact
    other = Store(tiny_copy.home / "other")
    for ref in config.parents:
        target = other.root / str(ref)
        target.parent.mkdir(parents=True, exist_ok=True)
        target.symlink_to(store.root / str(ref))
    straight = train.run(config, other).artefact
    for name in AGENT[1:]:
        left, right = load_file(resumed.path(name)), load_file(straight.path(name))
        assert all(torch.equal(left[key], right[key]) for key in left)
    without_time = [
        [{name: value for name, value in row.items() if name != "seconds"} for row in read(each.path("metrics.jsonl"))]
        for each in (resumed, straight)
    ]
    assert without_time[0] == without_time[1]


def test_games_that_the_experiment_does_not_know_get_their_data(tiny: TinyRun) -> None:
    plan = Plan(finetuned(tiny.experiment.recipe, "Pong"))
    assert plan.games("trajectories") == ("Breakout", "Pong") and plan.games("scores") == ("Pong",)
    assert Step("trajectories", "Pong") in plan.steps("finetuned") and Step("tokens", "Pong") not in plan.steps()
    assert plan.config(Step("pretrained")) == tiny.plan.config(Step("pretrained"))  # training is shared
    tuned = plan.config(Step("finetuned", "Pong")).spec().ref
    assert plan.agent_of(Step("scores", "Pong")) == tuned


def test_bad_requests_are_one_line(tiny_copy: TinyRun, store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(UsageError, match="Training of finetuned starts from an agent: name its artefact"):
        train.run(FinetuneConfig(game="Pong", phases=(PHASE,)), store)
    with pytest.raises(UsageError, match=r"finetune\.episodes 0 is impossible"):
        FinetuneConfig(game="Pong", episodes=0)
    with pytest.raises(UsageError, match="batches of 32, 32 of them imagined: some must be real"):
        recipe = finetuned(tiny_copy.experiment.recipe, "Pong", imagined=True)
        Plan(override(recipe, "finetune.imagine.segments=32"))
    with pytest.raises(UsageError, match="segments 0 is impossible"):
        ImagineConfig(segments=0)
    with pytest.raises(UsageError, match="90 expert episodes of Breakout are wanted"):
        train.run(replace(config_of(tiny_copy), episodes=90), tiny_copy.store)
    with pytest.raises(UsageError, match="Stage 'finetuned' is not in recipe"):
        tiny_copy.plan.config(Step("finetuned", "Pong"))
    with pytest.raises(WorldlineError, match="is not in the store"):
        train.run(config_of(tiny_copy), store)


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return Store(tmp_path / "store")
