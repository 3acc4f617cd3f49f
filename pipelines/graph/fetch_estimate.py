"""What a recipe's draw would read from its bucket, before a single byte of a frame moves: `worldline fetch --plan`.

Lists the objects, reads the small arrays, stitches them and draws, exactly as `fetch` and `downsample` will; commits
nothing. The small arrays stay in the mirror (if there is one), so that the fetch that follows does not ask for them
again. A replay that was fetched before is not read at all.
"""

from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any

import pandas as pd

from pipelines.bucket.bucket import Bucket
from pipelines.bucket.bucket_object import Mirror
from pipelines.errors import WorldlineError
from pipelines.graph.plan import Plan, Step
from pipelines.sources.dqn_replay.listing import RemoteObject, list_objects, mirror_small_arrays
from pipelines.sources.dqn_replay.record import ReplayRecord, group_by_checkpoint, local_url
from pipelines.sources.dqn_replay.ring_log import RingLog, read_log
from pipelines.sources.dqn_replay.stitch import read_episodes
from pipelines.stages.downsample import DownsampleConfig, draw, eligible, place_pieces
from pipelines.stages.fetch import FetchConfig
from pipelines.store.store import Store


@dataclass(frozen=True)
class Share:
    """What the draw takes from one agent's replay. `objects` observation files of `bytes`, `mirrored` of them here."""

    game: str
    agent: int
    objects: int
    bytes: int
    mirrored: int  # bytes
    episodes: int
    transitions: int
    of_transitions: int  # in whole episodes


@dataclass(frozen=True)
class Prospect:
    """All shares, and the bytes per second that the small reads came with (None: nothing is to be downloaded)."""

    shares: tuple[Share, ...]
    rate: float | None

    def seconds(self, shares: Sequence[Share]) -> float | None:
        """How long the rest of these would take at that rate; None when it is not known."""
        missing = sum(share.bytes - share.mirrored for share in shares)
        return 0.0 if not missing else missing / self.rate if self.rate else None

    def to_plain(self) -> dict[str, Any]:
        """For JSON: every share, the sums, rate in bytes per second and seconds."""
        names = ("objects", "bytes", "mirrored", "episodes", "transitions", "of_transitions")
        rows = [asdict(share) | {"seconds": self.seconds([share])} for share in self.shares]
        total = {name: sum(getattr(share, name) for share in self.shares) for name in names}
        return {"shares": rows, "total": total | {"seconds": self.seconds(self.shares)}, "rate": self.rate}


@dataclass(frozen=True)
class _Replay:
    """One agent's bucket, objects, episodes and pieces, fetched or about to be."""

    agent: int
    bucket: Bucket
    objects: tuple[RemoteObject, ...]
    episodes: pd.DataFrame
    pieces: pd.DataFrame


def prospect(plan: Plan, store: Store) -> Prospect:
    """Foresee `downsample` for every game of the plan. Raises WorldlineError as `fetch` and `downsample` would."""
    shares: list[Share] = []
    replays: list[_Replay] = []
    for game in plan.recipe.games:
        config = replace(plan.recipe.of(DownsampleConfig), game=game)
        replays = [_replay(plan, game, agent, store) for agent in plan.recipe.agents]
        candidates = eligible(pd.concat([each.episodes for each in replays], ignore_index=True), config)
        drawn = draw(candidates, config)
        shares += [_share(game, each, drawn[drawn["agent"] == each.agent]) for each in replays]
    missing = any(share.mirrored < share.bytes for share in shares)
    return Prospect(tuple(shares), _rate(replays[-1]) if missing else None)


def _rate(replay: _Replay) -> float | None:
    """How fast the bucket gave the small arrays; when they were here already, the largest is read from it once more."""
    if replay.bucket.rate() is None and not replay.bucket.is_local:
        small = [item for item in replay.objects if item.log.kind != "observation"]
        probe = max(small, key=lambda item: item.bytes)
        replay.bucket.read_range(probe, 0, probe.bytes)
    return replay.bucket.rate()


def _share(game: str, replay: _Replay, drawn: pd.DataFrame) -> Share:
    files = set(place_pieces(replay.pieces, drawn)["file"].tolist())
    frames = [item for item in replay.objects if item.log.kind == "observation" and item.log.checkpoint in files]
    mirror, whole = replay.bucket.mirror, replay.episodes[replay.episodes["complete"]]
    return Share(
        game,
        replay.agent,
        len(frames),
        sum(item.bytes for item in frames),
        sum(item.bytes for item in frames if mirror is not None and mirror.find(item) is not None),
        len(drawn),
        int(drawn["length"].sum()),
        int(whole["length"].sum()),
    )


def _replay(plan: Plan, game: str, agent: int, store: Store) -> _Replay:
    config = plan.config(Step(FetchConfig.STAGE, game, agent))
    assert isinstance(config, FetchConfig)
    if (made := store.find(config.spec().ref)) is not None:
        record = ReplayRecord.open(made, store)
        return _Replay(agent, record.bucket, record.objects, record.episodes, record.pieces)
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
    objects = list_objects(bucket, game, agent, config.needed)
    mirror_small_arrays(bucket, objects)
    logs = [_log(checkpoint, kinds, bucket) for checkpoint, kinds in group_by_checkpoint(objects).items()]
    whole = [log for log in logs if isinstance(log, RingLog)]
    title = f"{root} {game}/{agent}"
    if not whole:
        raise WorldlineError(f"{title}: no log whose files agree in rows: fetch it again from its source")
    found = read_episodes(whole, config.game, config.agent, config.compat, config.keep_padding)
    return _Replay(agent, bucket, tuple(objects), found.episodes, found.pieces)


def _log(checkpoint: int, kinds: dict[str, RemoteObject], bucket: Bucket) -> RingLog | str:
    """One log without a look at its frames."""
    return read_log(checkpoint, {kind: item for kind, item in kinds.items() if kind != "observation"}, bucket)
