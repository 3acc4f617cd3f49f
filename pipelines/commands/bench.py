"""`worldline bench`: figures measured side by side with the plain way, for BENCHMARKS.md."""

import json
from typing import Annotated

import typer

from pipelines import home

PANEL = "Look and tidy"
bench = typer.Typer(no_args_is_help=True, help="Measure Worldline against the plain way of doing the same.")


def add_to(app: typer.Typer) -> None:
    """Register the group."""
    app.add_typer(bench, name="bench", rich_help_panel=PANEL)


@bench.command()
def replay(
    quick: Annotated[bool, typer.Option("--quick", help="Small sizes: whether it works, not how fast.")] = False,
    only: Annotated[str, typer.Option(help="One row: inflate, segments, tokens, size or bucket.")] = "",
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
) -> int:
    """Replay: inflating, random segments, size at rest, a bucket end to end. Exit 1 when a full-size aim is missed.

    Plays real frames first (minutes), and keeps them in WORLDLINE_HOME/bench for the next run.
    Example: worldline bench replay --only inflate
    """
    from pipelines.bench.replay import report, run
    from pipelines.bench.replay_data import FULL, QUICK
    from pipelines.bench.row import table

    sizes = QUICK if quick else FULL
    rows = run(home.home() / "bench", sizes, only)
    if as_json:
        print(json.dumps(report(sizes, rows), indent=1))
    else:
        if quick:
            print("Quick sizes, far below those that the aims are meant for: read no figure out of this.\n")
        print(table(rows))
    return 0 if quick or all(row.reached for row in rows) else 1


@bench.command()
def train(
    quick: Annotated[bool, typer.Option("--quick", help="Small sizes: whether it works, not how fast.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
) -> int:
    """Training on 2 CPU threads: a step of stage 2, and encoding. Exit 1 when a full-size aim is missed.

    Example: worldline bench train
    """
    from pipelines.bench.row import table
    from pipelines.bench.train import FULL, QUICK, run

    rows = run(QUICK if quick else FULL)
    if as_json:
        print(json.dumps([row.plain() for row in rows], indent=1))
    else:
        if quick:
            print("Quick sizes, far below those that the aims are meant for: read no figure out of this.\n")
        print(table(rows))
    return 0 if quick or all(row.reached for row in rows) else 1
