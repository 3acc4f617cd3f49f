"""Lists what a bucket in RL Unplugged's layout holds of one agent: `{Game}/run_{agent}-{shard:05d}-of-{shards:05d}`.

A shard holds the episodes of one checkpoint, in order of training; a run has 50, or 49. Works on any fsspec URL; the
bucket's root is the folder that contains the games.
Source: tensorflow/datasets, rl_unplugged (Apache-2.0).
"""

import re
from collections.abc import Iterable
from pathlib import PurePosixPath

from pipelines.bucket.bucket import WHERE, Bucket
from pipelines.bucket.bucket_object import BucketObject
from pipelines.bucket.retry import Absent, Refused
from pipelines.errors import UsageError, WorldlineError
from pipelines.progress import say
from pipelines.sources.dqn_replay.listing import ELSEWHERE

GAMES = (
    *("Alien", "Amidar", "Assault", "Asterix", "Atlantis", "BankHeist", "BattleZone", "BeamRider", "Boxing"),
    *("Breakout", "Carnival", "Centipede", "ChopperCommand", "CrazyClimber", "DemonAttack", "DoubleDunk", "Enduro"),
    *("FishingDerby", "Freeway", "Frostbite", "Gopher", "Gravitar", "Hero", "IceHockey", "Jamesbond", "Kangaroo"),
    *("Krull", "KungFuMaster", "MsPacman", "NameThisGame", "Phoenix", "Pong", "Pooyan", "Qbert", "Riverraid"),
    *("RoadRunner", "Robotank", "Seaquest", "SpaceInvaders", "StarGunner", "TimePilot", "UpNDown", "VideoPinball"),
    *("WizardOfWor", "YarsRevenge", "Zaxxon"),
)

SHARDS = (50, 49)  # of a whole run; 49 are said to be those of Carnival, Gravitar and StarGunner

_NAME = re.compile(r"run_([1-9][0-9]*)-([0-9]{5})-of-([0-9]{5})", re.ASCII)


def file_name(agent: int, shard: int, shards: int) -> str:
    """Name of one shard in its game's folder."""
    return f"run_{agent}-{shard:05d}-of-{shards:05d}"


def parse_name(name: str) -> tuple[int, int, int] | None:
    """Agent, shard and number of shards, of a file name without folders; None for any other file."""
    match = _NAME.fullmatch(name)
    return (int(match[1]), int(match[2]), int(match[3])) if match and match[2] < match[3] else None


def shard_of(item: BucketObject) -> int:
    """The number of a listed shard. Raises ValueError for another object."""
    return _parsed(item)[1]


def shards_of(item: BucketObject) -> int:
    """How many shards the run has, as the name of one of them says. Raises ValueError for another object."""
    return _parsed(item)[2]


def _parsed(item: BucketObject) -> tuple[int, int, int]:
    parsed = parse_name(PurePosixPath(item.name).name)
    if parsed is None:
        raise ValueError(f"{item.name} is no shard")
    return parsed


def list_objects(bucket: Bucket, game: str, agent: int) -> list[BucketObject]:
    """The shards of one agent, ascending. Where listing is refused they are asked for by name.

    Raises UsageError for a game that neither this bucket nor the public one has, WorldlineError where there is no
    shard, or where shards of several sets lie beside each other.
    """
    where = f"{bucket.root}/{game}"
    try:
        listed = bucket.list(game)
    except Absent as error:
        if game not in GAMES:
            raise _no_game(game) from error
        raise WorldlineError(f"{where} does not exist: {WHERE}, or {ELSEWHERE}") from error
    except Refused as error:
        if bucket.is_local:
            raise
        if game not in GAMES:
            raise _no_game(game) from error
        listed = _by_name(bucket, game, agent)
        if not listed:
            raise WorldlineError(f"{error}; no shard there can be had by its name either: {ELSEWHERE}") from error
        say(f"{where} may not be listed: {len(listed)} shards were found by their names")
    parsed = ((item, parse_name(PurePosixPath(item.name).name)) for item in listed)
    found = [item for item, name in parsed if name is not None and name[0] == agent]
    if not found:
        there = agents_among(item.name for item in listed)
        runs = f"it has runs {', '.join(map(str, there))}" if there else "it holds no shard at all"
        raise WorldlineError(f"{where} holds no {file_name(agent, 0, SHARDS[0])} or the like: {runs}; {WHERE}")
    if len(sets := {shards_of(item) for item in found}) > 1:
        raise WorldlineError(
            f"{where} holds shards of run {agent} in sets of {' and '.join(map(str, sorted(sets)))}: they are of two "
            "copies, remove one of them"
        )
    return sorted(found, key=shard_of)


def _no_game(game: str) -> UsageError:
    return UsageError(f"RL Unplugged has no {game}, it has {', '.join(GAMES)}: for another game, {ELSEWHERE}")


def agents_among(names: Iterable[str]) -> list[int]:
    """The agents whose shards are among these names, ascending."""
    parsed = (parse_name(PurePosixPath(name).name) for name in names)
    return sorted({name[0] for name in parsed if name is not None})


def _by_name(bucket: Bucket, game: str, agent: int) -> list[BucketObject]:
    """The shards of a folder that may not be listed: those of 50 are asked for, then those of 49."""
    for shards in SHARDS:
        names = [f"{game}/{file_name(agent, shard, shards)}" for shard in range(shards)]
        if any(bucket.ask(names[:2])):
            return [item for item in bucket.ask(names) if item is not None]
    return []
