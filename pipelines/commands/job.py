"""`worldline job`: an experiment as a batch script for a cluster's scheduler, printed for its user to submit.

The script asks for resources, runs one command of ours, hears the scheduler's notice and queues itself again until the
work is done. docs/cluster.md follows one from the first line to the leaderboard.
"""

import shlex
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated

import typer

from pipelines import home
from pipelines.commands.options import ExperimentName, Storage, chosen_games, experiment_folder, profile_and_store
from pipelines.errors import UsageError, unknown
from pipelines.graph import experiment as experiments
from pipelines.graph import table
from pipelines.graph.backfill import choose
from pipelines.graph.experiment import Experiment
from pipelines.graph.plan import Plan
from pipelines.process import INTERRUPTED

SUBMIT = {"slurm": "sbatch", "pbs": "qsub"}

NOTICE = 300  # seconds before the end of its time in which a job ends by itself

PORT = 29_500  # where the ranks of several nodes meet: torchrun's own


def add_to(app: typer.Typer) -> None:
    """Register the command."""
    app.command(rich_help_panel="The graph")(job)


def job(
    experiment: ExperimentName,
    scheduler: Annotated[str, typer.Option("--scheduler", help="slurm or pbs.")] = "slurm",
    until: Annotated[str, typer.Option(help="Last stage to make.")] = "scores",
    only: Annotated[str, typer.Option(help="This stage alone (default: all up to --until).")] = "",
    games: Annotated[str | None, typer.Option(help="Only these of the experiment's games: A,B (default: all).")] = None,
    nodes: Annotated[int, typer.Option(min=1, help="Machines; several train together, for --only a training.")] = 1,
    gpus: Annotated[int, typer.Option(min=0, help="GPUs of each machine.")] = 1,
    cpus: Annotated[int, typer.Option(min=1, help="Processor cores of each machine.")] = 8,
    memory: Annotated[int, typer.Option(min=1, help="GB of each machine.")] = 40,
    hours: Annotated[int, typer.Option(min=1, help="Of wall time; then it is queued again.")] = 24,
    queue: Annotated[str, typer.Option(help="Partition or queue (default: the scheduler's own).")] = "",
    storage: Storage = None,
) -> None:
    """Print an experiment as a batch script for Slurm or PBS, which goes on where it was until all is made.

    The work is 'worldline materialize', so what stands is skipped and a kill loses no finished work; with several
    nodes it is one training, whose ranks torchrun starts on each. Manifests keep node_hours and cpu_efficiency_pct.

    Example: worldline job demo --scheduler pbs --hours 48 > worldline-demo.sh, then qsub worldline-demo.sh
    """
    if scheduler not in SUBMIT:
        raise unknown("scheduler", scheduler, SUBMIT, "scripts are printed for these")
    if queue and not queue.replace("-", "").replace("_", "").isalnum():
        raise UsageError(f"--queue '{queue}' is no queue's name: letters, digits, - and _ are meant")
    profile_and_store(storage)
    found = experiments.find(experiment_folder(), experiment)
    plan = Plan(found.recipe, "file:///")
    named = chosen_games(games)
    choose(plan, until, only or None, named)
    if nodes > 1 and scheduler != "slurm":
        raise UsageError(
            f"--nodes {nodes} is for slurm, whose srun starts the ranks: with {scheduler} take one node a job"
        )
    resources: dict[str, int | str] = {
        "nodes": nodes,
        "gpus": gpus,
        "cpus": cpus,
        "memory": memory,
        "hours": hours,
        "queue": queue,
    }
    work = _work(found, until, only, named, nodes, gpus)
    print(_script(found, scheduler, work, storage or "", resources))


def _work(found: Experiment, until: str, only: str, games: Sequence[str], nodes: int, gpus: int) -> str:
    """The line of shell that does the work."""
    if nodes == 1:
        arguments = ["worldline", "materialize", found.key, "--until", until, *(["--only", only] if only else [])]
        return shlex.join([*arguments, *(["--games", ",".join(games)] if games else [])])
    together = [row for row in table.STAGES if row.trains and row.per == "experiment"]
    if only not in [row.name for row in together]:
        raise UsageError(
            f"{nodes} nodes do one training together, '{only or until}' is none: give --only "
            f"{' or '.join(row.name for row in together)}, or one node a job"
        )
    where = f'--node-rank "$SLURM_NODEID" --master-addr "$HEAD" --master-port {PORT}'
    ranks = f"-m torch.distributed.run --nnodes {nodes} --nproc-per-node {max(gpus, 1)} {where}"
    verb = shlex.join(["-m", "pipelines.cli", table.stage(only).verb, found.key])
    on_each = f"exec {shlex.quote(sys.executable)} {ranks} {verb}"  # by a shell of that node, which knows its number
    return f"srun bash -c {shlex.quote(on_each)}"


def _script(found: Experiment, scheduler: str, work: str, storage: str, resources: dict[str, int | str]) -> str:
    from jinja2 import Environment, PackageLoader, StrictUndefined

    texts = Environment(loader=PackageLoader("pipelines.commands"), undefined=StrictUndefined, trim_blocks=True)
    return texts.get_template("job.sh.j2").render(
        key=found.key,
        name=f"worldline-{found.name}",
        submit=SUBMIT[scheduler],
        scheduler=scheduler,
        notice=NOTICE,
        interrupted=INTERRUPTED,
        home=shlex.quote(str(home.home())),
        storage=shlex.quote(storage) if storage else "",
        path=shlex.quote(str(Path(sys.executable).parent)),
        work=work,
        **resources,
    )
