"""The `worldline` command. `worldline --help` imports neither torch nor Dagster nor pandas: it answers at once.

Exit codes: 0 done, 1 failed, 2 bad usage, 130 interrupted. An error is one line: value, rule, repair.
"""

import os
import sys
import traceback

import typer
from typer import Abort, TyperException

from pipelines import process
from pipelines.commands import (
    bench,
    diagnose,
    experiments,
    exports,
    forecast,
    graph,
    inspect,
    job,
    learning,
    play,
    stages,
    videos,
)
from pipelines.errors import WorldlineError, unforeseen
from pipelines.redact import one_line, redact

app = typer.Typer(
    name="worldline",
    help="From raw Atari replay to a scored, traceable agent: one asset graph.\n\n"
    "Start with 'worldline demo', look at the result with 'worldline ui', "
    "trace a score with 'worldline lineage scores/EXPERIMENT/GAME'.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode="rich",
)
for module in (graph, job, stages, videos, learning, experiments, forecast, exports, inspect, diagnose, play, bench):
    module.add_to(app)


def main() -> None:
    """Console entry point."""
    code = process.stoppable(lambda: run(sys.argv[1:], alone=True))
    try:
        sys.stdout.flush()
    except BrokenPipeError:
        _discard_output()
    sys.exit(code)


def run(arguments: list[str], alone: bool = False) -> int:
    """Run one command line and return its exit code; a user never sees a traceback unless WORLDLINE_DEBUG is set.

    `alone`: this process is for this command, so that a command of the graph may take its place.
    """
    try:
        outcome = app(arguments, standalone_mode=False, prog_name="worldline")
        if isinstance(outcome, graph.Launch):
            outcome = outcome.become() if alone else outcome.run()
        return _interrupted() if outcome == process.INTERRUPTED else int(outcome or 0)
    except WorldlineError as error:
        return _fail(str(error), error.exit_code)
    except TyperException as error:
        usage = getattr(error, "ctx", None)
        help_line = f" (see '{usage.command_path} --help')" if usage else ""
        message = error.format_message()  # empty when the help was printed instead
        return _fail(one_line(f"{message}{help_line}") if message else "", 2)
    except (KeyboardInterrupt, Abort):
        return _interrupted()
    except SystemExit as error:
        if not isinstance(error.__context__, BrokenPipeError):
            raise
        _discard_output()  # typer and rich leave this way
        return 0
    except Exception as error:
        return _fail(redact(traceback.format_exc()) if os.environ.get("WORLDLINE_DEBUG") else unforeseen(error), 1)


def _discard_output() -> None:
    """For when the reader of our output went away, as in `worldline games | head`: that is no failure."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def _interrupted() -> int:
    return _fail(process.LINE, process.INTERRUPTED)


def _fail(line: str, code: int) -> int:
    if line:
        print(line, file=sys.stderr)
    return code


if __name__ == "__main__":  # torchrun -m pipelines.cli ...
    main()
