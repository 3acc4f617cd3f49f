"""Turns snapshots of a ring into the stream of episodes that the agent really played. Pure numpy.

log_order.py says which rows of each log are new and which logs continue each other; here the terminals are read, and
what follows them is a second witness. Blank rows (`stack_size` - 1 before each episode, so that frames can be stacked)
are no transitions and are left out, unless the writer is seen to put none. Where a terminal stands right before a seam
and blank rows do not follow it although they do everywhere else, the order of the rows is refuted: then nothing of this
agent is joined over any seam, as a seam without a terminal nearby cannot be tested.

An episode is complete when its first row is known to be first (it follows blank rows, or a terminal where there are
none) and its last is a terminal. The piece before the first terminal of a stream that starts midway may begin with up
to `stack_size` - 1 blank rows, which cannot be told from real ones there; it is incomplete and never drawn. Cost: 10 ms
of CPU and 16 MB per million rows (five logs of a million, 3,000 episodes); no frame is touched.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from pipelines.sources.dqn_replay.log_facts import Endings, Evidence, Padding, pooled
from pipelines.sources.dqn_replay.log_order import Border, Stretch, order
from pipelines.sources.dqn_replay.ring_log import RingLog
from pipelines.sources.dqn_replay.stream import EPISODE_COLUMNS, PIECE_COLUMNS, Part, Stream, parts

__all__ = ["EPISODE_COLUMNS", "PIECE_COLUMNS", "TIME_LIMIT", "RingLog", "Stitched", "stitch"]

TIME_LIMIT = 27_000  # agent steps at which DQN-Replay's agents ended an episode and logged it as a terminal


@dataclass(frozen=True)
class Stitched:
    """`episodes` has one row per episode (EPISODE_COLUMNS); `pieces` (PIECE_COLUMNS) says where its rows lie, in order.

    A piece is rows start .. stop-1 of log file `file`. `stretches` are the rows that were used, `evidence` what each
    log showed, both in the logs' order. `too_long` counts episodes above the time limit; they are not complete.
    """

    episodes: pd.DataFrame
    pieces: pd.DataFrame
    stretches: tuple[Stretch, ...]
    evidence: tuple[Evidence, ...]
    too_long: int


@dataclass(frozen=True)
class _Reading:
    """How terminals are read."""

    blanks: int  # rows that pad an episode
    padding: dict[int, Padding]  # of each file, none untold
    keep_padding: bool
    time_limit: int


def stitch(
    logs: Sequence[RingLog], agent: int, stack_size: int, time_limit: int = TIME_LIMIT, keep_padding: bool = False
) -> Stitched:
    """Join one agent's logs (ascending checkpoints, equal capacity) into episodes.

    `keep_padding` keeps the blank rows as the head of each episode. Raises WorldlineError as `order` does.
    """
    stretches = order(logs, stack_size)
    streams = _streams(stretches)
    endings, padding = _examine(streams, stretches, stack_size - 1)
    disordered = any(ending.refuted for ending in endings.values())
    if disordered:
        streams = _streams(stretches, disordered)
    reading = _Reading(stack_size - 1, padding, keep_padding, time_limit)
    found = [_episodes(stream, reading) for stream in streams]
    episodes, pieces = assemble([table for table, _ in found], agent)
    evidence = [Evidence.of(stretch, endings[stretch.log.checkpoint], disordered) for stretch in stretches]
    return Stitched(episodes, pieces, tuple(stretches), tuple(evidence), sum(long for _, long in found))


def assemble(tables: Sequence[tuple[pd.DataFrame, pd.DataFrame]], agent: int) -> tuple[pd.DataFrame, pd.DataFrame]:
    """The tables of all streams as one, episodes numbered from 0."""
    offsets = np.cumsum([0] + [len(episodes) for episodes, _ in tables])
    shifted = [
        pieces.assign(episode=pieces["episode"] + offset) for (_, pieces), offset in zip(tables, offsets, strict=False)
    ]
    episodes = pd.concat([episodes for episodes, _ in tables], ignore_index=True)
    episodes.insert(0, "agent", agent)
    episodes.insert(1, "episode", np.arange(len(episodes)))
    return episodes[EPISODE_COLUMNS], pd.concat(shifted, ignore_index=True)[PIECE_COLUMNS]


def _streams(stretches: Sequence[Stretch], disordered: bool = False) -> list[Stream]:
    """Runs of stretches that continue each other; of a log whose order is in doubt, every part is a run of its own."""
    runs: list[tuple[list[Part], bool]] = []
    for stretch in stretches:
        doubtful = disordered or not stretch.range_fits
        for place, part in enumerate(parts(stretch)):
            if not doubtful and runs and (place or stretch.border == Border.JOINED):
                runs[-1][0].append(part)
            else:
                runs.append(([part], stretch.origin and not place))
    return [Stream.of(*run) for run in runs]


def _examine(
    streams: Sequence[Stream], stretches: Sequence[Stretch], blanks: int
) -> tuple[dict[int, Endings], dict[int, Padding]]:
    """What follows each terminal, counted by the terminal's file, and the pattern by which each file is to be read."""
    endings = {stretch.log.checkpoint: Endings() for stretch in stretches}
    seams: list[tuple[NDArray, NDArray]] = []  # files of terminals before a seam, whether blank rows follow
    for stream in streams if blanks else ():
        ends = stream.ends[stream.ends + blanks <= len(stream)]
        files, _ = stream.locate(ends - 1)
        padded, crosses = stream.padded(ends, blanks), stream.crosses(ends, blanks)
        for file in np.unique(files).tolist():
            inside = (files == file) & ~crosses
            endings[file].padded += int((inside & padded).sum())
            endings[file].bare += int((inside & ~padded).sum())
        seams.append((files[crosses], padded[crosses]))
    whole = pooled([ending.padding for ending in endings.values()])
    padding = {file: whole if ending.padding == Padding.UNTOLD else ending.padding for file, ending in endings.items()}
    for files, padded in seams:
        for file, blank in zip(files.tolist(), padded.tolist(), strict=True):
            if padding[file] == Padding.ALL:  # the other patterns demand nothing of a seam
                endings[file].confirmed += blank
                endings[file].refuted += not blank
    return endings, padding


def _episodes(stream: Stream, reading: _Reading) -> tuple[tuple[pd.DataFrame, pd.DataFrame], int]:
    """Episodes and pieces of one run, and how many episodes are longer than the time limit."""
    starts = np.concatenate([[0], stream.ends])
    starts = starts[starts < len(stream)]
    stops = np.append(stream.ends, len(stream))[: len(starts)]
    files, _ = stream.locate(np.maximum(starts - 1, 0))  # whose terminal it follows
    bare = np.array([reading.padding[file] == Padding.NONE for file in files.tolist()], np.bool_)
    padded = stream.padded(starts, reading.blanks) & ~bare
    known = padded | bare  # that the first row is an episode's first
    if not stream.origin:
        known[0] = padded[0] = False  # what looks blank here could as well be idle steps
    real = starts + np.where(padded, np.minimum(reading.blanks, stops - starts), 0)

    kept = real < stops
    starts, stops, real, known = starts[kept], stops[kept], real[kept], known[kept]
    ended = np.isin(stops, stream.ends, assume_unique=True)
    lengths = stops - real
    complete = known & ended & (lengths <= reading.time_limit)
    truncated = complete & (lengths == reading.time_limit)
    first = starts if reading.keep_padding else real
    tables = stream.table(first, stops, terminated=ended & ~truncated, truncated=truncated, complete=complete)
    return tables, int((lengths > reading.time_limit + reading.blanks * ~known).sum())
