"""Changes of how a checkpoint plays, and nothing else."""

import pytest

from pipelines.errors import UsageError
from pipelines.graph.plan import Step
from pipelines.graph.rounds import changed, evaluate_config, play_all
from pipelines.recipes.registry import recipe
from tests.pipelines.conftest import TinyRun


def test_changes_are_the_evaluations_own() -> None:
    found = changed(recipe("mini"), ["evaluate.max_steps=3", "tune.contexts=1,2"])
    assert (found.evaluate.max_steps, found.tune.grid.contexts) == (3, (1, 2))
    assert changed(recipe("mini"), []) == recipe("mini")
    with pytest.raises(UsageError, match="'seed=1' would change more than how the checkpoint plays"):
        changed(recipe("mini"), ["evaluate.max_steps=3", "seed=1"])


def test_what_stands_is_found_and_not_played(tiny: TinyRun) -> None:
    own = evaluate_config(tiny.plan, Step("scores", "Breakout"))
    found = [play() for play in play_all([own, own], tiny.store)]
    assert [(report.artefact.ref, report.skipped) for report in found] == [(tiny.made["scores"].ref, True)] * 2
