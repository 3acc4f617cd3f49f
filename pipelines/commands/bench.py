"""`worldline bench`: figures measured side by side with the plain way, for BENCHMARKS.md."""

import json
from typing import TYPE_CHECKING, Annotated

import typer

from pipelines import home
from pipelines.commands.options import profile_and_store
from pipelines.commands.play import config_of
from pipelines.errors import UsageError

if TYPE_CHECKING:
    from pipelines.tools.bench.row import Row

PANEL = "Look and tidy"
Quick = Annotated[bool, typer.Option("--quick", help="Small sizes: whether it works, not how fast.")]
AsJson = Annotated[bool, typer.Option("--json", help="Print JSON.")]
WARNING = "Quick sizes, far below those that the aims are meant for: read no figure out of this.\n"
bench = typer.Typer(no_args_is_help=True, help="Measure Worldline against the plain way of doing the same.")


def add_to(app: typer.Typer) -> None:
    """Register the group."""
    app.add_typer(bench, name="bench", rich_help_panel=PANEL)


def _print(found: object, text: str, as_json: bool, quick: bool = False) -> None:
    """What was found as JSON, or its text, with a warning above it where the sizes were quick ones."""
    if as_json:
        print(json.dumps(found, indent=1))
    else:
        print(*[WARNING] * quick, text, sep="\n")


@bench.command()
def replay(
    quick: Quick = False,
    only: Annotated[
        str, typer.Option(help="One: inflate, segments, tokens, shards, size, episodes, bucket (default: all).")
    ] = "",
    as_json: AsJson = False,
) -> int:
    """Replay: inflating, random segments, size at rest, episodes of PNGs, a bucket end to end.

    A missed aim is a word in the table.
    Plays real frames first (minutes), and keeps them in WORLDLINE_HOME/bench for the next run.
    Example: worldline bench replay --only inflate
    """
    from pipelines.tools.bench.replay import report, run
    from pipelines.tools.bench.replay_data import FULL, QUICK
    from pipelines.tools.bench.row import table

    sizes = QUICK if quick else FULL
    rows = run(home.home() / "bench", sizes, only)
    _print(report(sizes, rows), table(rows), as_json, quick)
    return 0


@bench.command()
def train(
    quick: Quick = False,
    only: Annotated[str, typer.Option(help="One part: cpu or gpu (default: both).")] = "",
    model: Annotated[str, typer.Option(help="Size of the model on a GPU: 40m, 70m or 150m.")] = "150m",
    batch: Annotated[int, typer.Option(min=1, help="Segments in a step on a GPU.")] = 512,
    profile: Annotated[bool, typer.Option("--profile", help="Print where the time goes instead.")] = False,
    as_json: AsJson = False,
) -> int:
    """Training: a step of stage 2 and encoding, on 2 CPU threads and on a GPU. A missed aim is a word in the table.

    The GPU's part keeps its tokens files (216 MB) in WORLDLINE_HOME/bench for the next run.
    Example: worldline bench train --only gpu --model 150m --batch 512
    """
    from pipelines.errors import unknown
    from pipelines.tools.bench import train, train_device
    from pipelines.tools.bench.row import table
    from pipelines.training.device import Device

    if only not in ("", "cpu", "gpu"):
        raise unknown("part", only, ("cpu", "gpu"), "without --only both are measured")
    sizes, paper = train.QUICK if quick else train.FULL, train_device.sizes_of(model, batch)
    gpu, folder = Device("cuda", True), home.home() / "bench"
    missing = train_device.missing(paper) if only != "cpu" else ""
    on_cpu, on_gpu = only != "gpu", only != "cpu" and not missing
    if profile:
        tables = train.profiles(sizes) if on_cpu else []
        tables += train_device.profiles(paper, gpu, folder) if on_gpu else []
        print(*tables, *filter(None, [missing]), sep="\n\n")
        return 0
    rows = train.run(sizes) if on_cpu else []
    speed = train_device.run(paper, gpu, folder) if on_gpu else None
    found = {"rows": [row.plain() for row in rows], "gpu": speed.plain() if speed else missing or None}
    texts = [table(rows) if rows else "", speed.table() if speed else missing]
    _print(found, "\n\n".join(filter(None, texts)), as_json, quick)
    return 0


@bench.command()
def plan(
    model: Annotated[str, typer.Option(help="Size of the model: 40m, 70m or 150m.")] = "40m",
    environments: Annotated[int, typer.Option(min=1, help="How many decide, alone and all at once.")] = 16,
    experiment: Annotated[
        str,
        typer.Option(help="Instead: drafts against one by one, by its JOWA or IRIS (default: plain against ours)."),
    ] = "",
    game: Annotated[str, typer.Option(help="With --experiment: the game (default: the recipe's first).")] = "",
    quick: Quick = False,
    as_json: AsJson = False,
) -> int:
    """Planning on 2 CPU threads: greedy, beam and tree search, one environment and many.

    A missed aim is a word in the table. Takes minutes, nearly all of them the plain
    tree search. On a GPU also decisions a second. With --experiment, passes a frame and decisions a second with
    frames drafted and verified, and token by token, for its checkpoint and for random weights. IRIS, which does not
    search, imagines as it practises, of one environment, 3 and many.
    Example: worldline bench plan --model 150m

    Example: worldline bench plan --experiment demo --game Freeway
    """
    from pipelines.tools.bench.plan import QUICK, gpu_lines, run, sizes
    from pipelines.tools.bench.row import table

    if experiment:
        drafted = _drafted(experiment, game, 2 if quick else environments, 1 if quick else 3)
        _print([row.plain() for row in drafted], table(drafted), as_json, quick)
        return 0
    if game:
        raise UsageError(f"--game {game} chooses a game of an experiment: name it with --experiment")
    measured = QUICK if quick else sizes(model, environments)
    rows, lines = run(measured), gpu_lines(measured)
    found = {"rows": [row.plain() for row in rows], "gpu": lines}
    _print(found, "\n".join([table(rows), *(f"- {line}" for line in lines)]), as_json, quick)
    return 0


def _drafted(experiment: str, game: str, environments: int, rounds: int) -> "list[Row]":
    """What `plan_drafts` measures of an experiment's checkpoint."""
    import torch

    from pipelines.environments.actions import legal_mask
    from pipelines.stages.record import opened, source_of
    from pipelines.tools.bench import plan_drafts

    _, store = profile_and_store(None)
    _, config = config_of(experiment, game, {"mode": "dream", "precision": "float32"}, None, None)
    source = source_of(config, opened(config, store))
    try:
        context = plan_drafts.real_context(source, environments, config.context)
    finally:
        for episodes in source.sets.values():
            episodes.close()
    return plan_drafts.run(source.agent, context, torch.from_numpy(legal_mask(config.game)), rounds)


@bench.command()
def imagine(
    quick: Quick = False,
    rows: Annotated[
        int | None, typer.Option(min=1, help="Imagined at once, and segments in an update (default 64).")
    ] = None,
    as_json: AsJson = False,
) -> int:
    """IRIS on 2 CPU threads: imagining 20 steps, an update of the world model, a game as it sees it; REM; Delta-IRIS.

    A missed aim is a word in the table. Takes minutes, most of them the plain way's imagination; fewer rows take less.
    Example: worldline bench imagine --rows 16
    """
    from dataclasses import replace

    from pipelines.tools.bench.imagine import FULL, QUICK, run
    from pipelines.tools.bench.row import table

    sizes = QUICK if quick else FULL
    found = run(replace(sizes, rows=rows or sizes.rows))
    _print([row.plain() for row in found], table(found), as_json, quick)
    return 0


@bench.command()
def dreamer(
    quick: Quick = False,
    rows: Annotated[
        int | None, typer.Option(min=2, help="Segments of an update at most (default: 16 of videos, 50 of play).")
    ] = None,
    threads: Annotated[int, typer.Option(min=1, help="Of the CPU.")] = 2,
    as_json: AsJson = False,
) -> int:
    """PreLAR's updates on videos and on play, and what its actor practises on, at the published sizes.

    Both ways are first compared by losses and gradients. With all rows an update of fine-tuning takes minutes.
    Example: worldline bench dreamer --rows 4
    """
    from dataclasses import replace

    from pipelines.tools.bench.dreamer import FULL, QUICK, run
    from pipelines.tools.bench.row import table

    sizes = replace(QUICK, most=rows) if quick else replace(FULL, most=rows, threads=threads)
    found = run(sizes)
    _print([row.plain() for row in found], table(found), as_json, quick)
    return 0


@bench.command()
def play(
    model: Annotated[str, typer.Option(help="Networks' sizes: demo, 40m (JOWA's) or iris.")] = "demo",
    threads: Annotated[int, typer.Option(min=1, help="Of the CPU.")] = 1,
    steps: Annotated[int, typer.Option(min=20, help="Timed in each mode.")] = 100,
    quick: Quick = False,
    as_json: AsJson = False,
) -> int:
    """Play: agent steps a second in every mode of 'worldline play', with random weights. The game's own are 15.

    Takes a minute with the demo's sizes.
    Example: worldline bench play --model iris --threads 2
    """
    from pipelines.tools.bench.play import plain, run, table

    found = run(model, threads, 5 if quick else steps)
    _print(plain(found), table(found), as_json, quick)
    return 0


@bench.command()
def graph(
    quick: Quick = False,
    only: Annotated[
        str, typer.Option(help="One: load, list, lineage, partition, or backfill (default: all but backfill).")
    ] = "",
    as_json: AsJson = False,
) -> int:
    """The graph beside the work: loading it, listing and tracing 10,000 scores, a partition's overhead.

    Fills a store with as many small artefacts first (a minute), and keeps it in WORLDLINE_HOME/bench for the next run.
    `--only backfill` has a daemon drain 300 partitions that stand: a process each, so 10 minutes and more on 2 cores.
    Example: worldline bench graph --only backfill
    """
    from pipelines.tools.bench.graph import FULL, QUICK, run, table

    figures = run(home.home() / "bench", QUICK if quick else FULL, only)
    _print([each.plain() for each in figures], table(figures), as_json, quick)
    return 0


@bench.command()
def faults(
    quick: Annotated[bool, typer.Option("--quick", help="Two stages alone.")] = False,
    only: Annotated[str, typer.Option(help="One stage, such as tokens, or one fault (default: all).")] = "",
    seed: Annotated[int, typer.Option(help="Of the moments at which faults strike.")] = 0,
    jobs: Annotated[int, typer.Option(min=1, help="Stages at a time.")] = 1,
    as_json: AsJson = False,
) -> int:
    """Strike every stage of recipe mini with every fault, and see that it is made again as if nothing had happened.

    Faults: worker, rank, daemon, sigterm, power, full, readonly, offline, throttled, clock, users, and none. Exit 1
    when one is not survived; its home stays in WORLDLINE_HOME/bench/faults. Full disks need root. Takes 20 minutes.
    Example: worldline bench faults --only tokens
    """
    from pipelines.tools.bench.faults import run, table

    matrix = run(home.home() / "bench", only, quick, seed, jobs)
    _print(matrix.plain(), table(matrix), as_json)
    return 0 if matrix.survived else 1
