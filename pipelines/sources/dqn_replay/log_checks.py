"""The checks of a `replay` artefact: whether its rows are possible ones, and what the facts say about their order.

A check blocks when training on the rows would be wrong. Stitching makes other faults harmless: it joins nothing there,
or leaves a log or an episode out. Such a fault is a finding that does not block.
"""

from collections.abc import Callable, Sequence
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

from pipelines.environments.atari.games import minimal_actions
from pipelines.sources.dqn_replay.log_order import UNJOINED, Continuity, LogFacts, Padding, pooled
from pipelines.sources.dqn_replay.ring_log import NO_COUNT, RingLog
from pipelines.sources.dqn_replay.stitch import Stitched
from pipelines.sources.source import TIME_LIMIT, CheckResult

SHOWN = 3  # examples in a line


def check_logs(found: Stitched, left_out: Sequence[str], game: str, lenient: bool) -> list[CheckResult]:
    """All checks of this source, in the order of FetchConfig.CHECKS.

    left_out: a line for each log whose files disagree in length. lenient: the rows are kept as they are (keep_padding
    or compat), so that doubts about their order do not block.
    """
    return [
        _lengths(len(found.facts), left_out),
        *_values(found, game),
        _add_count(found, blocking=not lenient),
        _padding(found.facts, blocking=not lenient),
        _episode_length(found),
        _no_gap(found.facts),
        _invalid_range(found),
        _complete(found),
    ]


def _lengths(logs: int, left_out: Sequence[str]) -> CheckResult:
    detail = (
        f"left out, as files disagree in rows: {_some(left_out)}" if left_out else f"all kinds of {logs} logs agree"
    )
    return CheckResult("lengths_agree", not left_out, detail, counts={"logs": logs, "left_out": len(left_out)})


def _values(found: Stitched, game: str) -> list[CheckResult]:
    """Rewards, actions and terminals of the rows that are used are possible ones."""
    size, rows = len(minimal_actions(game)), sum(each.stop - each.first for each in found.spans)

    def result(name: str, outside: str, odd: Callable[[RingLog], NDArray[np.bool_]]) -> CheckResult:
        count = 0
        for span in found.spans:
            wrong = odd(span.log)
            count += sum(int(wrong[start:stop].sum()) for start, stop in span.row_ranges)
        return CheckResult(name, not count, f"{count:,} {outside}", True, {"rows": rows, "odd": count})

    return [
        result("rewards_clipped", "rewards outside -1, 0, 1", lambda log: ~np.isin(log.rewards, (-1, 0, 1))),
        result("actions_minimal", f"actions outside {game}'s {size}", lambda log: log.actions >= size),
        result("terminals_binary", "terminals outside 0, 1", lambda log: log.terminals > 1),
    ]


def _add_count(found: Stitched, blocking: bool) -> CheckResult:
    """The counts go up. A count that goes back could mean the same rows twice, and blocks.

    Where anything else contradicts a count, nothing was joined.
    """
    seen = found.facts
    if uncounted := _logs(seen, Continuity.UNCOUNTED):
        lacking = [each.checkpoint for each in seen if each.add_count == NO_COUNT]
        detail = (
            f"not there for logs {_some(lacking)}: which rows are stale, which episodes go on in another log and "
            "whether one is missing cannot be known, each log is read alone"
        )
        return CheckResult("add_count", False, detail, counts={"uncounted": len(uncounted)}, pictured=True)
    back = _logs(seen, Continuity.BACK)
    doubted = _logs(seen, Continuity.DIFFERS, Continuity.RANGE, Continuity.DISORDERED)
    steps = {
        after.add_count - before.add_count
        for before, after in pairwise(seen)
        if not after.reset and after.continuity == Continuity.JOINED
    }
    counts = {
        "goes_back": len(back),
        "overlap_rows": sum(each.overlap for each in seen),
        "overlap_rows_that_differ": sum(each.differing for each in seen if each.continuity == Continuity.DIFFERS),
        "order_confirmed": sum(each.confirmed for each in seen),
        "order_refuted": sum(each.refuted for each in seen),
    }
    if back or doubted:
        parts = [f"add_count goes back in logs {_some(back)}: list the bucket again or remove them"] if back else []
        parts += [f"rows or invalid_range contradict it in logs {_some(doubted)}, nothing is joined there"] * bool(
            doubted
        )
        detail = "; ".join(parts)
    else:
        confirmed = counts["order_confirmed"]
        detail = f"rises by {_some([f'{step:,}' for step in sorted(steps)])}" if steps else f"{len(seen)} log alone"
        detail += f"; the rows confirm it at {confirmed} borders, elsewhere they cannot tell" if len(seen) > 1 else ""
    return CheckResult("add_count", not back and not doubted, detail, blocking and bool(back), counts, pictured=True)


def _padding(seen: Sequence[LogFacts], blocking: bool) -> CheckResult:
    whole = pooled([each.padding for each in seen])
    padded, bare = sum(each.padded for each in seen), sum(each.bare for each in seen)
    files = {f"files_{name.value}": sum(each.padding == name for each in seen) for name in Padding}
    detail = f"{padded:,} terminals are followed by blank rows, {bare:,} are not"
    if whole == Padding.MIXED:
        odd = [each.checkpoint for each in seen if each.bare]
        detail += f" (logs {_some(odd)}): no pattern to go by; keep_padding reads the rows as they are"
    counts = {"padded": padded, "bare": bare, **files}
    return CheckResult("blank_rows", whole != Padding.MIXED, detail, blocking, counts, pictured=True)


def _episode_length(found: Stitched) -> CheckResult:
    longest = int(found.episodes["length"].max()) if len(found.episodes) else 0
    truncated = int(found.episodes["truncated"].sum())
    detail = f"longest {longest:,} steps, {truncated:,} ended by the limit of {TIME_LIMIT:,}"
    if found.too_long:
        detail += f", {found.too_long:,} are longer and count as incomplete"
    counts = {"longest": longest, "truncated": truncated, "too_long": found.too_long}
    return CheckResult("episode_length", not found.too_long, detail, counts=counts, pictured=True)


def _no_gap(seen: Sequence[LogFacts]) -> CheckResult:
    """No log is apart from the one before.

    The original writer loses a lap now and then, so a gap does not block. Nothing was joined across it.
    """
    apart = [f"{each.checkpoint} ({each.continuity.value})" for each in seen if each.continuity in UNJOINED]
    missing = sum(each.missing for each in seen)
    counts = {
        "joined": sum(each.continuity == Continuity.JOINED for each in seen),
        "apart": len(apart),
        "rows_missing": missing,
    }
    detail = f"not joined to the log before: {_some(apart)}" if apart else f"{counts['joined']} borders joined"
    if missing:
        detail += f"; {missing:,} rows are in no log"
    return CheckResult("no_gap", not apart, detail, counts=counts)


def _invalid_range(found: Stitched) -> CheckResult:
    seen = found.facts
    odd = [each.checkpoint for each in seen if not each.range_fits]
    absent = [span.log.checkpoint for span in found.spans if not len(span.log.invalid_range)]
    detail = f"contradicts add_count in logs {_some(odd)}" if odd else f"fits add_count in {len(seen)} logs"
    if absent:
        detail = f"not there for logs {_some(absent)}: nothing to compare add_count with"
    counts = {"fits": len(seen) - len(odd), "contradicts": len(odd)}
    return CheckResult("invalid_range", not odd and not absent, detail, counts=counts)


def _complete(found: Stitched) -> CheckResult:
    complete = int(found.episodes["complete"].sum())
    counts = {"complete": complete, "incomplete": len(found.episodes) - complete}
    return CheckResult("any_complete_episode", complete > 0, f"{complete:,} complete episodes", True, counts)


def _logs(seen: Sequence[LogFacts], *kinds: Continuity) -> list[int]:
    return [each.checkpoint for each in seen if each.continuity in kinds]


def _some(names: Sequence[object]) -> str:
    more = f" and {len(names) - SHOWN} more" if len(names) > SHOWN else ""
    return ", ".join(str(name) for name in names[:SHOWN]) + more
