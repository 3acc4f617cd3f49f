"""One step of a plan as an asset's result: made or found, described, checked, and versioned by its manifest."""

import json
import traceback
from collections.abc import Iterator, Mapping
from contextlib import contextmanager

import dagster as dg

from assets.checks import results
from assets.metadata import describe
from assets.resources import Installation
from pipelines.errors import UsageError, WorldlineError, unforeseen
from pipelines.graph.experiment import Experiment
from pipelines.graph.make import make
from pipelines.graph.plan import Plan, Step
from pipelines.graph.table import stage
from pipelines.redact import redact
from pipelines.store.artefact import Report
from pipelines.store.stage_config import StageConfig

RECIPE, OVERRIDES, EXPERIMENT = "worldline/recipe", "worldline/set", "worldline/experiment"


class DataConfig(dg.Config):
    """Whose settings a data asset follows: a recipe with `field.path=value` overrides, or a frozen experiment's.

    Left as it is, the run's tags count: `worldline/experiment`, or `worldline/recipe` and `worldline/set` (a JSON
    list). All runs of a backfill carry its tags.
    """

    recipe: str = "demo"
    overrides: list[str] = []  # noqa: RUF012 -- pydantic copies it
    experiment: str = ""

    def tags(self) -> dict[str, str]:
        """What tells the runs of a backfill whose settings to follow."""
        if self.experiment:
            return {EXPERIMENT: self.experiment}
        return {RECIPE: self.recipe, **({OVERRIDES: json.dumps(self.overrides)} if self.overrides else {})}

    def arguments(self) -> list[str]:
        """The same for the command line of a child."""
        if self.experiment:
            return ["--experiment", self.experiment]
        return ["--recipe", self.recipe, *(text for change in self.overrides for text in ("--set", change))]

    def or_of(self, tags: Mapping[str, str]) -> "DataConfig":
        """This, or where nobody changed it what the tags say. Raises UsageError for overrides that are no list."""
        if self != DataConfig() or not {RECIPE, OVERRIDES, EXPERIMENT} & tags.keys():
            return self
        try:
            overrides = json.loads(tags.get(OVERRIDES, "[]"))
            return DataConfig(
                recipe=tags.get(RECIPE, self.recipe), overrides=overrides, experiment=tags.get(EXPERIMENT, "")
            )
        except ValueError as error:
            raise UsageError(
                f"The tag {OVERRIDES} is '{tags[OVERRIDES]}': write a JSON list, such as [\"collect.seed=1\"]"
            ) from error

    def resolve(self, installation: Installation) -> tuple[Plan, Experiment | None]:
        """What is meant, and for whom. Raises UsageError for an unknown name, and for overrides of a frozen one."""
        if not self.experiment:
            return installation.plan(installation.recipe(self.recipe, self.overrides)), None
        if self.overrides:
            raise UsageError(
                f"Experiment '{self.experiment}' is frozen: name a recipe to use overrides {self.overrides}"
            )
        experiment = installation.experiment(self.experiment)
        return installation.plan_of(experiment), experiment


@contextmanager
def one_line_failures() -> Iterator[None]:
    """Our errors say the value, the rule and the repair; Dagster then needs no traceback and no second try.

    The traceback of any other error is kept beside its line, without secrets.
    """
    try:
        yield
    except WorldlineError as error:
        raise dg.Failure(str(error), metadata={"exit_code": error.exit_code}, allow_retries=False) from None
    except dg.Failure:
        raise
    except Exception as error:
        line, stack = unforeseen(error), redact(traceback.format_exc())
        raise dg.Failure(line, metadata={"exit_code": 1, "traceback": stack}, allow_retries=False) from None


def data_step(
    installation: Installation, config: DataConfig, step: Step, tags: Mapping[str, str] | None = None
) -> dg.MaterializeResult:
    """Make or find the data of one game; equal settings share it, an experiment that asks for it keeps it."""
    with one_line_failures():
        plan, experiment = config.or_of(tags or {}).resolve(installation)
        return result(make(plan, step, installation.store(), experiment), stage(step.stage).config)


def experiment_step(installation: Installation, key: str, step: Step) -> dg.MaterializeResult:
    """Make or find one step of a registered experiment."""
    with one_line_failures():
        experiment = installation.experiment(key)
        plan = installation.plan_of(experiment)
        report = make(plan, step, installation.store(), experiment)
        return result(report, stage(step.stage).config, experiment=experiment.key)


def result(
    report: Report, config: type[StageConfig], *more: dg.AssetCheckResult, experiment: str = ""
) -> dg.MaterializeResult:
    """What Dagster records, with `more` checks than the manifest's. `experiment` is whose it is, if anyone's.

    The manifest's digest is the data version: equal bytes and history, equal version.
    """
    return dg.MaterializeResult(
        metadata=describe(report, experiment),
        data_version=dg.DataVersion(report.artefact.digest),
        check_results=[*results(report.artefact, config), *more],
    )
