"""Listing, pinned ranges and streams of real buckets: right bytes through every fault, or one line."""

import copy
import gzip
from dataclasses import replace

import google_crc32c
import numpy as np
import pytest

from pipelines.bucket import bucket as module
from pipelines.bucket import bucket_object, retry
from pipelines.bucket.bucket import Bucket
from pipelines.bucket.clients import S3Client
from pipelines.bucket.download import download
from pipelines.bucket.retry import BucketError, DamagedInTransit, ObjectReplaced
from pipelines.errors import WorldlineError
from pipelines.store.profile import Profile
from tests.buckets.faults import Fault

NAME = "Pong/1/replay_logs/$store$_action_ckpt.0.gz"
DATA = np.random.default_rng(0).bytes(100_000)


@pytest.fixture(autouse=True)
def _small_chunks(monkeypatch) -> None:
    monkeypatch.setattr(bucket_object, "CHUNK", 30_000)


@pytest.fixture
def item(emulated, reached):
    emulated.put(NAME, DATA)
    return reached.stat(NAME)


def streamed(bucket: Bucket, item) -> bytes:
    with bucket.open(item) as stream:
        data = stream.read()
        stream.verify()
    return data


def test_listing_and_stat_agree(emulated, reached, item) -> None:
    emulated.put(NAME + "x", b"123456789")
    emulated.put("Pong/1/replay_logs/deeper/file", b"not in that folder itself")
    listed = reached.list("Pong/1/replay_logs")
    assert [entry.name for entry in listed] == [NAME, NAME + "x"] and listed[0] == item
    assert item.bytes == len(DATA) and item.version and item.url == f"{emulated.root_url}/{NAME}"
    if emulated.server.kind == "gs":
        assert item.crc32c == f"{google_crc32c.value(DATA):08x}"
    else:
        assert item.md5 == item.version
    assert reached.is_verifiable(item)


def test_streams_and_ranges_are_the_object(reached, item) -> None:
    assert streamed(reached, item) == DATA
    assert reached.read_range(item, 5, 50_000) == DATA[5:50_000]
    assert reached.read_range(item, 99_990, 200_000) == DATA[99_990:] and reached.read_range(item, 100_000, 1) == b""
    assert (reached.rate() or 0) > 0
    again = copy.deepcopy(reached)
    assert again == reached and streamed(again, item) == DATA


@pytest.mark.parametrize(
    "fault", [Fault("cut", times=2), Fault("reset", times=2), Fault("short", times=2), Fault("status", times=3),
              Fault("status", status=429), Fault("status", status=500, skip=2),
              pytest.param(Fault("slow"), marks=pytest.mark.slow),
              Fault("stall", seconds=5.0, skip=1)], ids=lambda fault: f"{fault.kind}{fault.status}"
)  # fmt: skip
def test_passing_faults_are_waited_out(proxy, reached, item, said, fault) -> None:
    proxy.add(fault)
    assert streamed(reached, item) == DATA
    assert proxy.struck() == fault.times and len(said) == (0 if fault.kind == "slow" else fault.times)


def test_a_flipped_bit_is_noticed_at_the_end_and_gone_the_second_time(proxy, reached, item, said) -> None:
    proxy.add(Fault("flip", skip=2))
    with pytest.raises(DamagedInTransit, match="the object list says"):
        streamed(reached, item)
    assert retry.retry_if_damaged(lambda: streamed(reached, item)) == DATA


@pytest.mark.parametrize("fault", [Fault("status", status=403), Fault("status", times=99), Fault("cut", times=99)])
def test_lasting_faults_are_one_line(proxy, reached, item, fault) -> None:
    proxy.add(fault)
    words = "cannot be read" if fault.status == 403 else "failed 6 times"
    with pytest.raises(BucketError, match=words) as caught:
        streamed(reached, item)
    assert item.url in str(caught.value) and "\n" not in str(caught.value)
    assert proxy.struck() <= (1 if fault.status == 403 else 2 * retry.TRIES)


@pytest.mark.parametrize("size", [100_000, 99_000, 101_000, 10])
def test_an_object_replaced_before_or_amid_reading_is_said(emulated, proxy, reached, item, size) -> None:
    other = np.random.default_rng(1).bytes(size)
    proxy.add(Fault("pass", skip=2, act=lambda: emulated.put(NAME, other)))
    for _ in range(2):  # in the middle, then from the start
        with pytest.raises(ObjectReplaced, match=r"was replaced: .*list the bucket again") as caught:
            streamed(reached, item)
        assert "\n" not in str(caught.value)
    assert streamed(reached, reached.stat(NAME)) == other


def test_what_is_not_there_is_one_line(emulated, reached, item) -> None:
    for ask in (lambda: reached.list("Pong/2/replay_logs"), lambda: reached.stat("Pong/nothing")):
        with pytest.raises(BucketError, match="does not exist"):
            ask()
    emulated.remove(NAME)
    with pytest.raises(BucketError, match="does not exist"):
        streamed(reached, item)


def test_a_listing_waits_out_faults_too(proxy, reached, item) -> None:
    for fault in (Fault("status", times=2, listings=True), Fault("cut", listings=True)):
        proxy.clear()
        proxy.add(fault)
        assert reached.list("Pong/1/replay_logs") == [item] and proxy.struck() == fault.times


def test_the_mirror_is_read_first_and_dropped_when_damaged(proxy, reached, item) -> None:
    download(reached, [item], "Mirror")
    proxy.clear()
    assert streamed(reached, item) == DATA and proxy.sent() == 0
    path = reached.mirror.find(item)
    path.write_bytes(DATA[:-1] + b"?")
    with pytest.raises(DamagedInTransit, match=r"its copy in .* was dropped"):
        streamed(reached, item)
    assert reached.mirror.find(item) is None and streamed(reached, item) == DATA


def test_an_etag_that_is_no_md5_accuses_nobody(reached, item, monkeypatch) -> None:
    """Objects under a customer's key have etags of 32 hex digits that are no md5."""
    if not isinstance(reached._client, S3Client):
        pytest.skip("S3's habit")
    odd = replace(item, md5="0" * 32)
    monkeypatch.setattr(module.Bucket, "_require_same", lambda self, item: None)
    with pytest.raises(DamagedInTransit):
        streamed(reached, odd)
    monkeypatch.setattr(S3Client, "md5_is_etag", lambda self, path: False)
    assert streamed(reached, odd) == DATA


def test_local_buckets_get_no_options_and_see_changes(tmp_path) -> None:
    bucket = Bucket.of(f"file://{tmp_path}/", Profile("p", options={"token": "anon"}))
    assert bucket.is_local and bucket.options == {} and bucket.root == f"file://{tmp_path}"
    (tmp_path / "a").mkdir()
    (tmp_path / "a" / "x").write_bytes(DATA)
    item = bucket.list("a")[0]
    assert streamed(bucket, item) == DATA and bucket.read_range(item, 3, 9) == DATA[3:9]
    assert not bucket.is_verifiable(item)
    (tmp_path / "a" / "x").write_bytes(DATA + b"more")
    with pytest.raises(ObjectReplaced):
        streamed(bucket, item)
    (tmp_path / "a" / "x").unlink()
    with pytest.raises(WorldlineError, match="does not exist"):
        streamed(bucket, item)


def test_other_file_systems_work_unpinned() -> None:
    bucket = Bucket.of("memory://here")
    bucket._client.filesystem.pipe_file("/here/a/x", gzip.compress(DATA))
    item = bucket.list("a")[0]
    assert streamed(bucket, item) == gzip.compress(DATA) and not bucket.is_verifiable(item)
    bucket._client.filesystem.pipe_file("/here/a/x", b"short")
    with pytest.raises(ObjectReplaced):
        streamed(bucket, item)
