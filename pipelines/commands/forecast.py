"""What `worldline fetch --plan` prints."""

from collections.abc import Sequence

from pipelines.graph.fetch_estimate import Prospect, Share, total_of
from pipelines.progress import size

COLUMNS = ("game", "agent", "objects", "size", "here", "episodes", "transitions", "time")


def lines(found: Prospect) -> list[str]:
    """A table with a row per game and agent, the sums, and where the times come from."""
    rows = [(share.game, str(share.agent), *_cells(found, [share])) for share in found.shares]
    table = [COLUMNS, *rows, ("total", "", *_cells(found, found.shares))]
    widths = [max(len(row[column]) for row in table) for column in range(len(COLUMNS))]
    text = ["  ".join(_fill(row, widths)).rstrip() for row in table]
    if found.rate and found.probed:
        source = f"Times at {size(found.rate)}/s, as the first {size(found.probed)} of one object came."
    elif found.rate:
        source = (
            f"Times at {size(found.rate)}/s, as the small arrays came: many small reads, so frames may come faster."
        )
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


def _fill(row: Sequence[str], widths: Sequence[int]) -> list[str]:
    return [
        cell.ljust(width) if at == 0 else cell.rjust(width)
        for at, (cell, width) in enumerate(zip(row, widths, strict=True))
    ]


def _cells(found: Prospect, shares: Sequence[Share]) -> tuple[str, ...]:
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
