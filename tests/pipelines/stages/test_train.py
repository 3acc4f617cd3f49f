"""Stage 2 on real tiny tokens: what it leaves, that it reads no frame to learn, when the target head follows."""

from dataclasses import replace
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from pipelines.episodes.trajectories import Trajectories
from pipelines.errors import UsageError, WorldlineError
from pipelines.graph.config_io import from_plain, override, to_plain
from pipelines.graph.plan import Plan, Step
from pipelines.stages import train
from pipelines.stages.train import TrainConfig
from pipelines.store.artefact import Draft
from pipelines.store.store import Store
from pipelines.training.checkpoints import load_agent
from pipelines.training.device import Device
from pipelines.training.inputs import ImaginedSegments, legal_actions, sources
from pipelines.training.metrics import read
from pipelines.training.schedule import ImagineConfig, LoopConfig, Phase
from pipelines.training.task import Task
from tests.fakes import fill, spec
from tests.pipelines.conftest import TinyRun
from tests.pipelines.training.toy_game import GAME, make_game

CPU = Device("cpu", False)


def config_of(tiny: TinyRun) -> TrainConfig:
    config = tiny.plan.config(Step("world_action_model"))
    assert isinstance(config, TrainConfig)
    return config


@pytest.fixture
def task(tiny: TinyRun, tmp_path: Path) -> Task:
    return task_of(tiny, tmp_path)


def task_of(tiny: TinyRun, folder: Path, workers: int = 0, imagine: ImagineConfig | None = None) -> Task:
    made, config = tiny.made, config_of(tiny)
    data = sources([made["trajectories"]], [made["segments"]], 1, [made["tokens"]], folder)
    agent, legal = load_agent(made["pretrained"], CPU), legal_actions(config.games)
    imagined = ImaginedSegments(imagine, agent, legal, CPU, 0) if imagine else None
    loop = replace(config.loop, workers=workers)
    return Task(agent, data, ("world", "world_action"), loop, config.seed, CPU, legal_GA=legal, imagined=imagined)


@pytest.fixture
def phase(tiny: TinyRun) -> Phase:
    (found,) = config_of(tiny).phases
    return found


def test_what_is_left_is_complete(tiny: TinyRun) -> None:
    made = tiny.made["world_action_model"]
    assert set(made.names()) == {
        "agent.json",
        "curves.png",
        "film_Breakout.gif",
        "metrics.jsonl",
        "model.safetensors",
        "sheet_Breakout.png",
        "tensorboard/events.out.tfevents.0.worldline",
        "tensorboard/pictures/events.out.tfevents.0000000000000004.worldline",
        "tokenizer.safetensors",
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


def test_learning_reads_tokens_and_no_frame(task: Task, phase: Phase, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object) -> None:
        raise AssertionError("a frame was read")

    monkeypatch.setattr(Trajectories, "frames", refuse)
    losses = task.losses(phase, 0)
    assert set(losses) == {"world_action"}
    assert losses["world_action"].total.isfinite()
    assert set(task.losses(replace(phase, uses=(replace(phase.uses[0], name="world"),)), 0)) == {"world"}


def test_dreams_enter_the_second_stage_from_tokens_alone(tiny: TinyRun, tmp_path: Path, phase: Phase) -> None:
    task = task_of(tiny, tmp_path, imagine=ImagineConfig(after=1, segments=2, every=2, capacity=8))
    assert task.imagined is not None
    assert task.losses(phase, 0)["world_action"].total.isfinite() and len(task.imagined) == 0
    assert task.losses(phase, 1)["world_action"].total.isfinite() and len(task.imagined) > 0
    dreams = task.imagined.sample(2)
    assert dreams.frames_BTCHW is None and dreams.imagined_B is not None and bool(dreams.imagined_B.all())


def test_a_recipe_that_imagines_in_its_second_stage_is_had_by_the_command_s_changes(tiny_copy: TinyRun) -> None:
    recipe = override(tiny_copy.experiment.recipe, "train.imagine.after=1", "train.imagine.segments=1")
    config = Plan(recipe).config(Step("world_action_model"))
    assert isinstance(config, TrainConfig)
    assert config.imagine == ImagineConfig(after=1, segments=1)
    assert from_plain(TrainConfig, to_plain(config)) == config
    assert "imagine" not in config_of(tiny_copy).spec().config, "keys of trainings without it stay what they were"
    made = train.run(config, tiny_copy.store).artefact.manifest
    assert made.counts["imagined"] > 0


def test_dreams_that_fit_no_batch_or_no_memory_are_refused(tiny: TinyRun) -> None:
    recipe = tiny.experiment.recipe
    short = recipe.of(TrainConfig)
    with pytest.raises(UsageError, match=r"64 of them imagined: some must be real, lower train.imagine.segments"):
        Plan(recipe.but(train=replace(short, imagine=ImagineConfig(segments=64))))
    deep = Plan(recipe.but(train=replace(short, imagine=ImagineConfig(segments=1, horizon=8))))
    with pytest.raises(UsageError, match=r"train.imagine.horizon is 8 of the 8 steps that the model sees"):
        deep.config(Step("world_action_model")).check_frozen(deep)


def test_the_target_head_follows_every_so_many_steps(task: Task, phase: Phase) -> None:
    phase = replace(phase, uses=(replace(phase.uses[0], target_every=3),))
    head, target = task.agent.model.head_q, task.agent.model.head_q_target
    followed = []
    for step in range(7):
        with torch.no_grad():
            for parameter in head.parameters():
                parameter.add_(1.0)
        task.after_step(phase, step)
        pairs = zip(head.parameters(), target.parameters(), strict=True)
        followed.append(all(torch.equal(left, right) for left, right in pairs))
    assert followed == [False, False, True, False, False, True, False]


def test_a_batch_depends_on_seed_and_step_alone(task: Task, phase: Phase) -> None:
    task.modules["model"].eval()
    later = task.losses(phase, 3)["world_action"].total.item()
    task.losses(phase, 1)
    assert task.losses(phase, 3)["world_action"].total.item() == later
    assert task.losses(phase, 4)["world_action"].total.item() != later


def test_workers_change_neither_losses_nor_key(tiny: TinyRun, phase: Phase, tmp_path: Path) -> None:
    config = config_of(tiny)
    assert replace(config, loop=replace(config.loop, workers=2)).spec() == config.spec()
    tasks = [task_of(tiny, tmp_path), task_of(tiny, tmp_path, workers=2)]
    for step in (0, 1, 2):
        losses = []
        for each in tasks:
            torch.manual_seed(step)
            losses.append(each.losses(phase, step)["world_action"].total.item())
        assert losses[0] == losses[1]


def test_it_needs_its_parents(tiny: TinyRun, store: Store) -> None:
    with pytest.raises(UsageError, match="Training of world_action_model starts from an agent: name its artefact"):
        train.run(replace(config_of(tiny), agent=None), tiny.store)
    with pytest.raises(WorldlineError, match=r"is not in the store .*: make it first \(worldline "):
        train.run(config_of(tiny), store)
    assert not (store.root / "world_action_model").exists()


@pytest.mark.parametrize(
    ("knew_them", "holdout", "recorded", "unseen"),
    [
        (True, 3, {"held_out_episodes": 3}, 3),
        (True, 1, {}, 1),
        (True, 3, {"held_out_episodes": 0}, 0),
        (False, 0, {}, 3),
    ],
)
def test_what_the_agent_s_own_training_saw_is_not_held_out(
    store: Store, tmp_path: Path, knew_them: bool, holdout: int, recorded: dict, unseen: int
) -> None:
    data, cut = make_game(store, 9, 9, 9, 9)
    (source,) = sources([data], [cut], 3, [], tmp_path)
    before = store.produce(
        spec("pretrained", "toy", (data.ref,) if knew_them else (), loop={"holdout_episodes": holdout}),
        fill(metrics={"sight": {GAME: recorded}}),
    ).artefact
    loop = LoopConfig(holdout_episodes=3)
    config = TrainConfig(name="toy", games=(GAME,), loop=loop, agent=before.ref, trajectories=(data.ref,))
    draft = Draft(config.spec(), tmp_path, tmp_path, {data.ref: data, before.ref: before})
    assert train._unseen(config, draft, source) == unseen
