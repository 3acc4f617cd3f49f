"""Turns snapshots of a ring into the episodes that the agent really played; or into those that JOWA's own scripts read.

log_order.py says which rows of each log are new, and which logs continue each other. `stitch` joins them to streams
and reads the terminals; what follows the terminals tests the order once more. The writer puts `stack_size` - 1 blank
rows before each episode, so that frames can be stacked. They are no transitions and are left out, unless the facts show
that this writer puts none. When a terminal stands right before a seam, and blank rows do not follow it although they
follow everywhere else, then the order of the rows is refuted. A seam without a terminal nearby cannot be tested, so
nothing of this agent is joined over any seam then.

A stream is an unbroken run of rows, joined from parts of log files. A part is a range of rows of one file; two parts
meet at a seam, between the end of a ring and its start, or between one file and the next. Shape letters: R rows of the
stream, P parts, E episodes.

An episode is complete when its first row is known to be the first (it follows blank rows, or a terminal where the
writer puts none) and its last row is a terminal. A stream that starts midway begins with a piece of an episode. That
piece may begin with up to `stack_size` - 1 blank rows, which cannot be told from real ones there; it is incomplete and
never drawn. No frame is touched.

`read_episodes` stitches unless `compat` is set. The other way, `read_per_file`, is for those who want JOWA's exact
data: its scripts (arXiv 2410.00564) read `ckpt.1` to `ckpt.50`, each file alone, rows in file order. They keep blank
rows as steps and leave the row that is out of place where it is. They count the piece before a file's first terminal as
a whole episode and drop what follows its last terminal. A time-out is a death to them, stale rows are read again, and
file 0 is not read at all. Whoever trains on that sees duplicates and wrong joins. Their own download has no add_count
and no invalid_range, which this reading does without; which rows are stale, where an episode goes on in the next file,
and whether a log is missing cannot be known then.
"""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from pipelines.errors import WorldlineError
from pipelines.sources.dqn_replay.log_order import (
    Continuity,
    LogFacts,
    LogSpan,
    Padding,
    TerminalCounts,
    order_logs,
    pooled,
)
from pipelines.sources.dqn_replay.ring_log import OTHERWISE, RingLog, RowRange
from pipelines.sources.source import EPISODE_COLUMNS, PIECE_COLUMNS, TIME_LIMIT

STACK_SIZE = 4  # frames that they stacked, where no invalid_range says it

Part = tuple[RingLog, RowRange]


@dataclass(frozen=True)
class Stream:
    """Rows in the order in which the agent lived them.

    offsets (P+1,): where each part starts in the stream, and its length. files, firsts (P,): the checkpoint of each
    part and its first row there. A place is an index into the stream.
    """

    offsets: NDArray[np.int64]
    files: NDArray[np.int64]
    firsts: NDArray[np.int64]
    rewards: NDArray[np.floating]  # (R,)
    ends: NDArray[np.int64]  # the place after each terminal
    blank: NDArray[np.bool_]  # (R,)
    origin: bool  # the first row of the stream is the first of the agent

    @classmethod
    def of(cls, parts: Sequence[Part], origin: bool) -> "Stream":
        """Concatenate at least one part; none may be empty."""
        lengths = [stop - start for _, (start, stop) in parts]
        terminals = np.concatenate([log.terminals[start:stop] != 0 for log, (start, stop) in parts])
        blanks = {log.checkpoint: log.blank for log, _ in parts}
        return cls(
            offsets=np.concatenate([[0], np.cumsum(lengths)]),
            files=np.array([log.checkpoint for log, _ in parts]),
            firsts=np.array([start for _, (start, _) in parts]),
            rewards=np.concatenate([log.rewards[start:stop] for log, (start, stop) in parts]),
            ends=np.flatnonzero(terminals) + 1,
            blank=np.concatenate([blanks[log.checkpoint][start:stop] for log, (start, stop) in parts]),
            origin=origin,
        )

    def __len__(self) -> int:
        return int(self.offsets[-1])

    def locate(self, places: NDArray[np.int64]) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """File and row of each place."""
        part = np.searchsorted(self.offsets, places, side="right") - 1
        return self.files[part], self.firsts[part] + places - self.offsets[part]

    def padded(self, places: NDArray[np.int64], count: int) -> NDArray[np.bool_]:
        """Whether `count` blank rows lie from each place on. Rows beyond the end count as blank."""
        ahead = places[:, None] + np.arange(count)
        return (self.blank[np.minimum(ahead, len(self) - 1)] | (ahead >= len(self))).all(axis=1)

    def crosses(self, places: NDArray[np.int64], count: int) -> NDArray[np.bool_]:
        """Whether a seam lies between the row before each place and the `count` rows from it on."""
        seams = self.offsets[1:-1]
        low, high = np.searchsorted(seams, places, "left"), np.searchsorted(seams, places + count - 1, "right")
        return high > low

    def table(self, starts: NDArray, stops: NDArray, **flags: NDArray) -> tuple[pd.DataFrame, pd.DataFrame]:
        """The table of episodes of rows starts .. stops-1, and the table of the pieces that they lie in.

        starts, stops (E,): ascending, no episode empty. flags (E,): further columns by name.
        """
        first_file, first_row = self.locate(starts)
        last_file, last_row = self.locate(stops - 1)
        bounds = np.stack([starts, stops], axis=1).ravel()
        padded = np.append(self.rewards, np.float32(0))  # a bound may be the stream's length
        returns = np.add.reduceat(padded, bounds, dtype=np.float64)[::2] if len(bounds) else np.zeros(0)
        columns = {
            "length": stops - starts,
            "return": returns,
            **flags,
            "checkpoint": last_file,
            "first_file": first_file,
            "first_row": first_row,
            "last_file": last_file,
            "last_row": last_row,
        }
        return pd.DataFrame(columns), self._pieces(starts, stops)

    def _pieces(self, starts: NDArray, stops: NDArray) -> pd.DataFrame:
        """Cut each episode at every seam."""
        cuts = np.unique(np.concatenate([starts, self.offsets[:-1]]))
        owner = np.searchsorted(starts, cuts, side="right") - 1
        inside = owner >= 0
        inside[inside] = cuts[inside] < stops[owner[inside]]
        limits = np.append(cuts[1:], len(self))[inside]
        cuts, owner = cuts[inside], owner[inside]
        files, rows = self.locate(cuts)
        lengths = np.minimum(limits, stops[owner]) - cuts
        return pd.DataFrame({"episode": owner, "file": files, "start": rows, "stop": rows + lengths}, dtype="int64")


def parts(span: LogSpan) -> list[Part]:
    """The new rows of a log as parts, none empty."""
    return [(span.log, rows) for rows in span.row_ranges]


@dataclass(frozen=True)
class Stitched:
    """The episodes of one agent.

    episodes: one row per episode (EPISODE_COLUMNS). pieces: where its rows lie, in their order (PIECE_COLUMNS); a piece
    is rows start .. stop-1 of log file `file`. spans, facts: the rows that were used of each log, and its facts, in the
    logs' order. too_long: the number of episodes above the time limit, which are not complete.
    """

    episodes: pd.DataFrame
    pieces: pd.DataFrame
    spans: tuple[LogSpan, ...]
    facts: tuple[LogFacts, ...]
    too_long: int


def read_episodes(
    logs: Sequence[RingLog], game: str, agent: int, compat: str = "", keep_padding: bool = False
) -> Stitched:
    """The episodes of these logs (at least one, ascending). Raises WorldlineError for logs that cannot be read so."""
    where = f"{game}/{agent}"
    if compat:
        told = [log for log in logs if len(log.invalid_range)]
        return read_per_file(logs, agent, stack_size(told, where) if told else STACK_SIZE)
    return stitch(logs, agent, stack_size(logs, where), keep_padding=keep_padding)


def stack_size(logs: Sequence[RingLog], where: str) -> int:
    """The number of frames that the writer's readers stack: invalid_range of most logs names one row more.

    A log that differs from most fails its check later. Raises WorldlineError when most logs name less than 2 rows.
    """
    size, _ = Counter(len(log.invalid_range) for log in logs).most_common(1)[0]
    if size < 2:
        raise WorldlineError(f"{where}: invalid_range has length {size}, it must be stack size + 1: {OTHERWISE}")
    return size - 1


def stitch(
    logs: Sequence[RingLog], agent: int, stack_size: int, time_limit: int = TIME_LIMIT, keep_padding: bool = False
) -> Stitched:
    """Join the logs of one agent (ascending checkpoints, equal capacity) into episodes.

    `keep_padding` keeps the blank rows as the head of each episode. Raises WorldlineError as `order_logs` does.
    """
    spans = order_logs(logs, stack_size)
    streams = _streams(spans)
    terminals, padding = count_terminals(streams, spans, stack_size - 1)
    disordered = any(counts.refuted for counts in terminals.values())
    if disordered:
        streams = _streams(spans, disordered)
    rules = _Rules(stack_size - 1, padding, keep_padding, time_limit)
    found = [_episodes(stream, rules) for stream in streams]
    episodes, pieces = assemble([table for table, _ in found], agent)
    facts = [LogFacts.of(span, terminals[span.log.checkpoint], disordered) for span in spans]
    return Stitched(episodes, pieces, tuple(spans), tuple(facts), sum(long for _, long in found))


@dataclass(frozen=True)
class _Rules:
    """How the terminals of one agent are read."""

    blanks: int  # rows that pad an episode
    padding: dict[int, Padding]  # the pattern of each file, none of them UNKNOWN
    keep_padding: bool
    time_limit: int


def _streams(spans: Sequence[LogSpan], disordered: bool = False) -> list[Stream]:
    """Streams of logs that continue each other. Where the order of a log is in doubt, each part is its own stream."""
    runs: list[tuple[list[Part], bool]] = []
    for span in spans:
        doubtful = disordered or not span.range_fits
        for place, part in enumerate(parts(span)):
            if not doubtful and runs and (place or span.continuity == Continuity.JOINED):
                runs[-1][0].append(part)
            else:
                runs.append(([part], span.origin and not place))
    return [Stream.of(*run) for run in runs]


def count_terminals(
    streams: Sequence[Stream], spans: Sequence[LogSpan], blanks: int
) -> tuple[dict[int, TerminalCounts], dict[int, Padding]]:
    """The terminals of each file, counted by what follows them, and the pattern by which each file is to be read."""
    counts = {span.log.checkpoint: TerminalCounts() for span in spans}
    seams: list[tuple[NDArray, NDArray]] = []  # files of terminals before a seam, whether blank rows follow
    for stream in streams if blanks else ():
        ends = stream.ends[stream.ends + blanks <= len(stream)]
        files, _ = stream.locate(ends - 1)
        padded, crosses = stream.padded(ends, blanks), stream.crosses(ends, blanks)
        for file in np.unique(files).tolist():
            inside = (files == file) & ~crosses
            counts[file].padded += int((inside & padded).sum())
            counts[file].bare += int((inside & ~padded).sum())
        seams.append((files[crosses], padded[crosses]))
    whole = pooled([each.padding for each in counts.values()])
    padding = {file: whole if each.padding == Padding.UNKNOWN else each.padding for file, each in counts.items()}
    for files, padded in seams:
        for file, blank in zip(files.tolist(), padded.tolist(), strict=True):
            if padding[file] == Padding.ALL:  # the other patterns demand nothing of a seam
                counts[file].confirmed += blank
                counts[file].refuted += not blank
    return counts, padding


def _episodes(stream: Stream, rules: _Rules) -> tuple[tuple[pd.DataFrame, pd.DataFrame], int]:
    """Episodes and pieces of one stream, and how many episodes are longer than the time limit."""
    starts = np.concatenate([[0], stream.ends])
    starts = starts[starts < len(stream)]
    stops = np.append(stream.ends, len(stream))[: len(starts)]
    files, _ = stream.locate(np.maximum(starts - 1, 0))  # the file whose terminal each start follows
    bare = np.array([rules.padding[file] == Padding.NONE for file in files.tolist()], np.bool_)
    padded = stream.padded(starts, rules.blanks) & ~bare
    known = padded | bare  # whether the first row is an episode's first
    if not stream.origin:
        known[0] = padded[0] = False  # what looks blank here could as well be idle steps
    real = starts + np.where(padded, np.minimum(rules.blanks, stops - starts), 0)

    kept = real < stops
    starts, stops, real, known = starts[kept], stops[kept], real[kept], known[kept]
    ended = np.isin(stops, stream.ends, assume_unique=True)
    lengths = stops - real
    complete = known & ended & (lengths <= rules.time_limit)
    truncated = complete & (lengths == rules.time_limit)
    first = starts if rules.keep_padding else real
    tables = stream.table(first, stops, terminated=ended & ~truncated, truncated=truncated, complete=complete)
    return tables, int((lengths > rules.time_limit + rules.blanks * ~known).sum())


def assemble(tables: Sequence[tuple[pd.DataFrame, pd.DataFrame]], agent: int) -> tuple[pd.DataFrame, pd.DataFrame]:
    """The tables of all streams as one, with the episodes numbered from 0."""
    offsets = np.cumsum([0] + [len(episodes) for episodes, _ in tables])
    shifted = [
        pieces.assign(episode=pieces["episode"] + offset) for (_, pieces), offset in zip(tables, offsets, strict=False)
    ]
    episodes = pd.concat([episodes for episodes, _ in tables], ignore_index=True)
    episodes.insert(0, "agent", agent)
    episodes.insert(1, "episode", np.arange(len(episodes)))
    return episodes[EPISODE_COLUMNS], pd.concat(shifted, ignore_index=True)[PIECE_COLUMNS]


def read_per_file(logs: Sequence[RingLog], agent: int, stack_size: int) -> Stitched:
    """Episodes as the original's scripts cut them.

    The facts are those of `stitch`, or, where any log has no count, what each file shows alone. Raises WorldlineError
    as `stitch`, and when only file 0 is there or no file holds a terminal.
    """
    if all(log.counted for log in logs):
        exact = stitch(logs, agent, stack_size)
        facts, too_long = exact.facts, exact.too_long
    else:
        facts, too_long = _uncounted(logs, stack_size), 0
    spans = [LogSpan(log, 0, log.capacity, Continuity.FIRST) for log in logs if log.checkpoint > 0]
    streams = [Stream.of(parts(span), origin=False) for span in spans]
    if not any(len(stream.ends) for stream in streams):
        raise WorldlineError(
            f"{len(spans)} logs after log 0 hold no terminal: the original's reading leaves nothing; read without "
            "compat, or collect more steps"
        )
    tables = []
    for stream in streams:
        starts = np.concatenate([[0], stream.ends[:-1]]) if len(stream.ends) else stream.ends
        yes, no = np.ones(len(starts), np.bool_), np.zeros(len(starts), np.bool_)
        tables.append(stream.table(starts, stream.ends, terminated=yes, truncated=no, complete=yes))
    episodes, pieces = assemble(tables, agent)
    return Stitched(episodes, pieces, tuple(spans), facts, too_long)


def _uncounted(logs: Sequence[RingLog], stack_size: int) -> tuple[LogFacts, ...]:
    """The facts of logs that are each read alone, in file order."""
    spans = [LogSpan(log, 0, log.capacity, Continuity.UNCOUNTED) for log in logs]
    streams = [Stream.of(parts(span), origin=False) for span in spans]
    terminals, _ = count_terminals(streams, spans, stack_size - 1)
    return tuple(LogFacts.of(span, terminals[span.log.checkpoint], disordered=False) for span in spans)
