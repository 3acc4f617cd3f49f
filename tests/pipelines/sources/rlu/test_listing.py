"""Shards by name: listed, asked for where a bucket may not be listed, and one line for whatever lies there instead."""

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipelines.bucket.bucket import Bucket
from pipelines.bucket.retry import Absent, Refused
from pipelines.environments import registry
from pipelines.errors import UsageError, WorldlineError
from pipelines.sources.rlu.listing import GAMES, agents_among, file_name, list_objects, parse_name, shard_of, shards_of


def put(root: Path, *names: str) -> Bucket:
    for name in names:
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(b"x")
    return Bucket.of(f"file://{root}")


@given(st.integers(1, 99), st.integers(0, 199), st.integers(1, 200))
def test_names_are_read_back(agent: int, shard: int, shards: int) -> None:
    name = file_name(agent, shard, shards)
    assert parse_name(name) == ((agent, shard, shards) if shard < shards else None)


@pytest.mark.parametrize(
    "name", ["run_0-00000-of-00050", "run_1-0-of-50", "run_1-00000-of-00050.gz", "xrun_1-00000-of-00050"]
)
def test_other_names_are_no_shards(name: str) -> None:
    assert parse_name(name) is None


def test_the_46_games_are_ones_that_can_be_played() -> None:
    assert len(set(GAMES)) == 46 and set(GAMES) < set(registry.GAMES) and "Berzerk" not in GAMES


def test_shards_of_one_agent_come_in_their_order(tmp_path: Path) -> None:
    names = [f"Pong/{file_name(agent, shard, 12)}" for agent in (1, 2) for shard in (11, 0, 3)]
    bucket = put(tmp_path, *names, "Pong/README", "Pong/run_1.txt")
    found = list_objects(bucket, "Pong", 2)
    assert [shard_of(item) for item in found] == [0, 3, 11] and {shards_of(item) for item in found} == {12}
    assert agents_among(bucket.contents("Pong")) == [1, 2]


def test_what_is_not_there_is_one_line(tmp_path: Path) -> None:
    bucket = put(tmp_path, f"Pong/{file_name(2, 0, 50)}", "Qbert/README")
    with pytest.raises(WorldlineError, match=r"holds no run_1-00000-of-00050 or the like: it has runs 2; check"):
        list_objects(bucket, "Pong", 1)
    with pytest.raises(WorldlineError, match="it holds no shard at all"):
        list_objects(bucket, "Qbert", 1)
    with pytest.raises(WorldlineError, match=r"Breakout does not exist: .*worldline import"):
        list_objects(bucket, "Breakout", 1)
    with pytest.raises(UsageError, match=r"RL Unplugged has no Berzerk, it has Alien, .*, Zaxxon: .*worldline collect"):
        list_objects(bucket, "Berzerk", 1)
    put(tmp_path, f"Pong/{file_name(2, 1, 49)}")
    with pytest.raises(WorldlineError, match="in sets of 49 and 50: they are of two copies"):
        list_objects(bucket, "Pong", 2)


class Closed:
    """A remote bucket that may not be listed, and refuses names that it does not have."""

    root, is_local = "gs://closed/atari", False
    ask = Bucket.ask

    def __init__(self, inner: Bucket) -> None:
        self.inner, self.asked = inner, []

    def list(self, folder: str) -> list:
        raise Refused(f"{self.root}/{folder} cannot be read (403): its owner has to allow it")

    def stat(self, name: str):
        self.asked.append(name)
        try:
            return self.inner.stat(name)
        except Absent as error:
            raise Refused(f"{name}: 403") from error


def test_where_listing_is_refused_shards_are_asked_for_by_name(tmp_path: Path) -> None:
    inner = put(tmp_path, *(f"Gravitar/{file_name(1, shard, 49)}" for shard in range(49) if shard != 7))
    closed = Closed(inner)
    found = list_objects(closed, "Gravitar", 1)  # type: ignore[arg-type]
    assert found == list_objects(inner, "Gravitar", 1) and len(found) == 48
    assert len(closed.asked) == 2 + 2 + 49
    with pytest.raises(WorldlineError, match="no shard there can be had by its name either: read another source"):
        list_objects(Closed(inner), "Pong", 1)  # type: ignore[arg-type]
    with pytest.raises(UsageError, match="RL Unplugged has no Berzerk"):
        list_objects(Closed(inner), "Berzerk", 1)  # type: ignore[arg-type]
