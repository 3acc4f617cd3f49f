"""Running one step: by the stage's own function, skipped when it stands, and named for people and for gc."""

import importlib

from pipelines.graph.make import make, pointer
from pipelines.graph.plan import Step
from pipelines.graph.table import STAGES
from pipelines.store import gc
from tests import fakes
from tests.pipelines.conftest import TinyRun


def test_every_stage_has_a_module_that_runs_it() -> None:
    for stage in STAGES:
        assert callable(importlib.import_module(stage.module).run), stage.name


def test_names_hold_the_experiment_except_for_plain_data(tiny: TinyRun) -> None:
    key = tiny.experiment.key
    assert pointer(Step("scores", "Pong"), tiny.experiment) == f"scores/{key}/Pong"
    assert pointer(Step("pretrained"), tiny.experiment) == f"pretrained/{key}"
    assert pointer(Step("replay", "Pong", 2), tiny.experiment) == "replay/Pong/2"
    assert pointer(Step("tokens", "Pong"), None) == "tokens/unregistered/Pong"


def test_every_artefact_has_its_name(tiny: TinyRun) -> None:
    for step in tiny.plan.steps():
        assert tiny.store.resolve(pointer(step, tiny.experiment)) == tiny.made[step.stage].ref
    assert tiny.store.resolve("leaderboard/all") == tiny.made["leaderboard"].ref


def test_a_second_run_skips_every_step_and_changes_no_byte(tiny: TinyRun) -> None:
    before = {stage: artefact.digest for stage, artefact in tiny.made.items()}
    for step in tiny.plan.steps():
        report = make(tiny.plan, step, tiny.store, tiny.experiment)
        assert report.skipped, step
        assert report.artefact.digest == before[step.stage]


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
