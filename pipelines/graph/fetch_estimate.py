"""What a recipe's draw would read from its bucket, before a single byte of a frame moves: `worldline fetch --plan`.

Lists the objects, reads the small arrays, stitches them and draws, exactly as `fetch` and `downsample` will; commits
nothing. The small arrays stay in the mirror (if there is one), so that the fetch that follows does not ask for them
again. A replay that was fetched before is not read at all. Where a source has no small objects, only `fetch` can tell
the episodes: the plan counts all objects then, which `fetch` reads whole.
"""

from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any

import pandas as pd

from pipelines.bucket.bucket import Bucket
from pipelines.bucket.bucket_object import BucketObject, Mirror
from pipelines.errors import WorldlineError
from pipelines.graph.plan import Plan, Step
from pipelines.sources.source import ReplayRecord, Source, local_url, source_of
from pipelines.stages.downsample import DownsampleConfig, draw, eligible, place_pieces
from pipelines.stages.fetch import FetchConfig
from pipelines.store.store import Store


@dataclass(frozen=True)
class Share:
    """What the draw takes from one agent's replay: `objects` with frames of `bytes`, `mirrored` of them here.

    Where episodes are not known before `fetch` they are None, and the objects are all that the agent has.
    """

    game: str
    agent: int
    objects: int
    bytes: int
    mirrored: int  # bytes
    episodes: int | None
    transitions: int | None
    of_transitions: int | None  # in whole episodes


@dataclass(frozen=True)
class Prospect:
    """All shares, and the bytes per second that the small reads came with (None: nothing is to be downloaded).

    probed: bytes that were read of an object with frames, for the rate.
    """

    shares: tuple[Share, ...]
    rate: float | None
    probed: int = 0

    def seconds(self, shares: Sequence[Share]) -> float | None:
        """How long the rest of these would take at that rate; None when it is not known."""
        missing = sum(share.bytes - share.mirrored for share in shares)
        return 0.0 if not missing else missing / self.rate if self.rate else None

    def to_plain(self) -> dict[str, Any]:
        """For JSON: every share, the sums, rate in bytes per second and seconds."""
        names = ("objects", "bytes", "mirrored", "episodes", "transitions", "of_transitions")
        rows = [asdict(share) | {"seconds": self.seconds([share])} for share in self.shares]
        total = {name: total_of(self.shares, name) for name in names}
        return {"shares": rows, "total": total | {"seconds": self.seconds(self.shares)}, "rate": self.rate}


def total_of(shares: Sequence[Share], name: str) -> int | None:
    """The sum of one number over shares; None where one of them does not know it."""
    values = [getattr(share, name) for share in shares]
    return None if None in values else sum(values)


@dataclass(frozen=True)
class _Replay:
    """One agent's bucket, objects, and tables of episodes and pieces where they are known before `fetch`."""

    agent: int
    source: Source
    bucket: Bucket
    objects: Sequence[BucketObject]
    tables: tuple[pd.DataFrame, pd.DataFrame] | None


def prospect(plan: Plan, store: Store) -> Prospect:
    """Foresee `downsample` for every game of the plan. Raises WorldlineError as `fetch` and `downsample` would."""
    shares: list[Share] = []
    replays: list[_Replay] = []
    for game in plan.recipe.games:
        config = replace(plan.recipe.of(DownsampleConfig), game=game)
        replays = [_replay(plan, game, agent, store) for agent in plan.recipe.agents]
        tables = [each.tables[0] for each in replays if each.tables is not None]
        if len(tables) < len(replays):
            shares += [_share(game, each, None) for each in replays]
            continue
        drawn = draw(eligible(pd.concat(tables, ignore_index=True), config), config)
        shares += [_share(game, each, drawn[drawn["agent"] == each.agent]) for each in replays]
    missing = any(share.mirrored < share.bytes for share in shares)
    return Prospect(tuple(shares), *_rate(replays[-1])) if missing else Prospect(tuple(shares), None)


PROBE = 4 << 20  # bytes


def _rate(replay: _Replay) -> tuple[float | None, int]:
    """How fast the bucket gave the small arrays; when they were here already, the largest is read from it once more.

    Where the source has no small objects, the beginning of one with frames; how much of it is the second number.
    """
    probed = 0
    if replay.bucket.rate() is None and not replay.bucket.is_local:
        frames = {item.name for item in replay.source.with_frames(replay.objects).values()}
        small = [item for item in replay.objects if item.name not in frames]
        probe = max(small or replay.objects, key=lambda item: item.bytes)
        read = len(replay.bucket.read_range(probe, 0, probe.bytes if small else PROBE))
        probed = 0 if small else read
    return replay.bucket.rate(), probed


def _share(game: str, replay: _Replay, drawn: pd.DataFrame | None) -> Share:
    frames = replay.source.with_frames(replay.objects)
    episodes = transitions = of_transitions = None
    if drawn is not None and replay.tables is not None:
        table, pieces = replay.tables
        files = set(place_pieces(pieces, drawn)["file"].tolist())
        frames = {file: item for file, item in frames.items() if file in files}
        episodes, transitions = len(drawn), int(drawn["length"].sum())
        of_transitions = int(table[table["complete"]]["length"].sum())
    mirror, items = replay.bucket.mirror, [*frames.values()]
    here = sum(item.bytes for item in items if mirror is not None and mirror.find(item) is not None)
    room = sum(item.bytes for item in items)
    return Share(game, replay.agent, len(items), room, here, episodes, transitions, of_transitions)


def _replay(plan: Plan, game: str, agent: int, store: Store) -> _Replay:
    config = plan.config(Step(FetchConfig.STAGE, game, agent))
    assert isinstance(config, FetchConfig)
    if (made := store.find(config.spec().ref)) is not None:
        record = ReplayRecord.open(made, store)
        return _Replay(agent, record.source, record.bucket, record.objects, (record.episodes, record.pieces))
    if config.collected is not None:
        if (collected := store.find(config.collected)) is None:
            raise WorldlineError(
                f"{game} was not collected yet, so there is no replay to plan for: run 'worldline collect --games "
                f"{game}' first, or plan for a bucket with --storage gcs"
            )
        root = local_url(collected.folder)
    else:
        root = config.url
    bucket = Bucket.of(root, store.profile, None if config.mirror == "none" else Mirror.of(root, store))
    source = source_of(config.layout)
    objects = source.list_objects(bucket, config.run)
    return _Replay(agent, source, bucket, objects, source.foresee(config.run, bucket, objects))
