"""Steps of a plan, one Dagster run each, in this process; one that fails stops those alone that are made from it."""

import os
import sys
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

import dagster as dg

from assets.instance import HistoryLost
from assets.orphans import close_orphans
from assets.partitions import EXPERIMENT, partition_of
from assets.resources import Installation
from assets.stages import ASSETS
from assets.step import DataConfig
from pipelines import process
from pipelines.graph.backfill import FAILED, MADE, THERE, WAITS, Outcome, exit_code, total, waiting
from pipelines.graph.plan import Plan, Step
from pipelines.graph.table import DATA_STAGES
from pipelines.redact import one_line, redact

# Dagster's console log repeats what our progress says; failures are printed here, from the run's events.
SILENT = {"console": {"config": {"log_level": "CRITICAL"}}}


@dataclass(frozen=True)
class Runner:
    """`data` tells the data assets whose settings to follow; `experiment` is a key, empty where only data is made.

    `installation` says where everything is, here and in the children of this process.
    """

    instance: dg.DagsterInstance
    plan: Plan
    data: DataConfig
    experiment: str = ""
    installation: Installation = field(default_factory=Installation)

    @classmethod
    def of_experiment(
        cls, instance: dg.DagsterInstance, name_or_key: str, installation: Installation | None = None
    ) -> "Runner":
        """Runs a registered experiment, and makes it a partition. Raises UsageError for an unknown one."""
        installation = installation or Installation()
        found = installation.experiment(name_or_key)
        instance.add_dynamic_partitions(EXPERIMENT, [found.key])
        data = DataConfig(experiment=found.key)
        return cls(instance, installation.plan_of(found), data, found.key, installation)

    @classmethod
    def of_data(
        cls,
        instance: dg.DagsterInstance,
        data: DataConfig,
        games: Sequence[str] = (),
        installation: Installation | None = None,
    ) -> "Runner":
        """Runs the experiment that `data` names, or data stages as its recipe asks, of `games` where there are any.

        Raises UsageError for an unknown name, field or value, and for overrides of what is frozen.
        """
        installation = installation or Installation()
        if games and not data.experiment:
            data = DataConfig(recipe=data.recipe, overrides=[*data.overrides, f"games={','.join(games)}"])
        plan, experiment = data.resolve(installation)
        if experiment is not None:
            return cls.of_experiment(instance, experiment.key, installation)
        data = DataConfig(recipe=data.recipe, overrides=data.overrides)
        return cls(instance, plan, data, installation=installation)

    @staticmethod
    def register_all(instance: dg.DagsterInstance) -> None:
        """Make every experiment on disk a partition, and close the runs that dead processes left."""
        close_orphans(instance)
        if keys := [experiment.key for experiment in Installation().experiments()]:
            instance.add_dynamic_partitions(EXPERIMENT, keys)

    def run(self, steps: Sequence[Step]) -> int:
        """Run `steps` in order, a printed line each; returns 0, or where some failed the exit code.

        A step that fails stops those alone that are made from it. At the end every failure has its line.
        Raises KeyboardInterrupt when it is told to stop, which to Dagster is one more failure of a step.
        """
        found = []
        for number, outcome in enumerate(self.outcomes(steps), 1):
            found.append(outcome)
            if outcome.state in (MADE, THERE):
                print(f"[{number}/{len(steps)}] {outcome.text}", flush=True)
            elif outcome.state == FAILED:
                print(f"[{number}/{len(steps)}] {outcome.step} failed", flush=True)
        print(total(found))
        for each in found:
            if each.state == FAILED:
                print(f"{each.step} failed: {each.text}", file=sys.stderr, flush=True)
        return exit_code(found)

    def outcomes(self, steps: Sequence[Step]) -> Iterator[Outcome]:
        """What becomes of each step in turn, as soon as it is known. Raises KeyboardInterrupt as `run`."""
        close_orphans(self.instance)
        lost = set[Step]()
        with process.Told() as told_to_stop:
            for step in steps:
                if waits_for := waiting(self.plan, step, steps, lost):
                    lost.add(step)
                    yield Outcome(step, WAITS, text=f"for {waits_for}")
                    continue
                began = time.monotonic()
                try:
                    result = self._materialize(step)
                except dg.DagsterExecutionInterruptedError:
                    raise KeyboardInterrupt from None
                if told_to_stop:
                    raise KeyboardInterrupt
                seconds = time.monotonic() - began
                if fault := _fault(result):
                    lost.add(step)
                    yield Outcome(step, FAILED, seconds, *fault)
                    continue
                metadata = result.asset_materializations_for_node(step.stage)[0].metadata
                state = THERE if metadata["skipped"].value else MADE
                yield Outcome(step, state, seconds, str(metadata["result"].value))

    def _materialize(self, step: Step) -> dg.ExecuteInProcessResult:
        return dg.materialize(
            ASSETS,
            selection=dg.AssetSelection.assets(step.stage),
            partition_key=partition_of(step, self.experiment),
            instance=self.instance,
            run_config=self._config(step),
            resources={"installation": self.installation},
            raise_on_error=False,
        )

    def _config(self, step: Step) -> dict[str, object]:
        ops = {step.stage: {"config": self.data.model_dump()}} if step.stage in DATA_STAGES else {}
        return {"ops": ops, "loggers": SILENT}


def _fault(result: dg.ExecuteInProcessResult) -> tuple[str, int] | None:
    """(what is wrong, exit code) of a run, or None. Raises HistoryLost, which is no step's."""
    for event in result.all_events:
        if event.is_step_failure:
            data = event.step_failure_data
            if data.user_failure_data is not None:
                code = data.user_failure_data.metadata["exit_code"].value
                return str(data.user_failure_data.description), int(str(code))
            assert data.error is not None
            if data.error.cls_name == HistoryLost.__name__:  # of which Dagster made the step's failure
                raise HistoryLost(data.error.message.partition(": ")[2].strip())
            return _unforeseen(data.error), 1
    for check in result.get_asset_check_evaluations():
        if not check.passed and check.severity == dg.AssetCheckSeverity.ERROR:
            return f"check '{check.check_name}': {check.description}", 1
    return None if result.success else ("the run ended without a reason, 'worldline ui' shows its events", 1)


def _unforeseen(error: Any) -> str:
    """One line for what failed in Dagster, around a step of ours; with WORLDLINE_DEBUG all that it tells."""
    if os.environ.get("WORLDLINE_DEBUG"):
        return redact(str(error))
    return one_line(f"{error.message} - please report it with the traceback that WORLDLINE_DEBUG=1 shows")
