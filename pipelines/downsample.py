"""Stage `trajectories`: draw whole episodes of a game from all its replays and store their frames, losslessly packed.

One pass over each observation file that holds a drawn row, a block of 512 frames at a time; other files are not read.
A file's checksum and gzip trailer come after its last frame, so nothing is committed before every file has passed.
Measured: 500 MB inflated per CPU second when every frame is kept (packing them dominates), two logs of 141 MB.
Run: `worldline downsample Freeway`.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field

import google_crc32c
import numpy as np
import pandas as pd
from numpy.typing import NDArray

from pipelines.atari.actions import ACTIONS, minimal_actions
from pipelines.atari.games import game_id
from pipelines.configs.data import DownsampleConfig
from pipelines.errors import UsageError, WorldlineError
from pipelines.progress import Advance, track
from pipelines.replay.log_reader import iter_blocks
from pipelines.replay.record import ReplayRecord
from pipelines.replay.trajectories import FILE_NAME, FRAME, Trajectories, TrajectoryWriter
from pipelines.store.draft import Draft
from pipelines.store.report import Report
from pipelines.store.store import Store


@dataclass
class Edges:
    """crc32c of the first and last frame of every episode, taken on the way in and compared on the way out."""

    slots: NDArray[np.int64]  # sorted
    seen: dict[int, int] = field(default_factory=dict)

    def note(self, slot: int, frames: NDArray[np.uint8]) -> None:
        """Remember those of `frames` (n,84,84), written from `slot` on, that are an episode's first or last."""
        low, high = np.searchsorted(self.slots, (slot, slot + len(frames)))
        for edge in self.slots[low:high].tolist():
            self.seen[edge] = google_crc32c.value(frames[edge - slot].tobytes())


def run(config: DownsampleConfig, store: Store) -> Report:
    """Make the trajectories of one game, or find them.

    Raises UsageError for replays of another game or none, WorldlineError for a frame file that is damaged or changed.
    """
    return store.produce(config.spec(), lambda draft: _build(config, draft, store))


def draw(episodes: pd.DataFrame, transitions: int, seed: int, game: str) -> pd.DataFrame:
    """Complete episodes in random order, without replacement, until at least `transitions` are reached.

    The last one drawn may overshoot; all are taken when there are too few. The draw depends on seed, game and the set
    of episodes, not on the order of the rows. Returns them sorted by agent and episode.
    """
    pool = episodes[episodes["complete"]].sort_values(["agent", "episode"], ignore_index=True)
    order = np.random.default_rng([seed, game_id(game)]).permutation(len(pool))
    before = np.concatenate([[0], np.cumsum(pool["length"].to_numpy()[order])])[:-1]
    chosen = order[before < transitions]
    return pool.iloc[np.sort(chosen)].reset_index(drop=True)


def _build(config: DownsampleConfig, draft: Draft, store: Store) -> None:
    records = sorted((ReplayRecord.open(draft.parents[ref], store) for ref in config.replays), key=lambda r: r.agent)
    _require_one_game(config, records)
    pool = pd.concat([record.episodes for record in records], ignore_index=True)
    drawn = draw(pool, config.transitions, config.seed, config.game)
    if drawn.empty:
        raise WorldlineError(f"No complete episode of {config.game} in {len(records)} replays: fetch more checkpoints")
    drawn["slot"] = np.cumsum(drawn["length"]) - drawn["length"]
    total = int(drawn["length"].sum())
    firsts = drawn["slot"].to_numpy()
    edges = Edges(np.unique(np.concatenate([firsts, firsts + drawn["length"].to_numpy() - 1])))
    names = [ACTIONS[number] for number in minimal_actions(config.game)]
    path, read = draft.path(FILE_NAME), 0
    with (
        TrajectoryWriter(path, config.game, names, drawn["length"].tolist()) as writer,
        track(f"Select frames of {config.game}", total=total, unit="frames") as advance,
    ):
        for record in records:
            pieces = _slots(record, drawn[drawn["agent"] == record.agent])
            _copy_small(record, pieces, drawn, writer)
            for checkpoint in sorted(set(pieces["file"].tolist())):
                rows = pieces[pieces["file"] == checkpoint].sort_values("start")
                read += _copy_frames(record, checkpoint, rows, writer, edges, advance)

    written = Trajectories(path)
    _verify(draft, written, drawn, edges)
    raw = total * int(np.prod(FRAME))
    draft.counts |= {"episodes": len(drawn), "transitions": total, "agents": int(drawn["agent"].nunique())}
    draft.metrics |= {
        "mean_clipped_return": round(float(drawn["return"].mean()), 4),
        "mean_length": round(float(drawn["length"].mean()), 2),
        "raw_bytes": raw,
        "stored_bytes": path.stat().st_size,
        "ratio": round(raw / path.stat().st_size, 2),
        "inflated_bytes": read,
    }
    detail = f"{total:,} of {config.transitions:,} transitions; the replays hold {len(pool):,} episodes"
    draft.check("enough_transitions", total >= config.transitions, detail)


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


def _slots(record: ReplayRecord, drawn: pd.DataFrame) -> pd.DataFrame:
    """The pieces of the drawn episodes of one agent, each with the slot of its first row."""
    pieces = record.pieces.merge(drawn[["episode", "slot"]], on="episode")
    rows = pieces["stop"] - pieces["start"]
    pieces["slot"] += rows.groupby(pieces["episode"]).cumsum() - rows
    return pieces


def _copy_small(record: ReplayRecord, pieces: pd.DataFrame, drawn: pd.DataFrame, writer: TrajectoryWriter) -> None:
    """Actions, rewards, ends and origins of one agent's drawn episodes. `terminals` marks true ends only."""
    mine = drawn[drawn["agent"] == record.agent]
    if mine.empty:
        return
    logs = {log.checkpoint: log for log in record.logs()}
    offset, total = int(mine["slot"].iloc[0]), int(mine["length"].sum())  # one agent's slots are one stretch
    actions, rewards = np.empty(total, np.uint8), np.empty(total, np.float32)
    source = np.empty((total, 3), np.int32)
    for _, file, start, stop, slot in pieces.itertuples(index=False):
        into = slice(slot - offset, slot - offset + stop - start)
        actions[into], rewards[into] = logs[file].actions[start:stop], logs[file].rewards[start:stop]
        source[into, 0], source[into, 1], source[into, 2] = record.agent, file, np.arange(start, stop)
    last = (mine["slot"] + mine["length"] - 1).to_numpy() - offset
    terminals, truncations = np.zeros(total, np.uint8), np.zeros(total, np.uint8)
    terminals[last], truncations[last] = mine["terminated"], mine["truncated"]
    columns: dict[str, NDArray] = {
        "actions": actions,
        "rewards": rewards,
        "terminals": terminals,
        "truncations": truncations,
    }
    for name, values in (columns | {"source_rows": source}).items():
        writer.write(name, offset, values)


def _copy_frames(
    record: ReplayRecord,
    checkpoint: int,
    pieces: pd.DataFrame,
    writer: TrajectoryWriter,
    edges: Edges,
    advance: Advance,
) -> int:
    """Stream one observation file past its selected rows (pieces ascending by start); returns the bytes inflated."""
    item = record.object("observation", checkpoint)
    wanted = list(zip(pieces["start"], pieces["stop"], pieces["slot"], strict=True))
    row = position = 0
    for block in iter_blocks(item, record.bucket):
        end = row + len(block)
        while position < len(wanted) and wanted[position][0] < end:
            start, stop, slot = wanted[position]
            low, high = max(start, row), min(stop, end)
            frames, into = block[low - row : high - row], int(slot + low - start)
            writer.write("observations", into, frames)
            edges.note(into, frames)
            advance(len(frames))
            if stop > end:
                break
            position += 1
        row = end
    if position < len(wanted):
        raise WorldlineError(
            f"{item.url} has {row} rows, row {wanted[position][1] - 1} is needed: the bucket changed; "
            "fetch the replay again"
        )
    return row * int(np.prod(FRAME))


def _verify(draft: Draft, written: Trajectories, drawn: pd.DataFrame, edges: Edges) -> None:
    """Compare the finished file with what went in. Raises WorldlineError, as a wrong file must not be committed."""
    missing = set(edges.slots.tolist()) - set(edges.seen)
    wrong = [
        slot for slot, crc in edges.seen.items() if google_crc32c.value(written.frames(slot, slot + 1).tobytes()) != crc
    ]
    ends = int(written.terminals.sum()) + int(written.truncations.sum())
    returns = np.add.reduceat(written.rewards.astype(np.float64), written.episode_starts[:-1])
    if missing or wrong or ends != len(drawn) or not np.array_equal(returns, drawn["return"]):
        raise WorldlineError(
            f"{written.path} reads back differently ({len(missing)} frames absent, {len(wrong)} changed, {ends} ends "
            f"for {len(drawn)} episodes): check the disk and run the same command again"
        )
    written.close()
    draft.check("reads_back", True, f"first and last frames, ends and returns of {len(drawn)} episodes read back equal")
