"""Running one step: by the stage's own function, skipped when it stands, and named for people and for gc."""

import importlib
import shutil
from pathlib import Path

import pytest

from pipelines.errors import WorldlineError
from pipelines.graph.experiment import Experiment
from pipelines.graph.make import make, plan_of, pointer, standing, step_named
from pipelines.graph.plan import Plan, Step
from pipelines.graph.table import DATA_STAGES, STAGES
from pipelines.recipes.registry import recipe
from pipelines.sources.source import local_url
from pipelines.stages.train import PretrainConfig
from pipelines.store import gc
from pipelines.store.profile import Profile
from pipelines.store.store import Store
from tests import fakes
from tests.pipelines.conftest import TINY, TinyRun


def test_every_stage_has_a_module_that_runs_it() -> None:
    for stage in STAGES:
        assert callable(importlib.import_module(stage.module).run), stage.name


def test_names_hold_the_experiment_and_plain_data_has_one_without(tiny: TinyRun) -> None:
    key = tiny.experiment.key
    assert pointer(Step("scores", "Pong"), tiny.experiment) == f"scores/{key}/Pong"
    assert pointer(Step("pretrained"), tiny.experiment) == f"pretrained/{key}"
    assert pointer(Step("replay", "Pong", 2), tiny.experiment) == f"replay/{key}/Pong/2"
    assert pointer(Step("replay", "Pong", 2), None) == "replay/Pong/2"
    assert pointer(Step("tokens", "Pong"), None) == "tokens/unregistered/Pong"


def test_a_name_says_which_step_it_was_given_for(tiny: TinyRun) -> None:
    key = tiny.experiment.key
    for step in (*tiny.plan.steps(), Step("replay", "Pong", 2), Step("tuned", "Pong")):
        assert step_named(pointer(step, tiny.experiment)) == (step, key)
        shared = (step, "") if step.stage in DATA_STAGES else None
        assert step_named(pointer(step, None)) == shared, "what no experiment has is of no partition"
    assert step_named("leaderboard/all") == (Step("leaderboard"), "")
    assert step_named(f"scores/{key}/Pong/2026-W47") == (Step("scores", "Pong"), key)
    for name in ("mine", "leaderboard/x", f"pretrained/{key}/Pong", "replay/Pong", f"replay/{key}/Pong/two", "scores"):
        assert step_named(name) is None, name
    assert step_named(f"scores/{key}/Pongg") is None and step_named("pretrained") is None


def test_every_artefact_has_its_name(tiny: TinyRun) -> None:
    for step in tiny.plan.steps():
        assert tiny.store.resolve(pointer(step, tiny.experiment)) == tiny.made[step.stage].ref
        if step.stage in DATA_STAGES:
            assert tiny.store.resolve(pointer(step, None)) == tiny.made[step.stage].ref
    assert tiny.store.resolve("leaderboard/all") == tiny.made["leaderboard"].ref


def test_a_second_run_skips_every_step_and_changes_no_byte(tiny: TinyRun) -> None:
    before = {stage: artefact.digest for stage, artefact in tiny.made.items()}
    for step in tiny.plan.steps():
        report = make(tiny.plan, step, tiny.store, tiny.experiment)
        assert report.skipped, step
        assert report.artefact.digest == before[step.stage]


@pytest.mark.slow
def test_a_change_in_a_recipe_makes_only_what_reads_it(tiny_copy: TinyRun) -> None:
    """A longer world phase leaves the tokenizer as it was: the checkpoint is new, and no frame is encoded again."""
    store = tiny_copy.store

    def work(*changes: str) -> dict[str, str]:
        plan = Plan(recipe("mini", [*TINY, *changes]))
        found = {step.stage: make(plan, step, store) for step in plan.steps()}
        return {
            stage: "adopted" if report.adopted else "made"
            for stage, report in found.items()
            if report.adopted or not report.skipped
        }

    assert work("evaluate.max_steps=20") == {"scores": "made"}
    changed = work("pretrain.phases.world.steps=5")
    assert changed.pop("tokens") == "adopted"
    assert changed == dict.fromkeys(("pretrained", "world_action_model", "scores"), "made")


def test_finding_an_artefact_imports_no_torch(tiny: TinyRun) -> None:
    program = """
import sys
from pathlib import Path
from pipelines.graph.experiment import find
from pipelines.graph.plan import Plan, Step
from pipelines.graph.make import make
from pipelines.store.store import Store
home = Path(sys.argv[1])
experiment = find(home / "experiments", "tiny")
report = make(Plan(experiment.recipe), Step("pretrained"), Store(home / "store"), experiment)
print(report.skipped, sorted({"torch", "dagster"} & set(sys.modules)))
"""
    assert fakes.finish(fakes.start(program, tiny.home)) == (0, "True []\n", "")


def test_names_keep_artefacts_from_gc_and_nothing_else_does(tiny_copy: TinyRun) -> None:
    store = tiny_copy.store
    assert gc.plan(store) == []
    (store.root / "refs" / "leaderboard" / "all.json").unlink()
    assert [artefact.ref.stage for artefact in gc.plan(store)] == ["leaderboard"]
    (store.root / "refs" / "scores" / tiny_copy.experiment.key / "Breakout.json").unlink()
    assert [artefact.ref.stage for artefact in gc.plan(store)] == ["leaderboard", "scores"]
    assert len(gc.collect(store, dry_run=False).artefacts) == 2
    assert store.find(tiny_copy.made["world_action_model"].ref) is not None


# ---- an experiment's name means what was made ----


@pytest.fixture
def from_bucket(tiny: TinyRun, tmp_path: Path) -> tuple[Experiment, Store, Path]:
    """An experiment whose data stages were made from a bucket, with the store and the bucket's folder."""
    bucket = tmp_path / "bucket"
    shutil.copytree(tiny.made["collected_replay"].folder, bucket)
    changes = ["games=Breakout", "source=bucket", "agents=1", "downsample.transitions=300"]
    experiment = Experiment("g1", recipe("mini", changes))
    store = Store(tmp_path / "store", profile=Profile("here", replay_root=local_url(bucket)))
    plan = plan_of(experiment, store)
    for step in plan.steps("segments"):
        assert not make(plan, step, store, experiment).skipped
    return experiment, store, bucket


def test_what_was_made_needs_no_source(from_bucket: tuple[Experiment, Store, Path]) -> None:
    experiment, store, bucket = from_bucket
    fresh = Plan(experiment.recipe, store.profile.replay_root, store.profile)
    made = fresh.config(Step("pretrained")).spec().ref
    bucket.rename(bucket.with_name("moved"))
    for profile in (
        store.profile,
        Profile("elsewhere", replay_root=local_url(bucket.with_name("moved"))),
        Profile("none"),
    ):
        there = Store(store.root, profile=profile)
        plan = plan_of(experiment, there)
        assert all(make(plan, step, there, experiment).skipped for step in plan.steps("segments"))
        assert plan.config(Step("pretrained")).spec().ref == made, "and what comes after has the key that it had"
    with pytest.raises(WorldlineError, match="does not exist"):
        Plan(experiment.recipe, store.profile.replay_root, store.profile).config(Step("pretrained"))


def test_a_source_that_changed_is_told_and_read_again_only_when_asked(
    from_bucket: tuple[Experiment, Store, Path],
) -> None:
    experiment, store, bucket = from_bucket
    step, before = Step("replay", "Breakout", 1), store.pointed(f"replay/{experiment.key}/Breakout/1")
    for path in bucket.rglob("*.gz"):
        path.touch()
    report = make(plan_of(experiment, store), step, store, experiment)
    assert report.skipped and report.artefact.ref == before
    assert "the source lists other objects now" in str(report) and "--remake makes it anew" in str(report)
    again = Store(store.root, profile=store.profile, remake=True)
    assert make(plan_of(experiment, again), step, again, experiment).artefact.ref != before
    child = make(plan_of(experiment, store), Step("trajectories", "Breakout"), store, experiment)
    assert child.skipped and f"it is of {before}, the experiment has replay/Breakout/1/" in str(child)


def test_an_upgrade_goes_on_with_what_the_old_code_made(tiny_copy: TinyRun, monkeypatch: pytest.MonkeyPatch) -> None:
    """The pretrained networks keep their name, and so does all that was made from them."""
    store, experiment = tiny_copy.store, tiny_copy.experiment
    monkeypatch.setattr(PretrainConfig, "CODE", "another")
    plan = plan_of(experiment, store)
    assert all(plan.ref(step) == tiny_copy.made[step.stage].ref for step in plan.steps())
    report = standing(plan, Step("pretrained"), store)
    assert report is not None and "today's is another; it is kept" in str(report)
    assert Plan(experiment.recipe).ref(Step("pretrained")) != plan.ref(Step("pretrained"))
    remaking = Store(store.root, remake=True)
    assert standing(plan_of(experiment, remaking), Step("pretrained"), remaking) is None
    assert standing(plan_of(experiment, remaking), Step("tokens", "Breakout"), remaking) is not None, "it alone"


def test_a_damaged_manifest_is_told_by_its_step_alone_and_made_anew_when_asked(tiny_copy: TinyRun) -> None:
    store, experiment = tiny_copy.store, tiny_copy.experiment
    (tiny_copy.made["segments"].folder / "manifest.json").write_text("{")
    plan, step = plan_of(experiment, store), Step("segments", "Breakout")
    with pytest.raises(WorldlineError, match="is not a readable manifest"):
        make(plan, step, store, experiment)
    assert make(plan, Step("trajectories", "Breakout"), store, experiment).skipped
    again = store.remaking()
    made = make(plan_of(experiment, again), step, again, experiment)
    assert not made.skipped and made.artefact.ref == tiny_copy.made["segments"].ref
    assert made.artefact.manifest.files == tiny_copy.made["segments"].manifest.files
    assert make(plan_of(experiment, store), Step("pretrained"), store, experiment).skipped, "made from the same bytes"


def test_another_recipe_shares_what_is_made_the_same_way(tiny: TinyRun) -> None:
    plan = plan_of(tiny.experiment, tiny.store)
    other = plan.but(tiny.experiment.recipe.but(seed=7))
    assert all(other.made(step) is None for step in other.steps())
    play = plan.but(recipe("mini", [*TINY, "evaluate.max_steps=31"]))
    kept = {step.stage for step in play.steps() if play.made(step) is not None}
    assert "world_action_model" in kept and "scores" not in kept
