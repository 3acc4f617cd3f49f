"""Copies drawn episodes from replay records into a trajectory file, and compares the finished file with what went in.

frame_extraction.py brings the frames; here are the small arrays (actions, rewards, origins, ends) and the comparison.
`drawn` is the table that `draw.draw` gives, with the slot of each episode's first transition.
"""

from itertools import pairwise

import google_crc32c
import numpy as np
import pandas as pd
from numpy.typing import NDArray

from pipelines.episodes.trajectories import Trajectories, TrajectoryWriter
from pipelines.errors import WorldlineError
from pipelines.sources.dqn_replay.frame_extraction import ExtractionPlan
from pipelines.sources.dqn_replay.record import ReplayRecord


def plan_extraction(record: ReplayRecord, pieces: pd.DataFrame, edges: NDArray[np.int64]) -> list[ExtractionPlan]:
    """What is wanted of each observation file of one agent, ascending. pieces: see `draw.place_pieces`."""
    return [
        ExtractionPlan(record.object("observation", file), record.bucket, pieces[pieces["file"] == file], edges)
        for file in sorted(set(pieces["file"].tolist()))
    ]


def edge_slots(drawn: pd.DataFrame) -> NDArray[np.int64]:
    """The slots of every episode's first and last frame, sorted. Their frames are compared after writing."""
    firsts = drawn["slot"].to_numpy()
    return np.unique(np.concatenate([firsts, firsts + drawn["length"].to_numpy() - 1]))


def copy_small_arrays(record: ReplayRecord, pieces: pd.DataFrame, writer: TrajectoryWriter) -> None:
    """Write actions, rewards and origins of one agent's drawn episodes, file by file, in few writes."""
    for checkpoint in sorted(set(pieces["file"].tolist())):
        log, mine = record.log(checkpoint), pieces[pieces["file"] == checkpoint]
        counts = (mine["stop"] - mine["start"]).to_numpy()
        within = np.arange(counts.sum()) - np.repeat(np.cumsum(counts) - counts, counts)
        rows, slots = (np.repeat(mine[name].to_numpy(), counts) + within for name in ("start", "slot"))
        source = np.empty((len(rows), 3), np.int32)
        source[:, 0], source[:, 1], source[:, 2] = record.agent, checkpoint, rows
        columns = {"actions": log.actions[rows], "rewards": log.rewards[rows], "source_rows": source}
        breaks = np.flatnonzero(np.diff(slots) != 1) + 1
        for low, high in zip([0, *breaks.tolist()], [*breaks.tolist(), len(slots)], strict=True):
            for name, values in columns.items():
                writer.write(name, int(slots[low]), values[low:high])


def write_ends(drawn: pd.DataFrame, writer: TrajectoryWriter) -> None:
    """Write `terminals`, which marks true ends only, and `truncations`, which marks ends by the time limit."""
    last = (drawn["slot"] + drawn["length"] - 1).to_numpy()
    for name, ends in (("terminals", drawn["terminated"]), ("truncations", drawn["truncated"])):
        values = np.zeros(last[-1] + 1, np.uint8)
        values[last] = ends
        writer.write(name, 0, values)


def compare(written: Trajectories, drawn: pd.DataFrame, edges: NDArray[np.void]) -> str:
    """Compare a finished file with what went in, close it, and say what was compared.

    edges: slots and checksums of the frames as they were extracted (frame_extraction.EDGE). Raises WorldlineError when
    anything differs, as a wrong file must not be committed.
    """
    missing = np.setdiff1d(edge_slots(drawn), edges["slot"])
    wrong = [
        slot for slot, crc in edges.tolist() if google_crc32c.value(written.frames(slot, slot + 1).tobytes()) != crc
    ]
    ends = int(written.terminals.sum(dtype=np.int64) + written.truncations.sum(dtype=np.int64))
    spans = pairwise(written.episode_starts.tolist())
    returns = [float(written.rewards[start:stop].sum(dtype=np.float64)) for start, stop in spans]
    if len(missing) or wrong or ends != len(drawn) or not np.array_equal(returns, drawn["return"]):
        raise WorldlineError(
            f"{written.path} reads back differently ({len(missing)} frames absent, {len(wrong)} changed, {ends} ends "
            f"for {len(drawn)} episodes): check the disk and run the same command again"
        )
    written.close()
    return f"first and last frames, ends and returns of {len(drawn)} episodes read back equal"
