"""The two ways to read an agent's logs: stitched by their evidence, or as JOWA's own scripts read them.

The latter is for those who want its exact data: each file alone, rows in file order. Blank rows are kept as steps, the
row that is out of place stays there, the piece before a file's first terminal counts as a whole episode, what follows
its last terminal is dropped, a time-out is a death, stale rows are read again, and file 0 is not read at all. Training
on it sees duplicates and wrong joins.
Source: facts of the released scripts (arXiv 2410.00564), which read `ckpt.1` to `ckpt.50`.
"""

from collections import Counter
from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from pipelines.errors import WorldlineError
from pipelines.sources.dqn_replay.log_order import Border, Stretch
from pipelines.sources.dqn_replay.ring_log import REPAIR, RingLog
from pipelines.sources.dqn_replay.stitch import Stitched, assemble, stitch
from pipelines.sources.dqn_replay.stitch import stitch as stitch_exactly
from pipelines.sources.dqn_replay.stream import Stream, parts


def read(logs: Sequence[RingLog], game: str, agent: int, compat: str = "", keep_padding: bool = False) -> Stitched:
    """The episodes of these logs (at least one, ascending). Raises WorldlineError for logs that cannot be read so."""
    size = stack_size(logs, f"{game}/{agent}")
    if compat:
        return read_per_file(logs, agent, size)
    return stitch(logs, agent, size, keep_padding=keep_padding)


def stack_size(logs: Sequence[RingLog], where: str) -> int:
    """The writer's frame stack: invalid_range names one row more in most logs. One that does not fails its check."""
    size, _ = Counter(len(log.invalid_range) for log in logs).most_common(1)[0]
    if size < 2:
        raise WorldlineError(f"{where}: invalid_range has length {size}, it must be stack size + 1: {REPAIR}")
    return size - 1


def read_per_file(logs: Sequence[RingLog], agent: int, stack_size: int) -> Stitched:
    """Episodes as the original cuts them; the evidence is that of `stitch`.

    Raises WorldlineError as `stitch`, and when only file 0 is there or no file holds a terminal.
    """
    exact = stitch_exactly(logs, agent, stack_size)
    stretches = [Stretch(log, 0, log.capacity, Border.FIRST) for log in logs if log.checkpoint > 0]
    streams = [Stream.of(parts(stretch), origin=False) for stretch in stretches]
    if not any(len(stream.ends) for stream in streams):
        raise WorldlineError(
            f"{len(stretches)} logs after log 0 hold no terminal: the original's reading leaves nothing; read without "
            "compat, or collect more steps"
        )
    tables = []
    for stream in streams:
        starts = np.concatenate([[0], stream.ends[:-1]]) if len(stream.ends) else stream.ends
        yes, no = np.ones(len(starts), np.bool_), np.zeros(len(starts), np.bool_)
        tables.append(stream.table(starts, stream.ends, terminated=yes, truncated=no, complete=yes))
    episodes, pieces = assemble(tables, agent)
    return replace(exact, episodes=episodes, pieces=pieces, stretches=tuple(stretches))
