"""Run the graph without a server: each step of a plan is one Dagster run in this process, seen in the UI afterwards.

python -m assets.launch materialize --experiment demo-1a2b3c4d --until scores
python -m assets.launch backfill --recipe demo --games Pong,Qbert --until segments
python -m assets.launch ui --port 3000
`worldline` becomes this for its commands of the graph.
Costs 2 s to start and about 0.2 s per step over the step's own work.
"""

import argparse
import os
import sys
import traceback
from collections.abc import Sequence

from sqlalchemy.exc import DatabaseError

from assets.instance import HistoryLost, lost, open_instance
from assets.orphans import close_orphans
from assets.resources import Installation
from assets.runner import Runner
from assets.server import serve
from pipelines import process
from pipelines.environments.registry import game_named
from pipelines.errors import Members, UsageError, WorldlineError, unforeseen, unknown
from pipelines.graph.plan import Plan, Step
from pipelines.graph.table import BOARD, DATA_STAGES, PLANNED
from pipelines.redact import redact

LAST = PLANNED[-1].name


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
    with open_instance() as instance:
        runner = Runner.of_experiment(instance, options.experiment)
        steps = choose(runner.plan, options.until, options.only, _names(options.games))
        code = runner.run(steps)
    if code == 0 and options.summary:
        from pipelines.graph.summary import summarise

        here = Installation()
        summarise(here.experiment(runner.experiment), here.store())
    return code


def backfill(options: argparse.Namespace) -> int:
    """Run the data stages for other games with a recipe's settings."""
    if options.until not in DATA_STAGES:
        raise unknown("data stage", options.until, DATA_STAGES, "later stages belong to an experiment")
    overrides = [*options.set, f"games={options.games}"]
    with open_instance() as instance:
        runner = Runner.of_recipe(instance, options.recipe, overrides)
        return runner.run(runner.plan.steps(options.until))


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


def ui(options: argparse.Namespace) -> int:
    """Become Dagster's web server and daemon; returns only when that could not be started."""
    serve(options.port)


def choose(plan: Plan, until: str, only: str | None = None, games: Sequence[str] = ()) -> list[Step]:
    """The steps of `plan` up to stage `until`, of stage `only` and of `games` where given.

    Raises UsageError for an unknown stage, a game that the experiment does not have, and when nothing is left.
    """
    known = (*plan.stages, BOARD)
    for stage in (until, only or until):
        if stage not in known:
            raise unknown("stage", stage, known, "in the order of the graph")
    for game in games:
        if game not in plan.every_game:
            raise unknown("game of this experiment", game, plan.every_game, "it was frozen when it was registered")
    steps = plan.steps(LAST if until == BOARD else until)
    if until in (LAST, BOARD):
        steps.append(Step(BOARD))
    chosen = [
        step for step in steps if only in (None, step.stage) and (not games or step.game is None or step.game in games)
    ]
    if not chosen:
        raise UsageError(f"No step is left: stage '{only}' does not come before '{until}' in this experiment")
    return chosen


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
    verb.set_defaults(run=materialize)

    verb = verbs.add_parser("backfill", help=backfill.__doc__)
    verb.add_argument("--recipe", default="demo", help="whose settings are used (default: demo)")
    verb.add_argument("--games", required=True, help="which games: A,B")
    verb.add_argument("--until", default=DATA_STAGES[-1], help="last stage (default: segments)")
    verb.add_argument("--set", action="append", default=[], metavar="FIELD=VALUE", help="change the recipe")
    verb.set_defaults(run=backfill)

    verb = verbs.add_parser("init", help=init.__doc__)
    verb.set_defaults(run=init)

    verb = verbs.add_parser("rebuild", help=rebuild.__doc__)
    verb.set_defaults(run=rebuild)

    verb = verbs.add_parser("ui", help=ui.__doc__)
    verb.add_argument("--port", type=int, default=3000, help="on 127.0.0.1 (default: 3000)")
    verb.set_defaults(run=ui)
    return parser


if __name__ == "__main__":
    sys.exit(process.stoppable(main))
