"""Run the graph without a server: each step of a plan is one Dagster run in this process, seen in the UI afterwards.

python -m assets.launch materialize --experiment demo-1a2b3c4d --until scores
python -m assets.launch backfill --recipe demo --games Pong,Qbert --until segments --jobs 2
python -m assets.launch ui --port 3000
`worldline` becomes this for its commands of the graph.
Costs 2 s to start and about 0.2 s per step over the step's own work.
"""

import argparse
import os
import sys
import traceback
from collections.abc import Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import dagster as dg
from sqlalchemy.exc import DatabaseError

from assets import pools
from assets.backfill import Crew, enqueue, report, tell, where
from assets.instance import CONFIG, HistoryLost, lost, open_instance
from assets.orphans import close_orphans
from assets.resources import Installation
from assets.runner import Runner
from assets.server import serve
from assets.step import DataConfig
from pipelines import process
from pipelines.environments.registry import game_named
from pipelines.errors import Members, WorldlineError, unforeseen
from pipelines.graph.backfill import (
    LAST,
    MADE,
    THERE,
    choose,
    exit_code,
    missing,
    of_all,
    read_step,
    total,
    with_parents,
)
from pipelines.home import REMAKE, dagster_home
from pipelines.progress import say
from pipelines.redact import redact
from pipelines.store.nightly import NIGHTS


def main(arguments: Sequence[str] | None = None) -> int:
    """The command line; returns the exit code: 0 done, 1 failed, 2 bad usage. Raises KeyboardInterrupt when stopped."""
    options = _parser().parse_args(arguments)
    try:
        return options.run(options)
    except WorldlineError as error:
        print(error, file=sys.stderr)
        return error.exit_code
    except (DatabaseError, HistoryLost) as error:
        print(lost(error), file=sys.stderr)
        return WorldlineError.exit_code
    except Exception as error:
        print(
            redact(traceback.format_exc()) if os.environ.get("WORLDLINE_DEBUG") else unforeseen(error), file=sys.stderr
        )
        return WorldlineError.exit_code


def materialize(options: argparse.Namespace) -> int:
    """Run an experiment up to a stage; `scores` brings the leaderboard with it."""
    code, everyone = 0, [options.experiment, *options.beside]
    with open_instance() as instance:
        for experiment in everyone:
            runner, games = Runner.of_experiment(instance, experiment), _names(options.games)
            steps = choose(runner.plan, options.until, options.only, games)
            if told := of_all(runner.plan, steps, games):
                say(told)
            code = code or runner.run(steps)
    if code == 0 and options.summary:
        from pipelines.graph.summary import summarise

        here = Installation()
        summarise([here.experiment(each) for each in everyone], here.store())
    return code


def backfill(options: argparse.Namespace) -> int:
    """Make the steps of some games up to a stage and all that they are made from, side by side or by the daemon."""
    games = _names(options.games)
    with open_instance() as instance:
        runner = _runner(instance, options)
        steps = with_parents(runner.plan, choose(runner.plan, options.until, games=games))
        if options.missing_only:
            steps = missing(runner.plan, steps, Installation().store())
        if told := of_all(runner.plan, steps, games):
            say(told)
        if not steps:
            print("Everything was already there.")
            return 0
        if options.enqueue:
            title = f"{', '.join(games)} until {options.until}"[:100]
            storage = os.environ.get("WORLDLINE_STORAGE", "")
            storage = str(Path(storage).absolute()) if Path(storage).is_file() else storage
            found = enqueue(runner, steps, title, storage, bool(os.environ.get(REMAKE)))
            print(f"Backfill {found} of {len(steps)} partitions is stored: {where(found)}")
            return 0
        crew, done = Crew(runner, steps, options.jobs), []
        for outcome in crew.outcomes():
            done.append(outcome)
            text = outcome.text if outcome.state in (MADE, THERE) else f"{outcome.step} {outcome.state}"
            print(f"[{len(done)}/{len(steps)}] {text}", flush=True)
        report(crew)
        print(total(done))
        return exit_code(done)


def lane(options: argparse.Namespace) -> int:
    """Run these steps in turn, for the backfill that started this process."""
    with open_instance() as instance:
        return tell(_runner(instance, options), [read_step(text) for text in options.steps.split(",")], options.tell)


def init(options: argparse.Namespace) -> int:
    """Set up Dagster's home, once, and fail the runs there whose process is gone."""
    with open_instance() as instance:
        Runner.register_all(instance)
        print(f"Dagster's home is ready: {instance.root_directory}")
    return 0


def rebuild(options: argparse.Namespace) -> int:
    """Set up Dagster's home, and tell it what stands in the store; what is damaged or stale has its line."""
    from assets.rebuild import rebuild as tell

    members = Members()
    with open_instance() as instance:
        close_orphans(instance)
        print(tell(instance, Installation(), members))
    members.end()
    return 0


def limits(options: argparse.Namespace) -> int:
    """Show how many runs each pool admits at a time; first set those that are named."""
    changes = pools.read(options.changes)
    with open_instance() as instance:
        pools.change(instance, changes)
        pools.show(instance)
    return 0


def forget(options: argparse.Namespace) -> int:
    """Remove runs from Dagster's history that ended long ago and that no asset's partition stands on."""
    from assets.forget import forget as remove
    from assets.forget import old_runs

    with open_instance() as instance:
        number, found = instance.get_runs_count(), old_runs(instance, options.days)
        for run in found if options.yes else ():
            remove(instance, run)
    print(f"{len(found)} runs of {number} {'forgotten' if options.yes else 'would be forgotten (add --yes)'}.")
    return 0


def verify(options: argparse.Namespace) -> int:
    """Re-hash a night's share of the store, and hold its names against Dagster's record; a line for each fault."""
    from assets.verify import VerifyConfig
    from assets.verify import verify as look

    config = VerifyConfig(day=options.day, nights=options.nights)
    with ExitStack() as stack:
        there = (dagster_home() / CONFIG).exists()
        found = look(stack.enter_context(open_instance()) if there else None, Installation(), config)
    for line in found.faults:
        print(line, file=sys.stderr)
    print(found)
    return WorldlineError.exit_code if found.faults else 0


def automate(options: argparse.Namespace) -> int:
    """Switch automations on or off, all or those named; say how all of them are."""
    from assets.automate import automate as switch

    return switch(options.to, options.names)


def ui(options: argparse.Namespace) -> int:
    """Become Dagster's web server and daemon; returns only when that could not be started."""
    serve(options.port)


def _runner(instance: dg.DagsterInstance, options: argparse.Namespace) -> Runner:
    data = DataConfig(recipe=options.recipe, overrides=options.set, experiment=options.experiment)
    return Runner.of_data(instance, data, _names(options.games))


def _names(text: str) -> list[str]:
    return [game_named(name) for name in text.split(",") if name.strip()]


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m assets.launch", description="Run the asset graph.")
    verbs = parser.add_subparsers(required=True, metavar="VERB")

    verb = verbs.add_parser("materialize", help=materialize.__doc__)
    verb.add_argument("--experiment", required=True, help="its name or key")
    verb.add_argument("--until", default=LAST, help="last stage (default: scores, with the leaderboard)")
    verb.add_argument("--only", help="this stage alone")
    verb.add_argument("--games", default="", help="only these of the experiment's games: A,B")
    verb.add_argument("--summary", action="store_true", help="show what came out")
    verb.add_argument("--beside", action="append", default=[], help="another experiment, made behind it")
    verb.set_defaults(run=materialize)

    verb = verbs.add_parser("backfill", help=backfill.__doc__)
    _add_whose(verb)
    verb.add_argument("--until", required=True, help="last stage")
    verb.add_argument("--missing-only", action="store_true", help="leave out what stands")
    verb.add_argument("--enqueue", action="store_true", help="store it for the daemon")
    verb.add_argument("--jobs", type=int, default=2, help="processes side by side (default: 2)")
    verb.set_defaults(run=backfill)

    verb = verbs.add_parser("lane", help=lane.__doc__)
    _add_whose(verb)
    verb.add_argument("--steps", required=True, help="STAGE/GAME/AGENT,...")
    verb.add_argument("--tell", type=int, required=True, help="the pipe")
    verb.set_defaults(run=lane)

    _add_upkeep(verbs)

    verb = verbs.add_parser("ui", help=ui.__doc__)
    verb.add_argument("--port", type=int, default=3000, help="on 127.0.0.1 (default: 3000)")
    verb.set_defaults(run=ui)
    return parser


def _add_upkeep(verbs: Any) -> None:
    """What looks after the home, its store and its history."""
    verb = verbs.add_parser("init", help=init.__doc__)
    verb.set_defaults(run=init)

    verb = verbs.add_parser("rebuild", help=rebuild.__doc__)
    verb.set_defaults(run=rebuild)

    verb = verbs.add_parser("pools", help=limits.__doc__)
    verb.add_argument("changes", nargs="*", metavar="POOL=NUMBER")
    verb.set_defaults(run=limits)

    verb = verbs.add_parser("forget", help=forget.__doc__)
    verb.add_argument("--days", type=int, required=True, help="how long ago they ended")
    verb.add_argument("--yes", action="store_true", help="really")
    verb.set_defaults(run=forget)

    verb = verbs.add_parser("verify", help=verify.__doc__)
    verb.add_argument("--day", default="", help="whose share (default: today's)")
    verb.add_argument("--nights", type=int, default=NIGHTS, help=f"a share is one of so many (default: {NIGHTS})")
    verb.set_defaults(run=verify)

    verb = verbs.add_parser("automate", help=automate.__doc__)
    verb.add_argument("to", help="on, off or status")
    verb.add_argument("names", nargs="*", help="which (default: all)")
    verb.set_defaults(run=automate)


def _add_whose(verb: argparse.ArgumentParser) -> None:
    """Whose steps: an experiment's, or those of a recipe for some games."""
    verb.add_argument("--experiment", default="", help="its name or key")
    verb.add_argument("--recipe", default="demo", help="whose settings are used (default: demo)")
    verb.add_argument("--games", default="", help="which games: A,B")
    verb.add_argument("--set", action="append", default=[], metavar="FIELD=VALUE", help="change the recipe")


if __name__ == "__main__":
    sys.exit(process.stoppable(main))
