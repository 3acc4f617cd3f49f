"""Stage `trajectories`: draw whole episodes of a game from all its replays and store their frames, losslessly packed.

One pass over each observation file that holds a drawn row, a block of 512 frames at a time, several files at once;
other files are not read. Frames go from the bucket through inflater and selection into packed chunks
(sources/dqn_replay/frame_extraction.py); these enter the trajectory file when every file has passed its checksum, which
comes after its last frame. A killed run goes on with the files that it had not finished. Memory stays bounded.
Run: `worldline downsample --games Freeway`.
"""

import os
import threading
from collections.abc import Callable, Sequence
from concurrent.futures import FIRST_EXCEPTION, ThreadPoolExecutor, wait
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import ClassVar

import google_crc32c
import numpy as np
import pandas as pd
from numpy.typing import NDArray

from pipelines.bucket.retry import once_more
from pipelines.environments.atari.games import ACTIONS, minimal_actions
from pipelines.episodes.trajectories import FILE_NAME, Trajectories, TrajectoryWriter
from pipelines.errors import UsageError, WorldlineError
from pipelines.progress import track
from pipelines.sources.dqn_replay.draw import DrawConfig, all_episodes, budget, draw, placed, pool
from pipelines.sources.dqn_replay.frame_extraction import Order, Spool, merge, spool
from pipelines.sources.dqn_replay.record import ReplayRecord
from pipelines.sources.dqn_replay.ring_log import FRAME
from pipelines.store.artefact import Draft, Report
from pipelines.store.ref import Ref
from pipelines.store.stage_config import StageConfig, manner, parent
from pipelines.store.store import Store


@dataclass(frozen=True)
class DownsampleConfig(DrawConfig, StageConfig):
    """Draw a game's episodes and pack their frames. `workers` files are read at a time (0: one a core, at most 8)."""

    STAGE: ClassVar[str] = "trajectories"
    VERB: ClassVar[str] = "downsample"
    DATA: ClassVar[bool] = True
    CODE: ClassVar[str] = "2"
    CHECKS: ClassVar[tuple[str, ...]] = ("enough_transitions", "reads_back")

    replays: tuple[Ref, ...] = parent("replay", every="agent")
    workers: int = manner(0)

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.workers < 0:
            raise UsageError(f"{self.workers} workers cannot read: give 1 or more, or 0 for one per core")

    @property
    def subject(self) -> str:
        return self.game


MOST_WORKERS = 8


def run(config: DownsampleConfig, store: Store) -> Report:
    """Make the trajectories of one game, or find them.

    Raises UsageError for replays of another game or none, WorldlineError for filters that leave nothing and for a
    frame file that is damaged or changed.
    """
    return store.produce(config.spec(), lambda draft: _build(config, draft, store))


def _build(config: DownsampleConfig, draft: Draft, store: Store) -> None:
    records = sorted((ReplayRecord.open(draft.parents[ref], store) for ref in config.replays), key=lambda r: r.agent)
    _require_one_game(config, records)
    episodes = all_episodes(records)
    candidates = pool(episodes, config)
    drawn, wanted = draw(candidates, config), budget(candidates, config)
    total = int(drawn["length"].sum())
    edges = _edges(drawn)
    pieces = {record.agent: placed(record.pieces, drawn[drawn["agent"] == record.agent]) for record in records}
    orders = [order for record in records for order in _orders(record, pieces[record.agent], edges)]
    with track(f"Select frames of {config.game}", total=total, unit="frames") as advance:
        spools = _spool_all(orders, draft.scratch, config.workers, advance)

    path, names = draft.path(FILE_NAME), [ACTIONS[number] for number in minimal_actions(config.game)]
    with TrajectoryWriter(path, config.game, names, drawn["length"].tolist(), FRAME) as writer:
        for chunk, packed in merge(spools, total):
            writer.write_chunk(chunk, packed)
        for record in records:
            _copy_small(record, pieces[record.agent], writer)
        _write_ends(drawn, writer)

    written = Trajectories(path)
    _verify(draft, written, drawn, np.concatenate([found.edges for found in spools]))
    raw = total * int(np.prod(FRAME))
    draft.counts |= {"episodes": len(drawn), "transitions": total, "agents": int(drawn["agent"].nunique())}
    draft.metrics |= {
        "mean_clipped_return": round(float(drawn["return"].mean()), 4),
        "mean_length": round(float(drawn["length"].mean()), 2),
        "raw_bytes": raw,
        "stored_bytes": path.stat().st_size,
        "ratio": round(raw / path.stat().st_size, 2),
        "inflated_bytes": sum(found.inflated for found in spools),
    }
    detail = (
        f"{total:,} of {wanted:,} transitions; {len(candidates):,} of the replays' {len(episodes):,} episodes are "
        "whole and within the filters"
    )
    draft.check("enough_transitions", total >= wanted, detail)


def _require_one_game(config: DownsampleConfig, records: Sequence[ReplayRecord]) -> None:
    if not records:
        raise UsageError(f"Trajectories of {config.game} need at least one replay: name one agent or more")
    if len({record.agent for record in records}) != len(records):
        raise UsageError(f"Two replays of the same agent of {config.game}: name each agent once")
    for record in records:
        if record.game != config.game:
            raise UsageError(
                f"{record.ref} is a replay of {record.game}, not of {config.game}: name one of {config.game}"
            )


def _orders(record: ReplayRecord, pieces: pd.DataFrame, edges: NDArray[np.int64]) -> list[Order]:
    """What is wanted of each of one agent's observation files, ascending."""
    files = sorted(set(pieces["file"].tolist()))
    return [
        Order(record.object("observation", file), record.bucket, pieces[pieces["file"] == file], edges)
        for file in files
    ]


def _edges(drawn: pd.DataFrame) -> NDArray[np.int64]:
    """Slots of every episode's first and last frame, sorted: those that are compared after writing."""
    firsts = drawn["slot"].to_numpy()
    return np.unique(np.concatenate([firsts, firsts + drawn["length"].to_numpy() - 1]))


def _spool_all(orders: Sequence[Order], folder: Path, workers: int, advance: Callable[[int], None]) -> list[Spool]:
    """One spool per order, `workers` at a time. Finished ones of a run that was killed are kept.

    Threads, as inflating, packing and reading release the interpreter lock. The first failure stops all.
    """
    stop, lock = threading.Event(), threading.Lock()

    def step(count: int) -> None:
        if stop.is_set() and count >= 0:
            raise WorldlineError("Another file failed: see its error")
        with lock:
            advance(count)

    def one(order: Order) -> Spool:
        path = folder / order.item.name.replace("/", "@").replace(".", "-")
        if (found := Spool.find(path)) is not None:
            step(int((order.pieces["stop"] - order.pieces["start"]).sum()))
            return found
        return once_more(lambda: spool(order, path, step))

    workers = workers or min(MOST_WORKERS, os.cpu_count() or 1)
    with ThreadPoolExecutor(min(workers, len(orders)), "spool") as threads:
        futures = [threads.submit(one, order) for order in orders]
        try:
            done, _ = wait(futures, return_when=FIRST_EXCEPTION)
        finally:
            stop.set()
            for future in futures:
                future.cancel()
        for future in done:
            future.result()  # raises the failure, if there was one
        return [future.result() for future in futures]


def _copy_small(record: ReplayRecord, pieces: pd.DataFrame, writer: TrajectoryWriter) -> None:
    """Actions, rewards and origins of one agent's drawn episodes, file by file, in few writes."""
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


def _write_ends(drawn: pd.DataFrame, writer: TrajectoryWriter) -> None:
    """`terminals` marks true ends only, `truncations` those by the time limit."""
    last = (drawn["slot"] + drawn["length"] - 1).to_numpy()
    for name, ends in (("terminals", drawn["terminated"]), ("truncations", drawn["truncated"])):
        values = np.zeros(last[-1] + 1, np.uint8)
        values[last] = ends
        writer.write(name, 0, values)


def _verify(draft: Draft, written: Trajectories, drawn: pd.DataFrame, edges: NDArray[np.void]) -> None:
    """Compare the finished file with what went in. Raises WorldlineError, as a wrong file must not be committed."""
    missing = np.setdiff1d(_edges(drawn), edges["slot"])
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
    draft.check("reads_back", True, f"first and last frames, ends and returns of {len(drawn)} episodes read back equal")
