"""Reads the logs of an agent as episodes, in one of two ways: stitched by their facts, or as JOWA's own scripts do.

`read_episodes` stitches unless `compat` is set. The other way is for those who want JOWA's exact data: its scripts read
each file alone, rows in file order. They keep blank rows as steps and leave the row that is out of place where it is.
They count the piece before a file's first terminal as a whole episode and drop what follows its last terminal. A
time-out is a death to them, stale rows are read again, and file 0 is not read at all. Whoever trains on that sees
duplicates and wrong joins.
Source: facts about the released scripts (arXiv 2410.00564), which read `ckpt.1` to `ckpt.50`.
"""

from collections import Counter
from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from pipelines.errors import WorldlineError
from pipelines.sources.dqn_replay.log_order import Continuity, LogSpan
from pipelines.sources.dqn_replay.ring_log import OTHERWISE, RingLog
from pipelines.sources.dqn_replay.stitch import Stitched, assemble, stitch
from pipelines.sources.dqn_replay.stream import Stream, parts


def read_episodes(
    logs: Sequence[RingLog], game: str, agent: int, compat: str = "", keep_padding: bool = False
) -> Stitched:
    """The episodes of these logs (at least one, ascending). Raises WorldlineError for logs that cannot be read so."""
    size = stack_size(logs, f"{game}/{agent}")
    if compat:
        return read_per_file(logs, agent, size)
    return stitch(logs, agent, size, keep_padding=keep_padding)


def stack_size(logs: Sequence[RingLog], where: str) -> int:
    """The number of frames that the writer's readers stack: invalid_range of most logs names one row more.

    A log that differs from most fails its check later. Raises WorldlineError when most logs name less than 2 rows.
    """
    size, _ = Counter(len(log.invalid_range) for log in logs).most_common(1)[0]
    if size < 2:
        raise WorldlineError(f"{where}: invalid_range has length {size}, it must be stack size + 1: {OTHERWISE}")
    return size - 1


def read_per_file(logs: Sequence[RingLog], agent: int, stack_size: int) -> Stitched:
    """Episodes as the original's scripts cut them. The facts are those of `stitch`.

    Raises WorldlineError as `stitch`, and when only file 0 is there or no file holds a terminal.
    """
    exact = stitch(logs, agent, stack_size)
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
    return replace(exact, episodes=episodes, pieces=pieces, spans=tuple(spans))
