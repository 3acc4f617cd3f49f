"""Training stages in a process of their own, through Dagster Pipes: what the asset asks for, what it hears back.

The child's output is the run's log. While it trains, its newest losses arrive as observations of the asset, at most one
in `OBSERVE_SECONDS`. Terminating the run interrupts the child; when this process dies, the child goes by itself.
An artefact that stands already starts no child. Where WORLDLINE_PIPES names a pod, the child is that (`assets.pods`).
"""

import importlib
import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from types import ModuleType
from typing import Any

import dagster as dg

from assets.resources import Installation
from assets.step import experiment_step, one_line_failures, result
from pipelines import process
from pipelines.errors import UsageError, WorldlineError
from pipelines.graph.launch import make_way
from pipelines.graph.make import make, plan_of, standing
from pipelines.graph.plan import Step
from pipelines.redact import one_line
from pipelines.store.store import flat

OBSERVE_SECONDS = 10.0
RANKS = "WORLDLINE_RANKS"
PIPES = "WORLDLINE_PIPES"  # a file that describes the pod in which training runs; empty: a process beside this one
CHILD = "assets.pipes_child"


def training_step(
    context: dg.AssetExecutionContext, installation: Installation, key: str, step: Step
) -> dg.MaterializeResult:
    """Make one training step of an experiment in a child process, on as many ranks as WORLDLINE_RANKS says."""
    with one_line_failures():
        experiment, store = installation.experiment(key), installation.store()
        plan = plan_of(experiment, store)
        if standing(plan, step, store) is not None:
            return experiment_step(installation, key, step)
        config = plan.config(step)
        heard = Heard(context)
        environment = installation.environment()
        job = {"stage": step.stage, "experiment": experiment.key, "game": step.game or "", "ranks": _ranks()}
        extras = {"job": job, "metrics": str(store.scratch / flat(config.spec().ref) / "metrics.jsonl")}
        make_way()
        try:
            if os.environ.get(PIPES):
                _pods().train(context, heard, extras, environment)
            else:
                environment |= process.environment() | {"WORLDLINE_HOME": str(installation.folder())}
                client = dg.PipesSubprocessClient(message_reader=FromFile(heard), env=environment)
                client.run(context=context, command=process.command(CHILD), extras=extras)
        except (dg.DagsterExecutionInterruptedError, WorldlineError):
            raise
        except Exception as error:  # Dagster's own word for a child that failed is not public
            why = f"{step}: {one_line(error)[:200]} and told no reason, the run's log may show one"
            line, code = heard.failure or (why, WorldlineError.exit_code)
            raise (UsageError if code == UsageError.exit_code else WorldlineError)(line) from error
        made = make(plan_of(experiment, store), step, store, experiment)
        return result(replace(made, skipped=heard.skipped), type(config), experiment=experiment.key)


class Heard:
    """What the child tells: its metrics become observations at once, its failure is kept, the rest is Dagster's."""

    def __init__(self, context: dg.AssetExecutionContext) -> None:
        self._context = context
        self.failure: tuple[str, int] | None = None
        self.skipped = False  # whether the child found what another process made meanwhile

    def before(self, handler: Any) -> Any:
        """Itself, which passes on to Dagster's `handler`; for a reader of messages."""
        self._handler = handler
        return self

    def handle_message(self, message: Any) -> None:
        """One message, in the reader's thread."""
        payload = message["params"].get("payload") if message["method"] == "report_custom_message" else None
        if isinstance(payload, dict) and "failure" in payload:
            self.failure = (str(payload["failure"]), int(payload["exit_code"]))
        elif isinstance(payload, dict) and "skipped" in payload:
            self.skipped = bool(payload["skipped"])
        elif isinstance(payload, dict) and "metrics" in payload:
            metrics = {name: float(value) for name, value in payload["metrics"].items()}
            self._context.log_event(
                dg.AssetObservation(
                    asset_key=self._context.asset_key,
                    partition=self._context.partition_key,
                    metadata={name: dg.MetadataValue.float(value) for name, value in metrics.items()},
                )
            )
        else:
            self._handler.handle_message(message)

    def report_pipes_framework_exception(self, origin: str, exc_info: Any) -> None:
        """Passed on."""
        self._handler.report_pipes_framework_exception(origin, exc_info)


class FromFile(dg.PipesTempFileMessageReader):
    """Dagster's own reader of a temporary file, heard by us first."""

    expected_writer_count = 1  # Dagster warns where it has to ask its own

    def __init__(self, heard: Heard) -> None:
        super().__init__()
        self._heard = heard

    @contextmanager
    def read_messages(self, handler: Any) -> Iterator[Any]:
        """As Dagster's."""
        with super().read_messages(self._heard.before(handler)) as params:
            yield params


def _pods() -> ModuleType:
    """The module that needs Kubernetes' client. Raises UsageError where that is not installed."""
    try:
        return importlib.import_module("assets.pods")
    except ModuleNotFoundError as error:
        raise UsageError(f"{PIPES} is set, which needs pip install 'worldline[kubernetes]' ({error.name})") from error


def _ranks() -> int:
    """WORLDLINE_RANKS, else one a GPU of the pod, else one."""
    text = os.environ.get(RANKS) or (str(_pods().gpus()) if os.environ.get(PIPES) else "1")
    if not text.isdecimal() or int(text) < 1:
        raise UsageError(f"{RANKS} is '{text}': set it to the number of ranks that train together, such as 2")
    return int(text)
