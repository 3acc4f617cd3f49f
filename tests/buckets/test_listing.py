"""Buckets that may not be listed: logs are found by the names that they have; where none answers, one line says all."""

from pathlib import Path

import pytest

from pipelines.bucket.bucket import Bucket
from pipelines.bucket.retry import Refused
from pipelines.errors import WorldlineError
from pipelines.sources.dqn_replay import listing
from pipelines.sources.dqn_replay.listing import file_name, list_objects, log_folder
from pipelines.sources.source import digest
from tests.buckets.faults import Fault, FaultProxy
from tests.buckets.servers import EmulatedBucket
from tests.pipelines.sources.dqn_replay.toy import write_replay

pytestmark = pytest.mark.usefixtures("_hasty")
FOLDER = log_folder("Freeway", 1)
UNLISTED = Fault("status", match="prefix=", status=403, times=1_000_000, listings=True)


@pytest.fixture
def client(bucket: EmulatedBucket, proxy: FaultProxy, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Bucket:
    """A replay of several logs in a bucket; a block of names asked for is two logs."""
    monkeypatch.setattr(listing, "RUN_LOGS", 2)
    write_replay(tmp_path / "toy", [13, 29, 5, 61, 13, 40])
    bucket.put_folder(tmp_path / "toy")
    return Bucket.of(bucket.root_url, bucket.profile(proxy.endpoint))


def test_what_may_not_be_listed_is_found_by_name(client: Bucket, proxy: FaultProxy) -> None:
    listed = list_objects(client, "Freeway", 1)
    assert len({item.log.checkpoint for item in listed}) > 3, "more than a block"
    proxy.add(UNLISTED)
    with pytest.raises(Refused, match="its owner has to allow it, or log in"):
        client.list(FOLDER)
    named = list_objects(client, "Freeway", 1)
    assert named == listed and digest(named) == digest(listed)


def test_a_last_log_that_is_missing_ends_the_list(client: Bucket, bucket: EmulatedBucket, proxy: FaultProxy) -> None:
    """As log 50 is of some public runs."""
    listed = list_objects(client, "Freeway", 1)
    last = listed[-1].log.checkpoint
    for item in listed:
        if item.log.checkpoint == last:
            bucket.remove(item.name)
    proxy.add(UNLISTED)
    assert list_objects(client, "Freeway", 1) == [item for item in listed if item.log.checkpoint < last]


def test_a_log_that_lacks_a_file_is_named(client: Bucket, bucket: EmulatedBucket, proxy: FaultProxy) -> None:
    bucket.remove(f"{FOLDER}/{file_name('reward', 1)}")
    proxy.add(UNLISTED)
    with pytest.raises(WorldlineError, match=r"reward_ckpt\.1\.gz is missing: checkpoint 1 needs all of"):
        list_objects(client, "Freeway", 1)


@pytest.mark.parametrize("by_name", [403, 404])
def test_a_bucket_that_gives_nothing_names_other_sources(client: Bucket, proxy: FaultProxy, by_name: int) -> None:
    proxy.add(UNLISTED, Fault("status", match=FOLDER, status=by_name, times=1_000_000, listings=True))
    with pytest.raises(WorldlineError) as caught:
        list_objects(client, "Freeway", 1)
    text = str(caught.value)
    assert "\n" not in text and FOLDER in text and "no log there can be had by its name either" in text
    assert "worldline import trajectories" in text and "worldline collect" in text
