"""What `fetch` keeps of RL Unplugged's shards: their rows without frames, tables of episodes, facts and checks.

A shard is read whole and once, and what is kept of it lies in the stage's scratch folder from then on: a killed run
goes on with the others. Shape letters: R rows of a shard, E episodes in it. A row that holds a terminal frame alone is
a row too, so a row's number is its place in the file.

An episode is complete when its first row is known to be its first, and its end is true (discount 0) or the time
limit's (27,000 rows). What was cut otherwise is not whole. Nor is, as far as anyone can know, what follows a piece that
was cut, or a shard that is missing: it may be the rest of it.
"""

import threading
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, fields
from functools import reduce
from operator import add
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pandas as pd
from numpy.typing import NDArray

from pipelines.bucket.bucket import Bucket
from pipelines.bucket.bucket_object import BucketObject
from pipelines.bucket.download import StoppedError, in_threads
from pipelines.bucket.retry import retry_if_damaged
from pipelines.errors import BAD_NPZ, WorldlineError, may_pass, not_now
from pipelines.progress import Advance
from pipelines.sources.inflate import inflated
from pipelines.sources.rlu.episodes import RewardEvidence, iter_episodes
from pipelines.sources.rlu.listing import shard_of
from pipelines.sources.source import EPISODE_COLUMNS, PIECE_COLUMNS, TIME_LIMIT, CheckResult
from pipelines.store.files import sync


@dataclass(frozen=True)
class Shard:
    """One shard without its frames."""

    actions: NDArray[np.uint8]  # (R,)
    rewards: NDArray[np.float32]  # (R,) raw
    clipped: NDArray[np.float32]  # (R,)
    lengths: NDArray[np.int64]  # (E,) rows of each episode
    terminated: NDArray[np.bool_]  # (E,) whether its last discount is 0
    stated: NDArray[np.float64]  # (E,) its return, as the file states it
    numbers: NDArray[np.int64]  # (E,) episode_idx
    checkpoints: NDArray[np.int64]  # (E,) checkpoint_idx
    evidence: NDArray[np.int64]  # the counts of RewardEvidence

    @classmethod
    def read(cls, item: BucketObject, bucket: Bucket, stopped: Callable[[], bool]) -> "Shard":
        """Read a shard from its bucket.

        Raises WorldlineError for a damaged or contradictory one, StoppedError once `stopped()`.
        """
        columns: list[list[Any]] = [[] for _ in range(8)]
        evidence = RewardEvidence()
        with inflated(item, bucket) as stream:
            for each in iter_episodes(stream, item.name.split("/")[0], item.url):
                if stopped():
                    raise StoppedError
                kept = (each.actions_T, each.rewards_T, each.clipped_T)
                facts = (len(each), each.terminated, each.episode_return, each.episode, each.checkpoint)
                for column, value in zip(columns, (*kept, *facts), strict=True):
                    column.append(value)
                evidence += RewardEvidence.of(each)
        kinds = (np.uint8, np.float32, np.float32, np.int64, np.bool_, np.float64, np.int64, np.int64)
        rows = [np.concatenate([[], *column]) for column in columns[:3]]
        arrays: list[Any] = [np.array(values, kind) for values, kind in zip([*rows, *columns[3:]], kinds, strict=True)]
        arrays.append(np.array([*asdict(evidence).values()], np.int64))
        return cls(*arrays)

    @classmethod
    def find(cls, path: Path) -> "Shard | None":
        """What an earlier run kept; None where it kept nothing whole. Raises MayPass where the disk failed."""
        try:
            with np.load(path, allow_pickle=False) as kept:
                return cls(**{entry.name: kept[entry.name] for entry in fields(cls)})
        except (OSError, KeyError, *BAD_NPZ) as error:
            if may_pass(error):
                raise not_now(path, error) from error
            return None

    def keep(self, path: Path) -> None:
        """Write it, last by rename."""
        aside = path.with_name(f".{path.name}")
        np.savez(aside, **{entry.name: getattr(self, entry.name) for entry in fields(self)})
        sync(aside)
        aside.replace(path)
        sync(path.parent)


def read_all(
    items: Sequence[BucketObject], bucket: Bucket, folder: Path, workers: int, advance: Advance
) -> dict[int, Path]:
    """Read every shard into `folder`, `workers` at once; by number, where lies what is kept of it.

    Those that an earlier run finished are not read again. Raises WorldlineError as `Shard.read`; the first failure
    stops all.
    """
    stop, lock = threading.Event(), threading.Lock()

    def one(item: BucketObject) -> tuple[int, Path]:
        path = folder / f"{item.name.replace('/', '@')}.npz"
        held = Shard.find(path) is not None
        if not held:
            retry_if_damaged(lambda: Shard.read(item, bucket, stop.is_set)).keep(path)
        with lock:
            advance(1, held=held)
        return shard_of(item), path

    return dict(in_threads(one, items, workers, stop, "shards"))


@dataclass(frozen=True)
class Found:
    """The tables of all shards, with what they show of where rewards stand. differing: see `check_shards`."""

    episodes: pd.DataFrame
    pieces: pd.DataFrame
    facts: pd.DataFrame
    evidence: RewardEvidence
    differing: int
    shards: int  # that the run has, as their names say


def write_rows(path: Path, kept: dict[int, Path]) -> RewardEvidence:
    """Write the rows of all shards, ascending, and return what they show of where rewards stand."""
    shards = sorted(kept)
    evidence = reduce(add, (RewardEvidence(*_shard(kept[n]).evidence.tolist()) for n in shards), RewardEvidence())
    with h5py.File(path, "w") as file:
        starts = np.concatenate([[0], np.cumsum([len(_shard(kept[number]).actions) for number in shards])])
        file["shards"], file["starts"] = np.array(shards, np.int64), starts.astype(np.int64)
        file.attrs["shifted"] = evidence.shifted
        for name, kind in (("actions", np.uint8), ("rewards", np.float32), ("clipped", np.float32)):
            chunks = (max(1, min(1 << 16, int(starts[-1]))),)
            shape = (int(starts[-1]),)
            data = file.create_dataset(name, shape, kind, chunks=chunks, compression="gzip", compression_opts=4)
            for number, start, stop in zip(shards, starts[:-1], starts[1:], strict=True):
                data[start:stop] = getattr(_shard(kept[number]), name)
    return evidence


def tables(kept: dict[int, Path], agent: int, shards: int, evidence: RewardEvidence) -> Found:
    """Episodes, pieces and facts of all shards."""
    found, facts, differing, whole, before = [], [], 0, True, -1
    for number in sorted(kept):
        shard = _shard(kept[number])
        table = _episodes(shard, number, evidence.shifted)
        ended = (table["terminated"] | table["truncated"]).to_numpy()
        follows = np.concatenate([[whole and number == before + 1], ended])[: len(ended)]
        table["complete"] = ended & follows.astype(bool)
        differing += int((~np.isclose(table["raw_return"], shard.stated, rtol=1e-6, atol=1e-3)).sum())
        whole, before = bool(ended[-1]) if len(ended) else False, number
        found.append(table)
        facts.append(_facts(shard, number, ended, follows, len(shard.actions)))
    episodes = pd.concat(found, ignore_index=True)
    episodes.insert(0, "agent", agent)
    episodes.insert(1, "episode", np.arange(len(episodes)))
    columns = {"episode": episodes["episode"], "file": episodes["first_file"], "start": episodes["first_row"]}
    pieces = pd.DataFrame(columns | {"stop": episodes["last_row"] + 1}).astype("int64")
    ordered = [*EPISODE_COLUMNS, "raw_return"]
    return Found(episodes[ordered], pieces[PIECE_COLUMNS], pd.DataFrame(facts), evidence, differing, shards)


def _shard(path: Path) -> Shard:
    if (found := Shard.find(path)) is None:
        raise WorldlineError(f"{path} reads back differently: check the disk and run the same command again")
    return found


def _episodes(shard: Shard, number: int, shifted: bool) -> pd.DataFrame:
    """The episodes of one shard. Their transitions are those of `episodes.align`."""
    first = np.cumsum(shard.lengths) - shard.lengths
    counts = shard.lengths - (shard.terminated | shifted)
    bounds = np.stack([first, first + counts], axis=1).ravel() + shifted

    def sums(values: NDArray[np.float32]) -> NDArray[np.float64]:
        padded = np.append(values, np.float32(0))  # a bound may be the number of rows
        return np.add.reduceat(padded, bounds, dtype=np.float64)[::2] if len(bounds) else np.zeros(0)

    columns = {
        "length": counts,
        "return": sums(shard.clipped),
        "raw_return": sums(shard.rewards),
        "terminated": shard.terminated,
        "truncated": ~shard.terminated & (shard.lengths >= TIME_LIMIT),
        "first_row": first,
        "last_row": first + counts - 1,
    }
    return pd.DataFrame(columns).assign(checkpoint=number, first_file=number, last_file=number)


def _facts(shard: Shard, number: int, ended: NDArray, follows: NDArray, rows: int) -> dict[str, int]:
    """One row of evidence.parquet."""
    return {
        "checkpoint": number,
        "rows": rows,
        "episodes": len(ended),
        "ended": int(shard.terminated.sum()),
        "timed_out": int((ended & ~shard.terminated).sum()),
        "cut_within": int((~ended[:-1]).sum()),
        "cut_at_the_end": int((~ended[-1:]).sum()),
        "begins_unknown": int((~follows.astype(bool)).sum()),
        "of_another_checkpoint": int((shard.checkpoints != number).sum()),
        "numbers_apart": int((np.diff(shard.numbers) != 1).sum()),
    } | dict(zip((entry.name for entry in fields(RewardEvidence)), shard.evidence.tolist(), strict=True))


# ---- checks ----


def check_shards(found: Found) -> list[CheckResult]:
    """What remains to be judged of rows whose records, lists, actions, clips and sums were compared while reading.

    `sums_agree` compares the raw return of an episode's transitions with the one that its record states: they differ
    where the alignment loses a reward.
    """
    facts, episodes, evidence = found.facts, found.episodes, found.evidence
    apart, other = int(facts["numbers_apart"].sum()), int(facts["of_another_checkpoint"].sum())
    missing, within = found.shards - len(facts), int(facts["cut_within"].sum())
    longest, truncated = int(episodes["length"].max()) if len(episodes) else 0, int(episodes["truncated"].sum())
    complete = int(episodes["complete"].sum())
    return [
        CheckResult(
            "episode_length",
            not within,
            f"longest {longest:,} steps, {truncated:,} ended by the limit of {TIME_LIMIT:,}; cut otherwise: "
            f"{int(facts['cut_at_the_end'].sum()):,} at the end of a shard, {within:,} within one",
            counts={"longest": longest, "truncated": truncated, "cut_within": within},
            pictured=True,
        ),
        CheckResult(
            "no_gap",
            not (missing or apart or other),
            f"{len(facts)} of {found.shards} shards; {apart:,} places where episode_idx does not go on by one, "
            f"{other:,} episodes whose checkpoint_idx is not their shard",
            counts={"shards": len(facts), "missing": missing, "numbers_apart": apart, "of_another_checkpoint": other},
        ),
        CheckResult(
            "any_complete_episode",
            complete > 0,
            f"{complete:,} complete episodes; {int(facts['begins_unknown'].sum()):,} may begin before their first row",
            True,
            {"complete": complete, "incomplete": len(episodes) - complete},
        ),
        CheckResult(
            "sums_agree",
            not found.differing,
            f"raw returns of {found.differing:,} of {len(episodes):,} episodes differ from what their records state",
            counts={"episodes": len(episodes), "differing": found.differing},
        ),
        CheckResult(
            "alignment", evidence.shown and not evidence.contradicted, evidence.detail, counts=asdict(evidence)
        ),
    ]
