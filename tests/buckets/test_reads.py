"""Reads through a network that misbehaves: the right bytes after retries, or one line; never other bytes."""

import os
import random

import pytest

from pipelines.bucket import retry
from pipelines.bucket.bucket import Bucket
from pipelines.bucket.bucket_object import BucketObject
from pipelines.bucket.retry import DamagedInTransit, ObjectReplaced, retry_if_damaged
from pipelines.errors import WorldlineError
from tests.buckets.faults import Fault, FaultProxy
from tests.buckets.servers import EmulatedBucket

pytestmark = pytest.mark.usefixtures("_hasty")
FOLDER = "Pong/1/replay_logs"
NAME = f"{FOLDER}/$store$_action_ckpt.0.gz"
CONTENT = random.Random(0).randbytes(90_000)


@pytest.fixture
def client(bucket: EmulatedBucket, proxy: FaultProxy) -> Bucket:
    bucket.put(NAME, CONTENT)
    return Bucket.of(bucket.root_url, bucket.profile(proxy.endpoint, timeout=0.3))


def whole(client: Bucket, item: BucketObject) -> bytes:
    with client.open(item) as stream:
        content = stream.read()
        stream.verify()
    return content


def one_line(error: BaseException) -> str:
    text = str(error)
    assert "\n" not in text and len(text) < 500, text
    return text


@pytest.mark.parametrize(
    "fault",
    [
        Fault("cut", times=3),
        Fault("reset", times=3),
        Fault("short", times=3),
        Fault("status", times=4, status=503),
        Fault("status", times=4, status=429),
        Fault("status", times=2, status=500),
        Fault("slow", seconds=0.3),
        Fault("stall", seconds=20),
        Fault("stall", skip=2, seconds=20),
    ],
    ids=lambda fault: f"{fault.kind}{fault.status if fault.kind == 'status' else ''}-{fault.skip}",
)
def test_passing_faults_end_in_the_right_bytes(client, proxy, fault) -> None:
    item = client.stat(NAME)
    proxy.add(fault)
    assert whole(client, item) == CONTENT
    assert proxy.struck(fault.kind) == fault.times


def test_a_dropped_connection_costs_one_range_and_not_the_object(bucket, proxy) -> None:
    bucket.put(NAME, CONTENT)
    client = Bucket.of(bucket.root_url, bucket.profile(proxy.endpoint, timeout=20))  # a busy machine is no fault
    item = client.stat(NAME)
    proxy.add(Fault("reset", skip=2))
    assert whole(client, item) == CONTENT
    assert proxy.sent(NAME) <= len(CONTENT) + 20_000


def test_a_flipped_bit_is_damage_and_the_second_pass_is_right(client, proxy) -> None:
    item = client.stat(NAME)
    proxy.add(Fault("flip", skip=1))
    with pytest.raises(DamagedInTransit) as caught:
        whole(client, item)
    assert NAME in one_line(caught.value)
    proxy.add(Fault("flip", skip=3))
    assert retry_if_damaged(lambda: whole(client, item)) == CONTENT
    assert proxy.struck("flip") == 2


@pytest.mark.parametrize("kind", ["flip", "short", "cut", "reset", "status"])
def test_a_fault_that_stays_is_one_line_after_bounded_tries(client, proxy, kind) -> None:
    item = client.stat(NAME)
    proxy.add(Fault(kind, times=10_000))
    with pytest.raises(WorldlineError) as caught:
        retry_if_damaged(lambda: whole(client, item))
    assert NAME in one_line(caught.value)
    assert not isinstance(caught.value, ObjectReplaced)
    assert proxy.struck(kind) <= 2 * (retry.TRIES + 5)


@pytest.mark.parametrize("status", [401, 403, 404])
def test_a_refusal_is_not_tried_again(client, proxy, status) -> None:
    item = client.stat(NAME)
    proxy.add(Fault("status", status=status, times=10_000))
    with pytest.raises(WorldlineError) as caught:
        client.read_range(item, 0, 100)
    assert NAME in one_line(caught.value)
    assert proxy.struck("status") == 1


@pytest.mark.parametrize("size", [90_000, 50_000, 120_000])
@pytest.mark.parametrize("skip", [0, 2])
def test_an_object_that_is_replaced_is_never_mixed(client, proxy, bucket, skip, size) -> None:
    """After the listing (skip 0) and between two ranges (skip 2), by one of equal, smaller or larger size."""
    item = client.stat(NAME)
    proxy.add(Fault("pass", skip=skip, act=lambda: bucket.put(NAME, os.urandom(size))))
    with pytest.raises(ObjectReplaced) as caught:
        retry_if_damaged(lambda: whole(client, item))
    assert NAME in one_line(caught.value)
    assert proxy.struck("pass") == 1
    assert len(whole(client, client.stat(NAME))) == size


def test_an_object_that_is_removed_while_it_is_read_is_one_line(client, proxy, bucket) -> None:
    item = client.stat(NAME)
    proxy.add(Fault("pass", skip=2, act=lambda: bucket.remove(NAME)))
    with pytest.raises(WorldlineError) as caught:
        whole(client, item)
    assert NAME in one_line(caught.value) and "does not exist" in str(caught.value)


@pytest.mark.parametrize(
    "fault",
    [
        Fault("status", times=3, listings=True),
        Fault("cut", times=2, listings=True),
        Fault("reset", times=2, listings=True),
        Fault("short", times=2, listings=True),
        Fault("stall", listings=True, seconds=20),
    ],
    ids=lambda fault: fault.kind,
)
def test_listings_survive_the_same_faults(client, proxy, bucket, fault) -> None:
    bucket.put(f"{FOLDER}/other", b"x" * 10)
    expected = client.list(FOLDER)
    assert [(item.name, item.bytes) for item in expected] == [(NAME, len(CONTENT)), (f"{FOLDER}/other", 10)]
    proxy.add(fault)
    assert client.list(FOLDER) == expected
    assert proxy.struck(fault.kind) == fault.times


def test_a_bucket_that_answers_nothing_but_errors_is_one_line(client, proxy) -> None:
    proxy.add(Fault("status", times=10_000, listings=True))
    with pytest.raises(WorldlineError) as caught:
        client.list(FOLDER)
    assert FOLDER in one_line(caught.value) and proxy.struck() == retry.TRIES


def test_a_server_that_is_not_there_is_one_line(bucket) -> None:
    client = Bucket.of(bucket.root_url, bucket.profile("http://127.0.0.1:9", timeout=0.3))
    with pytest.raises(WorldlineError) as caught:
        client.list(FOLDER)
    assert FOLDER in one_line(caught.value)
