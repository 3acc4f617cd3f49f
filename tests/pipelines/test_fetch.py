"""The replay stage on toy buckets: what it records, and that hostile files leave one line and no artefact."""

import gzip
import io
import json

import numpy as np
import pandas as pd
import pytest

from pipelines import fetch
from pipelines.configs.data import FetchConfig
from pipelines.errors import WorldlineError
from pipelines.replay.layout import ALL_KINDS, file_name, log_folder
from pipelines.replay.listing import digest, list_objects
from pipelines.replay.log_reader import read_array
from pipelines.replay.record import ReplayRecord
from pipelines.store.hashing import crc32c_of
from pipelines.store.store import Store
from tests.pipelines.replay.stages import make_replay, nothing_left, put_collected
from tests.pipelines.replay.toy import write_replay

FOLDER = log_folder("Freeway", 1)


@pytest.fixture
def store(tmp_path) -> Store:
    return Store(tmp_path / "store")


@pytest.fixture
def bucket(tmp_path):
    write_replay(tmp_path / "bucket", [13] * 8, capacity=48, unfinished=3)
    return tmp_path / "bucket"


def rewrite(path, change) -> None:
    """Replace an array in place by change(array)."""
    raw = io.BytesIO()
    np.save(raw, change(read_array(f"file://{path}").copy()))
    path.write_bytes(gzip.compress(raw.getvalue(), mtime=0))


def test_records_objects_arrays_episodes_and_checks(store, bucket) -> None:
    artefact = make_replay(store, put_collected(store, bucket))
    record = ReplayRecord.open(artefact, store)
    assert all(check.passed for check in artefact.manifest.checks), artefact.manifest.checks
    assert len(record.objects) == 3 * len(ALL_KINDS) == artefact.manifest.counts["files"]
    for item in record.objects:
        assert item.crc32c == crc32c_of(bucket / item.name) and item.bytes == (bucket / item.name).stat().st_size
        assert item.version is None
    assert record.episodes["complete"].sum() == 8 == artefact.manifest.counts["complete_episodes"]
    assert artefact.manifest.counts["transitions"] == 8 * 13 + 3
    complete = record.episodes[record.episodes["complete"]]
    means = artefact.manifest.metrics["mean_clipped_return"]
    assert means == {str(n): round(float(v), 4) for n, v in complete.groupby("checkpoint")["return"].mean().items()}
    logs = record.logs()
    assert [log.checkpoint for log in logs] == [0, 1, 2]
    np.testing.assert_array_equal(logs[1].actions, read_array(f"file://{bucket / FOLDER / file_name('action', 1)}"))


def test_the_same_bucket_gives_the_same_bytes(tmp_path, bucket) -> None:
    found = []
    for name in ("one", "two"):
        store = Store(tmp_path / name)
        artefact = make_replay(store, put_collected(store, bucket))
        found.append([(entry.path, entry.sha256) for entry in artefact.manifest.files])
    assert found[0] == found[1]


def test_a_url_is_pinned_by_its_listing(store, bucket) -> None:
    url = f"file://{bucket}"
    listing = digest(list_objects(url, "Freeway", 1))
    artefact = fetch.run(FetchConfig("Freeway", 1, url=url, listing=listing), store).artefact
    assert len(artefact.manifest.roots) == 18 and artefact.manifest.roots[0]["crc32c"]
    rewrite(bucket / FOLDER / file_name("reward", 0), lambda rewards: rewards * 0)
    with pytest.raises(WorldlineError, match="the bucket changed"):
        fetch.run(FetchConfig("Freeway", 1, url=url + "/", listing=listing), store)


def test_agents_share_one_bucket(store, tmp_path) -> None:
    for agent in (1, 2):
        write_replay(tmp_path / "both", [10] * 5, capacity=60, agent=agent, seed=agent)
    collected = put_collected(store, tmp_path / "both")
    records = [ReplayRecord.open(make_replay(store, collected, agent), store) for agent in (1, 2)]
    assert [set(record.episodes["agent"]) for record in records] == [{1}, {2}]
    assert not records[0].episodes["return"].equals(records[1].episodes["return"])


def cut(path) -> None:
    path.write_bytes(path.read_bytes()[:-6])


def flip(path) -> None:
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 0x10
    path.write_bytes(bytes(content))


@pytest.mark.parametrize(
    ("kind", "damage", "words"),
    [
        ("action", cut, "truncated"),
        ("reward", flip, "damaged|truncated|fewer|bytes after|no .npy"),
        ("terminal", lambda path: path.unlink(), "is missing"),
        ("add_count", lambda path: path.unlink(), "is missing"),
        ("observation", lambda path: path.write_bytes(b""), "truncated|no .npy"),
        ("observation", lambda path: path.write_bytes(b"<html>404</html>"), "damaged"),
        ("action", lambda path: rewrite(path, lambda a: a[:-1]), "disagrees in length"),
        ("observation", lambda path: rewrite(path, lambda a: a[:-5]), "disagrees in length"),
        ("observation", lambda path: rewrite(path, lambda a: a[:, :80]), "84, 84"),
        ("observation", lambda path: rewrite(path, lambda a: a.astype(np.int16)), "uint8"),
        ("action", lambda path: rewrite(path, lambda a: a.astype(np.float32)), "float32"),
        ("action", lambda path: rewrite(path, lambda a: a + 1000), "impossible"),
        ("reward", lambda path: rewrite(path, lambda a: a + np.nan), "impossible"),
        ("reward", lambda path: rewrite(path, lambda a: a.astype(np.int32)), "int32"),
        ("add_count", lambda path: rewrite(path, lambda a: a + 7), "add_count"),
        ("add_count", lambda path: rewrite(path, lambda a: np.arange(3)), "shape"),
        ("invalid_range", lambda path: rewrite(path, lambda a: a[:2]), "invalid_range"),
    ],
)
def test_hostile_files_leave_one_line_and_no_artefact(store, bucket, kind, damage, words) -> None:
    damage(bucket / FOLDER / file_name(kind, 1))
    collected = put_collected(store, bucket)
    with pytest.raises(WorldlineError, match=words) as caught:
        make_replay(store, collected)
    message = str(caught.value)
    assert "\n" not in message and len(message) < 400
    assert nothing_left(store, "replay")


@pytest.mark.parametrize(
    ("kind", "change", "check"),
    [
        ("reward", lambda a: a * 5, "rewards_clipped"),
        ("action", lambda a: a + 3, "actions_minimal"),
        ("terminal", lambda a: a * 3, "terminals_binary"),
    ],
)
def test_findings_block_children(store, bucket, kind, change, check) -> None:
    rewrite(bucket / FOLDER / file_name(kind, 1), change)
    artefact = make_replay(store, put_collected(store, bucket))
    failed = {entry.name for entry in artefact.manifest.checks if entry.blocking and not entry.passed}
    assert check in failed
    with pytest.raises(WorldlineError, match="failed its check"):
        store.open(artefact.ref)


def test_a_gap_is_a_finding_that_does_not_block(store, bucket) -> None:
    for kind in ALL_KINDS:
        (bucket / FOLDER / file_name(kind, 1)).unlink()
    artefact = make_replay(store, put_collected(store, bucket))
    gap = next(check for check in artefact.manifest.checks if check.name == "no_gap")
    assert not gap.passed and not gap.blocking
    store.open(artefact.ref)


def test_a_wrong_invalid_range_is_a_finding(store, bucket) -> None:
    rewrite(bucket / FOLDER / file_name("invalid_range", 0), lambda a: a + 1)
    artefact = make_replay(store, put_collected(store, bucket))
    assert not next(check for check in artefact.manifest.checks if check.name == "invalid_range").passed


def test_tables_are_plain(store, bucket) -> None:
    artefact = make_replay(store, put_collected(store, bucket))
    episodes = pd.read_parquet(artefact.path("episodes.parquet"))
    assert list(episodes["episode"]) == list(range(len(episodes)))
    pieces = pd.read_parquet(artefact.path("pieces.parquet"))
    lengths = (pieces["stop"] - pieces["start"]).groupby(pieces["episode"]).sum()
    assert lengths.tolist() == episodes["length"].tolist()
    assert json.loads(artefact.path("objects.json").read_text())[0]["name"].startswith(FOLDER)
