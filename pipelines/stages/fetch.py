"""Stage `replay`: read one agent's run from a bucket, check it, and make a table of its episodes.

How its files are listed and read is the matter of their source (pipelines/sources/), which the layout names.
Run: `worldline fetch --games Freeway --agents 1`.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, ClassVar, Literal, Self

from pipelines.bucket.bucket import Bucket
from pipelines.bucket.bucket_object import Mirror
from pipelines.errors import UsageError, WorldlineError
from pipelines.sources.dqn_replay.listing import AGENTS, RUN_LOGS, RUN_ROWS
from pipelines.store.artefact import Artefact, Draft, Report
from pipelines.store.ref import Ref
from pipelines.store.stage_config import Beside, StageConfig, Work, filled, manner, option, parent
from pipelines.store.store import Store

if TYPE_CHECKING:
    from pipelines.bucket.bucket_object import BucketObject
    from pipelines.sources.source import Reading, Run


@dataclass(frozen=True)
class FetchConfig(StageConfig):
    """Read one agent's run from a bucket: `collected` (our own), or `url` with the digest of its object listing.

    `keep_padding` keeps the blank rows as the head of each episode. `compat="jowa"` reads each file alone, as the
    original's scripts do, with their duplicates and wrong joins; it needs none of the side files. `mirror` says which
    objects of a remote bucket are copied to this machine: "small" (all but the frames), "all" or "none". `layout` is
    the bucket's, from the storage profile. A recipe's template has no game yet.
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
        "sums_agree",
        "alignment",
    )
    OF_SOME: ClassVar[tuple[str, ...]] = (
        "lengths_agree",
        "rewards_clipped",
        "actions_minimal",
        "terminals_binary",
        "add_count",
        "blank_rows",
        "invalid_range",
        "sums_agree",
        "alignment",
    )

    game: str = filled("game", "")
    agent: int = filled("agent", 0)
    collected: Ref | None = parent("collected_replay")
    url: str = filled("source", "")
    listing: str = filled("source", "")
    layout: str = filled("source", "dqn_replay", added=True)
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

    def work(self, beside: Beside) -> Work:
        """The rows of one agent's logs; those of a whole run where a bucket is read."""
        if beside.source == "bucket":
            return Work("rows", RUN_LOGS * RUN_ROWS)
        return Work("rows", getattr(beside.template("collect"), "steps", 0))

    def check_frozen(self, beside: Beside) -> None:
        """Dagster knows the agents of DQN-Replay by number."""
        if self.agent not in AGENTS:
            raise UsageError(
                f"Recipe '{beside.name}' reads agent {self.agent}: DQN-Replay has agents 1 to {AGENTS[-1]}, and so "
                f"have experiments; 'worldline fetch --agents {self.agent}' reads it without one"
            )

    @property
    def run(self) -> "Run":
        """What its source is asked for."""
        from pipelines.sources.source import Run

        return Run(self.game, self.agent, self.compat, self.keep_padding, self.mirror)

    def fill(self, values: dict[str, Any], beside: Beside) -> Self:
        """The config of one game and agent. Where nothing was collected here, the bucket is filled in."""
        if "collected" not in values:
            if beside.source == "collected":
                raise UsageError(
                    f"Recipe '{beside.name}' has source=collected and no stage 'collect' that would play "
                    f"{values['game']}: set source=bucket, or source=imported and import its episodes"
                )
            how = {"compat": self.compat, "keep_padding": self.keep_padding}
            values = values | beside.listed(values["game"], values["agent"], how)
        return super().fill(values, beside)


def run(config: FetchConfig, store: Store) -> Report:
    """Make the replay artefact of one game and agent, or find it.

    Raises WorldlineError for a damaged, missing or contradictory file, and for a bucket that changed since its listing.
    """
    report = store.produce(config.spec(), lambda draft: _build(config, draft, store))
    if config.mirror == "all":
        mirror_frames(report.artefact, store)
    return report


def mirror_frames(replay: Artefact, store: Store) -> None:
    """Copy the objects with frames of a replay from their bucket into the mirror. A local bucket needs no copy.

    The copy can be resumed. Raises ObjectReplaced when the bucket holds another version than the replay was fetched
    from, WorldlineError as `ReplayRecord.open`.
    """
    from pipelines.sources.source import ReplayRecord

    ReplayRecord.open(replay, store).mirror_frames()


def _build(config: FetchConfig, draft: Draft, store: Store) -> None:
    from pipelines.plots import replay as replay_plot
    from pipelines.sources.source import PICTURE, source_of, write_record

    bucket, objects = _list(config, draft, store)
    found = source_of(config.layout).read(config.run, bucket, objects, draft)
    write_record(draft.path, found)
    replay_plot.draw_facts(found.facts, found.episodes, draft.path(PICTURE))
    _record(draft, found)
    if not config.collected:
        draft.roots += [
            {"url": item.url, "bytes": item.bytes, "crc32c": item.crc32c, "version": item.version}
            for item in found.objects
        ]


def _list(config: FetchConfig, draft: Draft, store: Store) -> "tuple[Bucket, Sequence[BucketObject]]":
    """The bucket and its objects of this agent, compared with the digest of the listing that was asked for."""
    from pipelines.sources.source import digest, local_url, source_of

    collected = draft.parents[config.collected].folder if config.collected else None
    root = local_url(collected) if collected else config.url
    bucket = Bucket.of(root, store.profile, None if config.mirror == "none" else Mirror.of(root, store))
    objects = source_of(config.layout).list_objects(bucket, config.run)
    if collected:
        return bucket, [replace(item, version=None) for item in objects]  # file times say nothing about the content
    if (found := digest(objects)) != config.listing:
        raise WorldlineError(
            f"{root} lists {config.game}/{config.agent} with digest {found[:16]}, the request says "
            f"'{config.listing[:16]}': the bucket changed or was never listed; list it again and fetch that"
        )
    return bucket, objects


def _record(draft: Draft, found: "Reading") -> None:
    """Counts, metrics and checks of the manifest."""
    from pipelines.sources.source import PICTURE

    complete = found.episodes[found.episodes["complete"]]
    draft.counts |= {
        "files": len(found.objects),
        "rows": found.rows,
        "episodes": len(found.episodes),
        "complete_episodes": len(complete),
        "transitions": int(found.episodes["length"].sum()),
    }
    means = complete.groupby("checkpoint")["return"].mean()  # by the checkpoint in which an episode ends
    draft.metrics["source_bytes"] = sum(item.bytes for item in found.objects)
    draft.metrics["mean_clipped_return"] = {
        str(checkpoint): round(float(mean), 4) for checkpoint, mean in means.items()
    }
    for each in found.checks:
        picture = PICTURE if each.pictured else ""
        draft.check(each.name, each.passed, each.detail, each.blocking, each.counts, picture)
