"""Stage `trajectories`: draw whole episodes of a game from all its replays and store their frames, losslessly packed.

Every observation file that holds a drawn row is read once, a block of 512 frames at a time, several files at once;
other files are not read. Frames go from the bucket through inflater and selection into packed chunks
(sources/dqn_replay/frame_extraction.py). The chunks enter the trajectory file when every observation file has passed
its checksum, which comes after its last frame. A killed run goes on with the files that it had not finished. Memory
stays bounded whatever the game's size.
Run: `worldline downsample --games Freeway`.
"""

import os
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar

from models.limits import Few
from pipelines.errors import UsageError
from pipelines.progress import track
from pipelines.sources.dqn_replay.draw import DrawConfig, budget, draw, eligible, place_pieces
from pipelines.store.artefact import Draft, Report
from pipelines.store.ref import Ref
from pipelines.store.stage_config import StageConfig, manner, parent
from pipelines.store.store import Store

if TYPE_CHECKING:
    import pandas as pd

    from pipelines.sources.dqn_replay.record import ReplayRecord


@dataclass(frozen=True)
class DownsampleConfig(DrawConfig, StageConfig):
    """Draw a game's episodes and pack their frames. `workers` files are read at a time (0: one a core, at most 8)."""

    STAGE: ClassVar[str] = "trajectories"
    VERB: ClassVar[str] = "downsample"
    DATA: ClassVar[bool] = True
    CODE: ClassVar[str] = "2"
    CHECKS: ClassVar[tuple[str, ...]] = ("enough_transitions", "reads_back")
    FRAME: ClassVar[tuple[int, int, int]] = (84, 84, 1)  # (height, width, colours) of what DQN-Replay's logs hold

    replays: tuple[Ref, ...] = parent("replay", every="agent")
    workers: Few = manner(0)

    @property
    def subject(self) -> str:
        return self.game


MOST_WORKERS = 8


def run(config: DownsampleConfig, store: Store) -> Report:
    """Make the trajectories of one game, or find them.

    Raises UsageError when there is no replay or one of another game, WorldlineError when filters leave nothing and when
    a frame file is damaged or changed.
    """
    return store.produce(config.spec(), lambda draft: _build(config, draft, store))


def _build(config: DownsampleConfig, draft: Draft, store: Store) -> None:
    from pipelines.sources.dqn_replay.record import ReplayRecord, all_episodes

    records = sorted((ReplayRecord.open(draft.parents[ref], store) for ref in config.replays), key=lambda r: r.agent)
    _require_one_game(config, records)
    episodes = all_episodes(records)
    candidates = eligible(episodes, config)
    drawn, wanted = draw(candidates, config), budget(candidates, config)
    total = int(drawn["length"].sum())
    draft.metrics |= _write(config, draft, records, drawn)
    draft.counts |= {"episodes": len(drawn), "transitions": total, "agents": int(drawn["agent"].nunique())}
    detail = (
        f"{total:,} of {wanted:,} transitions; {len(candidates):,} of the replays' {len(episodes):,} episodes are "
        "whole and within the filters"
    )
    draft.check("enough_transitions", total >= wanted, detail)


def _require_one_game(config: DownsampleConfig, records: "Sequence[ReplayRecord]") -> None:
    if not records:
        raise UsageError(f"Trajectories of {config.game} need at least one replay: name one agent or more")
    if len({record.agent for record in records}) != len(records):
        raise UsageError(f"Two replays are of the same agent of {config.game}: name each agent once")
    for record in records:
        if record.game != config.game:
            raise UsageError(
                f"{record.ref} is a replay of {record.game}, not of {config.game}: name one of {config.game}"
            )


def _write(
    config: DownsampleConfig, draft: Draft, records: "Sequence[ReplayRecord]", drawn: "pd.DataFrame"
) -> dict[str, Any]:
    """Write the trajectory file of the drawn episodes and compare it with what went in; the metrics of the manifest."""
    import numpy as np

    from pipelines.environments.atari.games import ACTIONS, minimal_actions
    from pipelines.episodes.trajectories import FILE_NAME, Trajectories, TrajectoryWriter
    from pipelines.sources.dqn_replay import frame_extraction
    from pipelines.sources.dqn_replay.record import compare, copy_small_arrays, edge_slots, plan_extraction, write_ends
    from pipelines.sources.dqn_replay.ring_log import FRAME

    total, edges = int(drawn["length"].sum()), edge_slots(drawn)
    pieces = {record.agent: place_pieces(record.pieces, drawn[drawn["agent"] == record.agent]) for record in records}
    plans = [plan for r in records for plan in plan_extraction(r, pieces[r.agent], edges)]
    workers = config.workers or min(MOST_WORKERS, os.cpu_count() or 1)
    with track(f"Select frames of {config.game}", total=total, unit="frames") as advance:
        extracted = frame_extraction.extract_all(plans, draft.scratch, workers, advance)

    path, names = draft.path(FILE_NAME), [ACTIONS[number] for number in minimal_actions(config.game)]
    with TrajectoryWriter(path, config.game, names, drawn["length"].tolist()) as writer:
        for chunk, packed in frame_extraction.merge_chunks(extracted, total):
            writer.write_chunk(chunk, packed)
        for record in records:
            copy_small_arrays(record, pieces[record.agent], writer)
        write_ends(drawn, writer)
        draft.part("frames", digest=writer.frames_sha256())

    detail = compare(Trajectories(path), drawn, np.concatenate([found.edges for found in extracted]))
    draft.check("reads_back", True, detail)
    raw = total * int(np.prod(FRAME))
    return {
        "mean_clipped_return": round(float(drawn["return"].mean()), 4),
        "mean_length": round(float(drawn["length"].mean()), 2),
        "raw_bytes": raw,
        "stored_bytes": path.stat().st_size,
        "ratio": round(raw / path.stat().st_size, 2),
        "inflated_bytes": sum(found.inflated for found in extracted),
    }
