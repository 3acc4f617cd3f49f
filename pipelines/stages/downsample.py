"""Stage `trajectories`: draw whole episodes of a game from all its replays and store their frames, losslessly packed.

Episodes are filtered, then whole ones are taken in random order up to a budget. The draw depends on the seed, the game
and the set of episodes. It does not depend on the order of rows, files or replays, nor on the number of workers.

Every file that holds a frame of a drawn row is read once, some hundred frames at a time, several files at once; other
files are not read. Frames go from the bucket through inflater and selection into packed chunks
(sources/frame_extraction.py). The chunks enter the trajectory file when every file has passed
its checksum, which comes after its last frame. A killed run goes on with the files that it had not finished. Memory
stays bounded whatever the game's size.
Run: `worldline downsample --games Freeway`.
"""

import math
import os
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, Any, ClassVar

import numpy as np

from models.limits import MOST, Count, Few, Natural, Seed, Share, Within
from pipelines.environments.registry import game_id
from pipelines.errors import UsageError, WorldlineError
from pipelines.progress import track
from pipelines.store.artefact import Draft, Report
from pipelines.store.ref import Ref
from pipelines.store.stage_config import Beside, StageConfig, Work, filled, manner, option, parent, require
from pipelines.store.store import Store

if TYPE_CHECKING:
    import pandas as pd  # the graph's plan imports this file for the config alone

    from pipelines.sources.source import ReplayRecord


@dataclass(frozen=True)
class DrawConfig:
    """Draw whole episodes from the replay of all chosen agents, until `transitions` steps are reached.

    A `fraction` above 0 draws that share of the eligible transitions instead. An episode is eligible when it ends in
    the checkpoints `first_checkpoint` to `last_checkpoint` (-1: no limit) and its clipped return lies between the
    quantiles `min_return` and `max_return` of those: 0.9 to 1 keeps the best tenth, whatever the game's scores.
    `replacement` draws as JOWA's own script does.
    """

    game: str = filled("game", "")
    transitions: Count = 10_000_000
    seed: Seed = 0
    fraction: Share = option(0.0)
    replacement: bool = option(False)
    first_checkpoint: Natural = option(0)
    last_checkpoint: Annotated[int, Within(least=-1, most=MOST)] = option(-1)
    min_return: float = option(0.0)
    max_return: float = option(1.0)

    def __post_init__(self) -> None:
        require(self, "downsample")
        if not 0.0 <= self.min_return <= self.max_return <= 1.0:
            raise UsageError(
                f"Returns from quantile {self.min_return} to {self.max_return} are no range: both lie between 0 and 1, "
                "the smaller first (0.9 to 1 keeps the best tenth)"
            )
        if -1 < self.last_checkpoint < self.first_checkpoint:
            raise UsageError(
                f"Checkpoints {self.first_checkpoint} to {self.last_checkpoint} are no range: give the smaller first, "
                "and -1 as the last for no limit"
            )


@dataclass(frozen=True)
class DownsampleConfig(DrawConfig, StageConfig):
    """Draw a game's episodes and pack their frames.

    `workers` files are read at a time (0: one a core, at most 8 logs or 2 shards).
    """

    STAGE: ClassVar[str] = "trajectories"
    VERB: ClassVar[str] = "downsample"
    DATA: ClassVar[bool] = True
    CODE: ClassVar[str] = "2"
    CHECKS: ClassVar[tuple[str, ...]] = ("enough_transitions", "reads_back")
    FRAME: ClassVar[tuple[int, int, int]] = (84, 84, 1)  # (height, width, colours) of what all sources hold

    replays: tuple[Ref, ...] = parent("replay", every="agent")
    workers: Few = manner(0)

    @property
    def subject(self) -> str:
        return self.game

    def work(self, beside: Beside) -> Work | None:
        """The frames of all logs, as each holds some that are drawn: what is read takes the time, not what is kept."""
        logs = beside.template("fetch")
        rows = logs.work(beside) if logs is not None else None
        if rows is None:
            return None
        kept = ("transitions", float(self.transitions))
        return Work("inflated_bytes", rows.amount * len(beside.agents) * math.prod(self.FRAME), kept=kept)


def run(config: DownsampleConfig, store: Store) -> Report:
    """Make the trajectories of one game, or find them.

    Raises UsageError when there is no replay or one of another game, WorldlineError when filters leave nothing and when
    a frame file is damaged or changed.
    """
    return store.produce(config.spec(), lambda draft: _build(config, draft, store))


def _build(config: DownsampleConfig, draft: Draft, store: Store) -> None:
    from pipelines.sources.source import ReplayRecord, all_episodes

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


def eligible(episodes: "pd.DataFrame", config: DrawConfig) -> "pd.DataFrame":
    """The complete episodes that pass the filters of `config`, sorted by agent and episode.

    An episode counts to the checkpoint in which it ends. `min_return` and `max_return` are quantiles of the clipped
    return among the complete episodes of these checkpoints. Raises WorldlineError when nothing passes.
    """
    whole = episodes[episodes["complete"]]
    last = config.last_checkpoint if config.last_checkpoint >= 0 else np.inf
    ranged = whole[whole["checkpoint"].between(config.first_checkpoint, last)]
    if ranged.empty:
        raise WorldlineError(_nothing_passes(whole, config))
    low, high = np.quantile(ranged["return"], (config.min_return, config.max_return))
    kept = ranged[ranged["return"].between(low, high)]
    if kept.empty:
        raise WorldlineError(_nothing_passes(ranged, config))
    return kept.sort_values(["agent", "episode"], ignore_index=True)


def budget(candidates: "pd.DataFrame", config: DrawConfig) -> int:
    """The number of transitions to draw: a fraction of those that the candidates hold, or the configured number."""
    held = int(candidates["length"].sum())
    return math.ceil(config.fraction * held) if config.fraction else config.transitions


def draw(candidates: "pd.DataFrame", config: DrawConfig) -> "pd.DataFrame":
    """The drawn episodes by agent and episode, each with the `slot` of its first transition in the trajectory file.

    Without replacement, episodes are taken in random order until the budget is reached. The last one may exceed it; all
    are taken when there are too few; a larger budget adds episodes and exchanges none. With replacement, there are
    ceil(budget / mean length) independent draws, as in JOWA's script (arXiv 2410.00564), and an episode that is drawn
    twice has two rows.
    """
    wanted, lengths = budget(candidates, config), candidates["length"].to_numpy()
    rng = np.random.default_rng([config.seed, game_id(config.game)])
    if config.replacement:
        chosen = rng.integers(len(candidates), size=math.ceil(wanted / lengths.mean()))
    else:
        order = rng.permutation(len(candidates))
        before = np.cumsum(lengths[order]) - lengths[order]
        chosen = order[before < wanted]
    drawn = candidates.iloc[np.sort(chosen)].reset_index(drop=True)
    return drawn.assign(slot=np.cumsum(drawn["length"]) - drawn["length"])


def place_pieces(pieces: "pd.DataFrame", drawn: "pd.DataFrame") -> "pd.DataFrame":
    """The pieces of one agent's drawn episodes, sorted by the slot of their first row.

    Columns: episode, file, start, stop, slot. An episode that is drawn twice has its pieces twice.
    """
    found = drawn[["episode", "slot"]].merge(pieces, on="episode", how="inner")
    rows = found["stop"] - found["start"]
    found["slot"] += rows.groupby(found["slot"]).cumsum() - rows
    return found[["episode", "file", "start", "stop", "slot"]]


def _nothing_passes(there: "pd.DataFrame", config: DrawConfig) -> str:
    if there.empty:
        return f"No complete episode of {config.game} in its replays: fetch more checkpoints"
    checkpoints, returns = there["checkpoint"], there["return"]
    last = config.last_checkpoint if config.last_checkpoint >= 0 else "the last"
    return (
        f"No complete episode of {config.game} passes the filters (checkpoints {config.first_checkpoint} to {last}, "
        f"return quantiles {config.min_return:g} to {config.max_return:g}): there are checkpoints {checkpoints.min()} "
        f"to {checkpoints.max()} with returns {returns.min():g} to {returns.max():g}; widen a filter"
    )


def _write(
    config: DownsampleConfig, draft: Draft, records: "Sequence[ReplayRecord]", drawn: "pd.DataFrame"
) -> dict[str, Any]:
    """Write the trajectory file of the drawn episodes and compare it with what went in; the metrics of the manifest."""
    import numpy as np

    from pipelines.environments.atari.games import ACTIONS, minimal_actions
    from pipelines.episodes.trajectories import FILE_NAME, Trajectories, TrajectoryWriter
    from pipelines.sources import frame_extraction
    from pipelines.sources.frame_extraction import FRAME
    from pipelines.sources.source import compare, copy_small_arrays, edge_slots, plan_extraction, write_ends

    total, edges = int(drawn["length"].sum()), edge_slots(drawn)
    pieces = {record.agent: place_pieces(record.pieces, drawn[drawn["agent"] == record.agent]) for record in records}
    plans = [plan for r in records for plan in plan_extraction(r, pieces[r.agent], edges)]
    workers = config.workers or min(os.cpu_count() or 1, *(record.source.at_once for record in records))
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
