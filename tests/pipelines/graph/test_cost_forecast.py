"""A forecast's figures follow from the manifests' own; nothing is known that was never measured."""

from dataclasses import replace
from pathlib import Path

import pytest

from pipelines.errors import UsageError
from pipelines.graph.cost_forecast import Forecast, Line, Rate, forecast
from pipelines.graph.plan import Plan
from pipelines.recipes.registry import recipe
from pipelines.store.stage_config import Work
from pipelines.store.store import Store
from tests.pipelines.conftest import TinyRun


def of_stage(lines: tuple[Line, ...], stage: str) -> Line:
    return next(line for line in lines if line.stage == stage)


def test_the_recipe_that_was_run_costs_what_it_cost(tiny: TinyRun) -> None:
    lines = forecast(tiny.plan, tiny.store, [tiny.experiment])
    assert [line.stage for line in lines] == list(tiny.plan.stages)
    for stage in ("collected_replay", "pretrained", "world_action_model", "scores"):
        line, cost = of_stage(lines, stage), tiny.made[stage].manifest.cost["seconds"]
        assert line.hours == pytest.approx(line.artefacts * cost / 3600, rel=1e-3), stage
        assert line.stored == pytest.approx(line.artefacts * tiny.made[stage].manifest.total_bytes, rel=1e-3), stage
    drawn = of_stage(lines, "trajectories")
    assert drawn.work is not None and drawn.rate is not None
    assert drawn.work.unit == "inflated_bytes" and drawn.work.kept == ("transitions", 600)
    assert drawn.rate.per_second == pytest.approx(
        tiny.made["trajectories"].manifest.metrics["inflated_bytes"]
        / tiny.made["trajectories"].manifest.cost["seconds"]
    )


def test_more_of_the_same_costs_more_in_proportion(tiny: TinyRun) -> None:
    twice = Plan(tiny.experiment.recipe.but(games=("Breakout", "Pong")))
    once, both = (forecast(plan, tiny.store, [tiny.experiment]) for plan in (tiny.plan, twice))
    for stage in ("collected_replay", "tokens", "scores"):
        before, after = of_stage(once, stage), of_stage(both, stage)
        assert before.hours is not None and after.hours == pytest.approx(2 * before.hours)
        assert after.wall(2) == pytest.approx(before.wall(1))
    assert of_stage(both, "pretrained").artefacts == 1


def test_networks_of_other_sizes_are_unknown_until_a_rate_is_given(tiny: TinyRun) -> None:
    other = Plan(recipe("jowa_150m"))
    lines = forecast(other, tiny.store, [tiny.experiment])
    assert {line.stage for line in lines if line.rate is None} == {
        "pretrained", "tokens", "world_action_model", "scores",
    }  # fmt: skip
    read = of_stage(lines, "replay")
    assert read.work == Work("rows", 51_000_000) and read.artefacts == 30
    found = Forecast("jowa_150m", 15, forecast(other, tiny.store, [], {"pretrained": 2.0}), gpu_price=2.0)
    trained = of_stage(found.lines, "pretrained")
    assert trained.hours == pytest.approx(250_000 / 2.0 / 3600) and found.money(trained) == 2.0 * trained.hours
    assert "pretrained" not in found.total("hours")[1] and "tokens" in found.total("hours")[1]


def test_an_empty_store_knows_nothing(tmp_path: Path) -> None:
    lines = forecast(Plan(recipe("mini")), Store(tmp_path))
    assert all(line.hours is None and line.stored is None and line.read is None for line in lines)


def test_wall_time_counts_whole_artefacts() -> None:
    line = Line("tokens", True, True, 5, Work("frames", 3600.0), Rate(1.0))
    assert line.hours == 5.0 and line.wall(2) == 3.0 and line.wall(9) == 1.0
    assert replace(line, side_by_side=False).wall(2) == 5.0


@pytest.mark.parametrize(("given", "said"), [({"nothing": 1.0}, "nothing"), ({"tokens": 0.0}, "above 0")])
def test_a_rate_of_another_stage_or_of_nothing_is_refused(tmp_path: Path, given: dict[str, float], said: str) -> None:
    with pytest.raises(UsageError, match=said):
        forecast(Plan(recipe("mini")), Store(tmp_path), given=given)
