"""What `worldline fetch --plan` prints."""

from collections.abc import Sequence

from pipelines.graph.fetch_estimate import Prospect, Share
from pipelines.progress import size

COLUMNS = ("game", "agent", "objects", "size", "here", "episodes", "transitions", "time")


def lines(found: Prospect) -> list[str]:
    """A table with a row per game and agent, the sums, and where the times come from."""
    rows = [(share.game, str(share.agent), *_cells(found, [share])) for share in found.shares]
    table = [COLUMNS, *rows, ("total", "", *_cells(found, found.shares))]
    widths = [max(len(row[column]) for row in table) for column in range(len(COLUMNS))]
    text = ["  ".join(_fill(row, widths)).rstrip() for row in table]
    source = (
        f"Times at {size(found.rate)}/s, as the small arrays came: many small reads, so frames may come faster."
        if found.rate
        else "No times: nothing is to be downloaded (a local bucket, or its mirror holds all that is drawn)."
    )
    return [*text, source, "Nothing was committed and no byte of a frame was read. 'here' is in the mirror already."]


def _fill(row: Sequence[str], widths: Sequence[int]) -> list[str]:
    return [
        cell.ljust(width) if at == 0 else cell.rjust(width)
        for at, (cell, width) in enumerate(zip(row, widths, strict=True))
    ]


def _cells(found: Prospect, shares: Sequence[Share]) -> tuple[str, ...]:
    drawn, whole = sum(share.transitions for share in shares), sum(share.of_transitions for share in shares)
    return (
        f"{sum(share.objects for share in shares):,}",
        size(sum(share.bytes for share in shares)),
        size(sum(share.mirrored for share in shares)),
        f"{sum(share.episodes for share in shares):,}",
        f"{drawn:,} of {whole:,}",
        _duration(found.seconds(shares)),
    )


def _duration(seconds: float | None) -> str:
    if seconds is None:
        return "?"
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours} h {minutes:02} min" if hours else f"{minutes} min {rest:02} s" if minutes else f"{rest} s"
