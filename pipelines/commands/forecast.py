"""`worldline forecast`: what a recipe would cost; and what `worldline fetch --plan` prints of a download."""

import json
from collections.abc import Sequence
from typing import TYPE_CHECKING, Annotated

import typer

from pipelines.commands.options import (
    Games,
    Overrides,
    Storage,
    experiment_folder,
    plan_of_recipe,
    profile_and_store,
)
from pipelines.environments.registry import GROUPS
from pipelines.errors import Members, UsageError
from pipelines.graph import experiment as experiments
from pipelines.progress import size

if TYPE_CHECKING:
    from pipelines.graph.cost_forecast import Forecast, Line
    from pipelines.graph.fetch_estimate import Prospect, Share

COLUMNS = ("game", "agent", "objects", "size", "here", "episodes", "transitions", "time")

COSTS = ("stage", "artefacts", "work in each", "rate", "measured on", "machine h", "wall h", "stored", "read", "money")

UNKNOWN = "?"


def add_to(app: typer.Typer) -> None:
    """Register the command."""
    app.command(rich_help_panel="Recipes and experiments")(forecast)


def forecast(
    recipe: Annotated[str, typer.Option("--recipe", help="Whose cost ('worldline recipe list').")] = "jowa_150m",
    games: Games = None,
    changes: Overrides = None,
    rates: Annotated[
        list[str] | None,
        typer.Option("--rate", metavar="STAGE=NUMBER", help="Units a second of a stage (default: as measured)."),
    ] = None,
    machines: Annotated[int, typer.Option(min=1, help="How many work on different games at once.")] = 1,
    gpu_price: Annotated[float, typer.Option(min=0.0, help="Of an hour of a machine with a GPU.")] = 0.0,
    cpu_price: Annotated[float, typer.Option(min=0.0, help="Of an hour of a machine without.")] = 0.0,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
    storage: Storage = None,
) -> None:
    """What a recipe would cost: hours, bytes and money, stage by stage, at the rates that this store measured.

    A rate comes from the manifests of artefacts that were made alike: data of any game, networks of the same sizes on
    the same batches. Where there are none the figure is a ?, until a few steps were run here or --rate gives one
    ('worldline bench train --only gpu --model 150m' prints steps a second). --games all is all 60 of Atari: each costs
    data, tokens and plays; training takes the recipe's steps however many games there are.

    Example: worldline forecast --recipe jowa_150m --games all --machines 4 --gpu-price 2.5 --rate pretrained=3.2
    """
    from pipelines.graph.cost_forecast import Forecast
    from pipelines.graph.cost_forecast import forecast as foreseen

    profile, store = profile_and_store(storage)
    named = ",".join(GROUPS["atari"]) if games is not None and games.strip().lower() == "all" else games
    plan = plan_of_recipe(recipe, changes, named, profile)
    changed = [*(changes or []), *([f"games={','.join(plan.recipe.games)}"] if named else [])]
    known = experiments.registered(experiment_folder(), Members())
    lines_of = foreseen(plan, store, known, dict(map(_rate, rates or [])))
    found = Forecast(recipe, len(plan.recipe.games), lines_of, machines, gpu_price, cpu_price)
    print(json.dumps(found.to_plain(), indent=1) if as_json else "\n".join(cost_lines(found, changed)))


def _rate(given: str) -> tuple[str, float]:
    stage, _, number = given.partition("=")
    try:
        return stage.strip(), float(number)
    except ValueError:
        raise UsageError(
            f"--rate '{given}' is no rate: write STAGE=NUMBER, units a second, such as tokens=9000"
        ) from None


def cost_lines(found: "Forecast", changes: Sequence[str] = ()) -> list[str]:
    """A table with a row for each stage, the sums, what is missing in them, and the commands that do it."""
    table = [COSTS, *(_costs(found, line) for line in found.lines), _sums(found)]
    missing = found.total("hours")[1]
    notes = [f"{found.games} games, {found.machines} machine{'s' if found.machines > 1 else ''}."]
    if missing:
        notes.append(
            f"Never measured here, and not in the sums: {', '.join(missing)}. Run a few steps of the same sizes, or "
            "give --rate STAGE=NUMBER, units a second."
        )
    if found.total("read")[0]:
        notes.append("What is read from a bucket takes its own time: 'worldline fetch --plan' measures that.")
    name = f"my_{found.recipe}"
    commands = [
        f"worldline experiment new {name} --recipe {found.recipe}" + "".join(f" --set {each}" for each in changes),
        f"worldline materialize {name} --until {found.lines[-1].stage}",
    ]
    return [*_aligned(table), *notes, "Do it:", *(f"  {command}" for command in commands)]


def _costs(found: "Forecast", line: "Line") -> tuple[str, ...]:
    work, rate = line.work, line.rate
    measured = f"{rate.artefacts} on {rate.where}" if rate and rate.artefacts else rate.where if rate else UNKNOWN
    return (
        line.stage,
        f"{line.artefacts:,}",
        f"{work.amount:,.0f} {work.unit}" if work else UNKNOWN,
        f"{rate.per_second:,.4g}/s" if rate else UNKNOWN,
        measured,
        _hours(line.hours),
        _hours(line.wall(found.machines)),
        UNKNOWN if line.stored is None else size(line.stored),
        UNKNOWN if line.read is None else size(line.read) if line.read else "",
        _price(found.money(line)),
    )


def _sums(found: "Forecast") -> tuple[str, ...]:
    hours, wall, stored, read, money = (found.total(name)[0] for name in ("hours", "wall", "stored", "read", "money"))
    return ("total", "", "", "", "", _hours(hours), _hours(wall), size(stored), size(read), _price(money))


def _hours(hours: float | None) -> str:
    return UNKNOWN if hours is None else f"{hours:,.1f}" if hours >= 1 else f"{hours:.3f}"


def _price(money: float | None) -> str:
    return UNKNOWN if money is None else f"{money:,.2f}" if money else ""


def lines(found: "Prospect") -> list[str]:
    """A table with a row per game and agent, the sums, and where the times come from."""
    rows = [(share.game, str(share.agent), *_cells(found, [share])) for share in found.shares]
    table = [COLUMNS, *rows, ("total", "", *_cells(found, found.shares))]
    text = _aligned(table)
    if found.rate and found.probed:
        source = f"Times at {size(found.rate)}/s, as the first {size(found.probed)} of one object came."
    elif found.rate:
        source = f"Times at {size(found.rate)}/s, as the small arrays came: many small reads, frames may come faster."
    else:
        source = "No times: nothing is to be downloaded (a local bucket, or its mirror holds all that is drawn)."
    text.append(source)
    if any(share.episodes is None for share in found.shares):
        text.append(
            "Its objects hold whole episodes, which are known once fetch has read them all; downsample then reads "
            "those with drawn ones again (--mirror all keeps them)."
        )
    read = "was committed" if found.probed else "was committed and no byte of a frame was read"
    return [*text, f"Nothing {read}. 'here' is in the mirror already."]


def _aligned(table: Sequence[Sequence[str]]) -> list[str]:
    """The rows as lines; the first column begins at the left, the others end at the right."""
    widths = [max(map(len, column)) for column in zip(*table, strict=True)]
    return ["  ".join(_fill(row, widths)).rstrip() for row in table]


def _fill(row: Sequence[str], widths: Sequence[int]) -> list[str]:
    return [
        cell.ljust(width) if at == 0 else cell.rjust(width)
        for at, (cell, width) in enumerate(zip(row, widths, strict=True))
    ]


def _cells(found: "Prospect", shares: "Sequence[Share]") -> tuple[str, ...]:
    from pipelines.graph.fetch_estimate import total_of

    episodes, drawn, whole = (total_of(shares, name) for name in ("episodes", "transitions", "of_transitions"))
    return (
        f"{sum(share.objects for share in shares):,}",
        size(sum(share.bytes for share in shares)),
        size(sum(share.mirrored for share in shares)),
        "?" if episodes is None else f"{episodes:,}",
        "?" if drawn is None else f"{drawn:,} of {whole:,}",
        _duration(found.seconds(shares)),
    )


def _duration(seconds: float | None) -> str:
    if seconds is None:
        return "?"
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours} h {minutes:02} min" if hours else f"{minutes} min {rest:02} s" if minutes else f"{rest} s"
