"""Stage `replay`: read one agent's logs from a bucket, check them, and stitch them into an episode table.

Everything but the frames is read. Of the observation files only headers are read, and whole files for their checksums
where the bucket publishes none.
Run: `worldline fetch --games Freeway --agents 1`.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, ClassVar, Literal, Self

from pipelines.bucket.bucket import Bucket
from pipelines.bucket.bucket_object import Mirror
from pipelines.errors import UsageError, WorldlineError
from pipelines.progress import say, track
from pipelines.sources.dqn_replay.listing import (
    AGENTS,
    ALL_KINDS,
    KINDS,
    RemoteObject,
    digest,
    list_objects,
    mirror_small_arrays,
)
from pipelines.store.artefact import Artefact, Draft, Report
from pipelines.store.ref import Ref
from pipelines.store.stage_config import Beside, StageConfig, filled, manner, option, parent
from pipelines.store.store import Store

if TYPE_CHECKING:
    from pipelines.sources.dqn_replay.stitch import Stitched


@dataclass(frozen=True)
class FetchConfig(StageConfig):
    """Read one agent's logs from a bucket: `collected` (our own), or `url` with the digest of its object listing.

    `keep_padding` keeps the blank rows as the head of each episode. `compat="jowa"` reads each file alone, as the
    original's scripts do, with their duplicates and wrong joins; it needs none of the side files. `mirror` says which
    objects of a remote bucket are copied to this machine: "small" (all but the frames), "all" or "none". A recipe's
    template has no game yet.
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
    compat: Literal["", "jowa"] = option("")
    mirror: Literal["all", "small", "none"] = manner("small")

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.game and (self.collected is None) == (not self.url):
            raise UsageError(f"Replay of {self.game} needs one source: a collected artefact or a bucket URL, not both")
        if self.compat and self.keep_padding:
            raise UsageError(f"compat={self.compat} keeps the padding anyway: leave keep_padding out")

    @property
    def subject(self) -> str:
        return f"{self.game}/{self.agent}"

    def check_frozen(self, beside: Beside) -> None:
        """Dagster knows the agents of DQN-Replay by number."""
        if self.agent not in AGENTS:
            raise UsageError(
                f"Recipe '{beside.name}' reads agent {self.agent}: DQN-Replay has agents 1 to {AGENTS[-1]}, and so "
                f"have experiments; 'worldline fetch --agents {self.agent}' reads it without one"
            )

    @property
    def needed(self) -> tuple[str, ...]:
        """The kinds of files that every log must have."""
        return KINDS if self.compat else ALL_KINDS

    def fill(self, values: dict[str, Any], beside: Beside) -> Self:
        """The config of one game and agent. Where nothing was collected here, the bucket is filled in."""
        if "collected" not in values:
            url, listing = beside.listed(values["game"], values["agent"], self.needed)
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
    """Copy the observation files of a replay from their bucket into the mirror. A local bucket needs no copy.

    The copy can be resumed. Raises ObjectReplaced when the bucket holds another version than the replay was fetched
    from, WorldlineError as `ReplayRecord.open`.
    """
    from pipelines.sources.dqn_replay.record import ReplayRecord

    ReplayRecord.open(replay, store).mirror_frames()


def _build(config: FetchConfig, draft: Draft, store: Store) -> None:
    from pipelines.plots import replay as replay_plot
    from pipelines.sources.dqn_replay.log_order import Continuity, LogFacts, to_table
    from pipelines.sources.dqn_replay.record import write_record
    from pipelines.sources.dqn_replay.ring_log import REPAIR, read_logs
    from pipelines.sources.dqn_replay.stitch import read_episodes

    bucket, objects = _list(config, draft, store)
    checked: list[RemoteObject] = []
    title = f"Read replay {config.game}/{config.agent}"
    mirror_small_arrays(bucket, objects)
    with track(title, total=len(objects), unit="files") as advance:
        logs, left_out = read_logs(_with_checksums(objects, bucket, checked), bucket, advance)
    for line in left_out.values():
        say(f"{title}: left out, as its files disagree in rows: {line}")
    if not logs:
        raise WorldlineError(f"{title}: no log whose files agree in rows, as {left_out.popitem()[1]}: {REPAIR}")
    found = read_episodes(logs, config.game, config.agent, config.compat, config.keep_padding)
    absent = [LogFacts(checkpoint, Continuity.LEFT_OUT) for checkpoint in left_out]
    facts = sorted([*found.facts, *absent], key=lambda each: each.checkpoint)
    found = replace(found, facts=tuple(facts))
    write_record(draft.path, checked, logs, found)
    replay_plot.draw_logs(to_table(found.facts), found.episodes, draft.path(PICTURE))
    _record(config, draft, checked, found, list(left_out.values()))
    if not config.collected:
        draft.roots += [
            {"url": item.url, "bytes": item.bytes, "crc32c": item.crc32c, "version": item.version} for item in checked
        ]


def _list(config: FetchConfig, draft: Draft, store: Store) -> tuple[Bucket, list[RemoteObject]]:
    """The bucket and its objects of this agent, compared with the digest of the listing that was asked for."""
    from pipelines.sources.dqn_replay.record import local_url

    collected = draft.parents[config.collected].folder if config.collected else None
    root = local_url(collected) if collected else config.url
    bucket = Bucket.of(root, store.profile, None if config.mirror == "none" else Mirror.of(root, store))
    objects = list_objects(bucket, config.game, config.agent, config.needed)
    if collected:
        return bucket, [replace(item, version=None) for item in objects]  # file times say nothing about the content
    if (found := digest(objects)) != config.listing:
        raise WorldlineError(
            f"{root} lists {config.game}/{config.agent} with digest {found[:16]}, the request says "
            f"'{config.listing[:16]}': the bucket changed or was never listed; list it again and fetch that"
        )
    return bucket, objects


def _with_checksums(
    objects: Sequence[RemoteObject], bucket: Bucket, checked: list[RemoteObject]
) -> Iterator[tuple[int, dict[str, RemoteObject]]]:
    """Checkpoint after checkpoint, its objects by kind, each with a crc32c where nothing else pins it.

    They are added to `checked` when their log was read.
    """
    from pipelines.sources.dqn_replay.log_reader import crc32c_of_object
    from pipelines.sources.dqn_replay.record import group_by_checkpoint

    for checkpoint, kinds in group_by_checkpoint(objects).items():
        group = {
            kind: item if bucket.is_verifiable(item) else replace(item, crc32c=crc32c_of_object(item, bucket))
            for kind, item in kinds.items()
        }
        yield checkpoint, group
        checked += group.values()


def _record(
    config: FetchConfig, draft: Draft, objects: list[RemoteObject], found: "Stitched", left_out: Sequence[str]
) -> None:
    """Counts, metrics and checks of the manifest."""
    from pipelines.sources.dqn_replay.log_checks import check_logs

    episodes = found.episodes
    complete = episodes[episodes["complete"]]
    draft.counts |= {
        "files": len(objects),
        "rows": sum(each.rows for each in found.facts),
        "episodes": len(episodes),
        "complete_episodes": len(complete),
        "transitions": int(episodes["length"].sum()),
    }
    means = complete.groupby("checkpoint")["return"].mean()  # by the checkpoint in which an episode ends
    draft.metrics["source_bytes"] = sum(item.bytes for item in objects)
    draft.metrics["mean_clipped_return"] = {
        str(checkpoint): round(float(mean), 4) for checkpoint, mean in means.items()
    }
    for each in check_logs(found, left_out, config.game, lenient=config.keep_padding or bool(config.compat)):
        picture = PICTURE if each.pictured else ""
        draft.check(each.name, each.passed, each.detail, each.blocking, each.counts, picture)
