"""One training stage on one rank or many: started here, watched, and gone when whoever started it is gone.

With one rank the stage runs in this process. With more, this process is torchrun's agent: it starts the ranks, ends
them all when one fails, is told to stop or dies, and gives back the first error.
By hand: `torchrun --nproc-per-node 2 -m pipelines.cli train EXPERIMENT`, or `worldline train EXPERIMENT --ranks 2`.
"""

import logging
import os
import sys
import uuid
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from pipelines import home, process
from pipelines.errors import UsageError, WorldlineError
from pipelines.graph import experiment as experiments
from pipelines.graph.experiment import Experiment
from pipelines.graph.make import make, plan_of, standing
from pipelines.graph.plan import Plan, Step
from pipelines.store.artefact import Report
from pipelines.store.stage_config import networks_beside
from pipelines.store.store import Store
from pipelines.training.distributed.gpus import let_go, own_gpus
from pipelines.training.schedule import phases_of
from pipelines.training.training_config import TrainingConfig, check_alone, check_shares

PATIENCE = 20  # seconds that ranks get to end by themselves


@dataclass(frozen=True)
class Job:
    """A training step of a registered experiment, in this installation. No `storage` is WORLDLINE_STORAGE's."""

    stage: str
    experiment: str
    game: str = ""
    storage: str = ""
    remake: bool = False

    def parts(self) -> tuple[Plan, Step, Store, Experiment]:
        """What `make` needs. Raises UsageError for an unknown experiment."""
        store = home.open_store(home.current_profile(self.storage or None), remake=self.remake)
        found = experiments.find(home.home() / "experiments", self.experiment)
        return plan_of(found, store), Step(self.stage, self.game or None), store, found

    def make(self) -> Report:
        """Make the step, or find it."""
        return make(*self.parts())

    @property
    def arguments(self) -> list[str]:
        """For `main`, in a rank."""
        return [self.stage, self.experiment, self.game, self.storage, "remake" if self.remake else ""]

    @classmethod
    def of(cls, arguments: Sequence[str]) -> "Job":
        """Read `arguments` back."""
        stage, experiment, game, storage, remake = arguments
        return cls(stage, experiment, game, storage, bool(remake))


def launch(job: Job, ranks: int = 1) -> Report:
    """Make the step on so many ranks, or find it. Raises the ranks' first error, in one line."""
    check_ranks(ranks)
    plan, step, store, _ = job.parts()
    if "RANK" in os.environ:  # torchrun by hand, which gives its ranks their GPUs
        process.leave_with(os.getppid())
        return job.make()
    if standing(plan, step, store) is not None:
        return job.make()
    config = plan.config(step)
    assert isinstance(config, TrainingConfig), f"{step} is no training"
    for phase in phases_of(config.schedule):
        check_shares(phase, ranks)
    if (networks := networks_beside(plan)) is not None:
        check_alone(networks, ranks)
    with own_gpus(ranks, config.loop.device):
        if ranks == 1:
            return job.make()
        _agent(job, ranks)
    return replace(job.make(), skipped=False)


def make_way() -> None:
    """Before a child launches: it may have the GPU on which this process encoded or played."""
    let_go()


def check_ranks(ranks: int) -> None:
    """Raises UsageError for less than one, and for ranks that torchrun's ranks would start."""
    if ranks < 1:
        raise UsageError(f"Training on {ranks} ranks is impossible: give at least 1")
    if "RANK" in os.environ and ranks > 1:
        raise UsageError(f"torchrun has started this process as one of its ranks: leave --ranks {ranks} out")


def _agent(job: Job, ranks: int) -> None:
    from torch.distributed.elastic.multiprocessing import SignalException
    from torch.distributed.elastic.multiprocessing.errors import ChildFailedError
    from torch.distributed.launcher.api import LaunchConfig, elastic_launch

    from pipelines.training.distributed import loopback

    for name in ("torch.distributed.elastic", "torch.distributed.launcher"):
        logging.getLogger(name).setLevel(logging.CRITICAL)  # it tells in 30 lines what we tell in one
    os.environ.setdefault("OMP_NUM_THREADS", str(max(1, (os.cpu_count() or 1) // ranks)))
    os.environ |= process.environment() | loopback.interfaces()
    loopback.register()
    config = LaunchConfig(
        min_nodes=1,
        max_nodes=1,
        nproc_per_node=ranks,
        run_id=uuid.uuid4().hex,
        rdzv_backend=loopback.BACKEND,
        max_restarts=0,
        shutdown_timeout=PATIENCE,
        signals_to_handle="SIGHUP",  # Ctrl-C and SIGTERM are heard as everywhere: once, as KeyboardInterrupt
    )
    try:
        elastic_launch(config, sys.executable)(*process.command(__name__, *job.arguments)[1:])
    except ChildFailedError as error:
        told = [found for found in error.failures.values() if Path(found.error_file).is_file()]
        first = min(told or error.failures.values(), key=lambda found: found.timestamp)
        kind = UsageError if first.exitcode == UsageError.exit_code else WorldlineError
        raise kind(_line(first.error_file_data) or f"Rank {first.local_rank} ended early: {first.message}") from error
    except SignalException as error:  # SIGHUP: the ranks are down by now
        raise KeyboardInterrupt from error


def _line(recorded: Any) -> str:
    """The error that a rank recorded, without its type's name; empty where there is none."""
    found = recorded.get("message", "")
    text = " ".join(str(found.get("message", "") if isinstance(found, dict) else found).split())
    for known in (UsageError, WorldlineError):
        text = text.removeprefix(f"{known.__name__}: ")
    return "" if text == "<NONE>" else text


def main() -> int:
    """A rank: what the agent starts. Its error goes to the agent, which shows it once."""
    from torch.distributed.elastic.multiprocessing.errors import record

    try:
        record(Job.of(sys.argv[1:]).make)()
    except WorldlineError as error:
        return error.exit_code
    return 0
