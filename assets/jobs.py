"""The jobs `ingest` and `learn`: all stages of a kind. Their partitions differ, so no asset job can hold them.

One op runs the steps as `worldline backfill` does: parents first, side by side where they need nothing of each other,
each a Dagster run of its own that leaves the same artefact and the same materialisation. A step that fails stops what
is made from it, and at the end the job, with its line. Launched again, a job goes on with what is missing.
"""

import dagster as dg

from assets.backfill import Crew
from assets.resources import Installation
from assets.runner import Runner
from assets.step import DataConfig, one_line_failures
from pipelines.environments.registry import game_named
from pipelines.errors import UsageError
from pipelines.graph.backfill import FAILED, choose, exit_code, total
from pipelines.graph.plan import Plan
from pipelines.graph.table import WHOLE, Kind


class IngestConfig(DataConfig):
    """Which games, and whose settings: a recipe with overrides, or a frozen experiment. No games: all that it has."""

    games: list[str] = []  # noqa: RUF012 -- pydantic copies it
    side_by_side: int = 2


class LearnConfig(dg.Config):
    """Which experiment, by its name or key."""

    experiment: str
    side_by_side: int = 2


@dg.op(name="ingest_games")
def ingest_op(context: dg.OpExecutionContext, config: IngestConfig, installation: Installation) -> None:
    """Make the data of games."""
    with one_line_failures():
        games = [game_named(name) for name in config.games]
        runner = Runner.of_data(context.instance, config, games, installation)
        _make(context, runner, "data", config.side_by_side, games)


@dg.op(name="learn_experiment")
def learn_op(context: dg.OpExecutionContext, config: LearnConfig, installation: Installation) -> None:
    """Train all that an experiment trains."""
    with one_line_failures():
        runner = Runner.of_experiment(context.instance, config.experiment, installation)
        _make(context, runner, "learning", config.side_by_side)


@dg.job(
    name=WHOLE["data"],
    description="The data of games of your choice, from wherever a recipe's or an experiment's come: played here, "
    "fetched from a bucket or imported, up to what training reads. Config: `games`, `recipe` or `experiment`.",
)
def ingest() -> None:
    """One op."""
    ingest_op()


@dg.job(
    name=WHOLE["learning"],
    description="All that an experiment learns, whatever its stages, and first the data that it lacks. Config: "
    "`experiment`. The job `evaluate` then lets it play.",
)
def learn() -> None:
    """One op."""
    learn_op()


def _make(
    context: dg.OpExecutionContext, runner: Runner, kind: Kind, side_by_side: int, games: list[str] | None = None
) -> None:
    """Run all steps up to the last stage of a kind, with a line each in the run's log.

    Raises Failure with a line for each step that failed.
    """
    if side_by_side < 1:
        raise UsageError(f"side_by_side is {side_by_side}: give at least 1 process")
    steps = choose(runner.plan, _last(runner.plan, kind), games=games or ())
    crew, done = Crew(runner, steps, side_by_side), []
    for outcome in crew.outcomes():
        done.append(outcome)
        context.log.info(f"[{len(done)}/{len(steps)}] {outcome.step} {outcome.state} {outcome.text}")
    if failed := [each for each in done if each.state == FAILED]:
        lines = [f"{each.step} failed: {each.text} (log: {crew.log_of(each.step)})" for each in failed]
        raise dg.Failure("\n".join(lines), {"exit_code": exit_code(done), "steps": total(done)}, allow_retries=False)
    context.add_output_metadata({"steps": total(done)})


def _last(plan: Plan, kind: Kind) -> str:
    """The last stage of a kind. Raises UsageError for a plan that has none."""
    stages = [row.name for row in plan.rows if row.kind == kind]
    if not stages:
        raise UsageError(f"Recipe '{plan.name}' has no stage of {kind}: it consists of {', '.join(plan.stages)}")
    return stages[-1]
