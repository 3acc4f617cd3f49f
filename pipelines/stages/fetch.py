"""Stage `replay`: read one agent's logs from a bucket, check them, and stitch them into an episode table.

Reads everything but the frames, of which only headers are read (and checksums, where the bucket publishes none).
Run: `worldline fetch --games Freeway --agents 1`.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any, ClassVar, Self

import pandas as pd

from pipelines.bucket.bucket import Bucket
from pipelines.bucket.download import download
from pipelines.bucket.mirror import Mirror
from pipelines.errors import UsageError, WorldlineError
from pipelines.plots import replay as replay_plot
from pipelines.progress import say, track
from pipelines.sources.dqn_replay.listing import RemoteObject, digest, list_objects
from pipelines.sources.dqn_replay.log_checks import verdicts
from pipelines.sources.dqn_replay.log_facts import Evidence, table
from pipelines.sources.dqn_replay.log_order import Border
from pipelines.sources.dqn_replay.log_reader import crc32c_of_object
from pipelines.sources.dqn_replay.readings import read
from pipelines.sources.dqn_replay.record import ReplayRecord, group_by_checkpoint, local_url, write_record
from pipelines.sources.dqn_replay.ring_log import REPAIR, RingLog, read_log
from pipelines.sources.dqn_replay.stitch import Stitched
from pipelines.store.artefact import Artefact, Draft, Report
from pipelines.store.ref import Ref
from pipelines.store.stage_config import Beside, StageConfig, filled, manner, option, parent
from pipelines.store.store import Store


@dataclass(frozen=True)
class FetchConfig(StageConfig):
    """Read one agent's logs from a bucket: `collected` (our own) or `url` with the digest of its object listing.

    `keep_padding` keeps the blank rows as the head of each episode. `compat="jowa"` reads each file alone, as the
    original's scripts do, with their duplicates and wrong joins. `mirror` says which objects of a remote bucket are
    copied to this machine: "small" (all but the frames), "all" or "none". A recipe's template has no game yet.
    """

    STAGE: ClassVar[str] = "replay"
    VERB: ClassVar[str] = "fetch"
    DATA: ClassVar[bool] = True
    CODE: ClassVar[str] = "2"
    CHECKS: ClassVar[tuple[str, ...]] = (
        "lengths_agree",
        "rewards_clipped",
        "actions_minimal",
        "terminals_binary",
        "add_count",
        "blank_rows",
        "episode_length",
        "no_gap",
        "invalid_range",
        "any_complete_episode",
    )

    game: str = filled("game", "")
    agent: int = filled("agent", 0)
    collected: Ref | None = parent("collected_replay")
    url: str = filled("source", "")
    listing: str = filled("source", "")
    keep_padding: bool = option(False)
    compat: str = option("")
    mirror: str = manner("small")

    def __post_init__(self) -> None:
        if self.game and (self.collected is None) == (not self.url):
            raise UsageError(f"Replay of {self.game} needs one source: a collected artefact or a bucket URL, not both")
        if self.compat not in ("", "jowa"):
            raise UsageError(f"Replay cannot be read as '{self.compat}' does: leave compat empty, or choose jowa")
        if self.compat and self.keep_padding:
            raise UsageError(f"compat={self.compat} keeps the padding anyway: leave keep_padding out")
        if self.mirror not in ("all", "small", "none"):
            raise UsageError(f"Mirror '{self.mirror}' is unknown: choose all, small (all but the frames) or none")

    @property
    def subject(self) -> str:
        return f"{self.game}/{self.agent}"

    def fill(self, values: dict[str, Any], beside: Beside) -> Self:
        """With the bucket, where nothing was collected here."""
        if "collected" not in values:
            url, listing = beside.listed(values["game"], values["agent"])
            values = values | {"url": url, "listing": listing}
        return super().fill(values, beside)


PICTURE = "replay.png"


def run(config: FetchConfig, store: Store) -> Report:
    """Make the replay artefact of one game and agent, or find it.

    Raises WorldlineError for a damaged, missing or contradictory file, and for a bucket that changed since its listing.
    """
    report = store.produce(config.spec(), lambda draft: _build(config, draft, store))
    if config.mirror == "all":
        mirror_frames(report.artefact, store)
    return report


def mirror_frames(replay: Artefact, store: Store) -> None:
    """Copy the observation files of a replay from their bucket into the mirror; nothing to do for a local bucket.

    Resumable. Raises ObjectReplaced when the bucket holds another version than the replay was fetched from.
    """
    record = ReplayRecord.open(replay, store)
    frames = [item for item in record.objects if item.log.kind == "observation"]
    if record.bucket.mirror is not None:
        download(record.bucket, frames, f"Mirror frames {record.game}/{record.agent}", pinned=True)


def _build(config: FetchConfig, draft: Draft, store: Store) -> None:
    collected = draft.parents[config.collected].folder if config.collected else None
    root = local_url(collected) if collected else config.url
    bucket = Bucket.of(root, store.profile, None if config.mirror == "none" else Mirror.of(root, store))
    objects = list_objects(bucket, config.game, config.agent)
    if collected:
        objects = [replace(item, version=None) for item in objects]  # file times say nothing about the content
    elif (found := digest(objects)) != config.listing:
        raise WorldlineError(
            f"{root} lists {config.game}/{config.agent} with digest {found[:16]}, the request says "
            f"'{config.listing[:16]}': the bucket changed or was never listed; list it again and fetch that"
        )
    logs: list[RingLog] = []
    left_out: dict[int, str] = {}
    checked: list[RemoteObject] = []
    title = f"Read replay {config.game}/{config.agent}"
    mirror_small(bucket, objects)
    with track(title, total=len(objects), unit="files") as advance:
        for checkpoint, kinds in group_by_checkpoint(objects).items():
            group = {k: item if bucket.has_proof(item) else _with_crc32c(item, bucket) for k, item in kinds.items()}
            log = read_log(checkpoint, group, bucket)
            if isinstance(log, RingLog):
                logs.append(log)
            else:
                left_out[checkpoint] = log
                say(f"{title}: left out, as its files disagree in rows: {log}")
            checked += group.values()
            advance(len(group))
    if not logs:
        raise WorldlineError(f"{title}: no log whose files agree in rows, as {left_out.popitem()[1]}: {REPAIR}")
    stitched = read(logs, config.game, config.agent, config.compat, config.keep_padding)
    stitched = replace(stitched, evidence=_with_left_out(stitched.evidence, left_out))
    write_record(draft.path, checked, logs, stitched)
    replay_plot.draw(table(stitched.evidence), stitched.episodes, draft.path(PICTURE))
    _record(config, draft, checked, stitched, list(left_out.values()))
    if not collected:
        draft.roots += [
            {"url": item.url, "bytes": item.bytes, "crc32c": item.crc32c, "version": item.version} for item in checked
        ]


def mirror_small(bucket: Bucket, objects: Sequence[RemoteObject]) -> None:
    """Copy all but the observation files into the bucket's mirror, if it has one: several at a time, and kept."""
    small = [item for item in objects if item.log.kind != "observation"]
    if bucket.mirror is not None and small:
        download(bucket, small, f"Mirror small arrays {small[0].name.rpartition('/')[0]}", pinned=True)


def _with_crc32c(item: RemoteObject, bucket: Bucket) -> RemoteObject:
    return replace(item, crc32c=crc32c_of_object(item, bucket))


def _with_left_out(seen: Sequence[Evidence], left_out: dict[int, str]) -> tuple[Evidence, ...]:
    absent = [Evidence(checkpoint, Border.LEFT_OUT) for checkpoint in left_out]
    return tuple(sorted([*seen, *absent], key=lambda each: each.checkpoint))


def _record(
    config: FetchConfig, draft: Draft, objects: list[RemoteObject], found: Stitched, left_out: Sequence[str]
) -> None:
    """Counts, metrics and checks of the manifest."""
    episodes = found.episodes
    complete = episodes[episodes["complete"]]
    draft.counts |= {
        "files": len(objects),
        "rows": sum(each.rows for each in found.evidence),
        "episodes": len(episodes),
        "complete_episodes": len(complete),
        "transitions": int(episodes["length"].sum()),
    }
    draft.metrics["source_bytes"] = sum(item.bytes for item in objects)
    draft.metrics["mean_clipped_return"] = _means(complete)
    for each in verdicts(found, left_out, config.game, lenient=config.keep_padding or bool(config.compat)):
        picture = PICTURE if each.pictured else ""
        draft.check(each.name, each.passed, each.detail, each.blocking, each.counts, picture)


def _means(complete: pd.DataFrame) -> dict[str, float]:
    """Mean clipped return of the complete episodes that end in each checkpoint."""
    means = complete.groupby("checkpoint")["return"].mean()
    return {str(checkpoint): round(float(value), 4) for checkpoint, value in means.items()}
