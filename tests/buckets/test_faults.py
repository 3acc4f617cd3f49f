"""The proxy injects what it says, as often as it says, and otherwise passes bytes through unchanged."""

import os
from http.client import HTTPConnection, HTTPException, IncompleteRead
from urllib.parse import urlsplit

import pytest

from tests.buckets.faults import SHARE, Fault, FaultProxy, Weather, object_of

CONTENT = os.urandom(100_000)
FEW = int(len(CONTENT) * SHARE)


@pytest.fixture
def proxy(gcs_bucket):
    gcs_bucket.put("Pong/file", CONTENT)
    with FaultProxy(gcs_bucket.server.endpoint) as proxy:
        proxy.path = f"/download/storage/v1/b/{gcs_bucket.name}/o/dqn%2FPong%2Ffile?alt=media"
        proxy.bucket = gcs_bucket
        yield proxy


def get(proxy: FaultProxy, timeout: float = 5.0, **headers: str) -> tuple[int, bytes]:
    connection = HTTPConnection(urlsplit(proxy.endpoint).netloc, timeout=timeout)
    try:
        connection.request("GET", proxy.path, headers=headers)
        answer = connection.getresponse()
        return answer.status, answer.read()
    finally:
        connection.close()


def test_without_rules_bytes_and_ranges_pass(proxy) -> None:
    assert get(proxy) == (200, CONTENT)
    assert get(proxy, Range="bytes=5-9") == (206, CONTENT[5:10])
    assert proxy.sent("Pong/file") == len(CONTENT) + 5 and proxy.struck() == 0
    assert [exchange.range for exchange in proxy.log] == ["", "bytes=5-9"]


def test_cut_and_reset_end_the_connection_early(proxy) -> None:
    proxy.add(Fault("cut"), Fault("reset", skip=1))
    with pytest.raises(IncompleteRead) as caught:
        get(proxy)
    assert caught.value.partial == CONTENT[:FEW] and proxy.sent() == FEW
    with pytest.raises((ConnectionResetError, HTTPException)):
        get(proxy)
    assert get(proxy) == (200, CONTENT)
    assert (proxy.struck("cut"), proxy.struck("reset"), proxy.struck()) == (1, 1, 2)


def test_flip_changes_one_bit_and_short_looks_whole(proxy) -> None:
    proxy.add(Fault("flip"), Fault("short", skip=1))
    _, flipped = get(proxy)
    assert sum((a ^ b).bit_count() for a, b in zip(flipped, CONTENT, strict=True)) == 1
    assert get(proxy) == (200, CONTENT[:FEW])
    assert get(proxy) == (200, CONTENT)


def test_statuses_come_in_bursts_and_spare_other_objects(proxy) -> None:
    proxy.add(Fault("status", match="other"), Fault("status", match="file", times=2, skip=1, status=429))
    assert [get(proxy)[0] for _ in range(4)] == [200, 429, 429, 200]


def test_slow_and_stalled_answers_are_bounded(proxy) -> None:
    proxy.add(Fault("slow", seconds=0.4), Fault("stall", skip=1, seconds=20))
    assert get(proxy) == (200, CONTENT) and proxy.struck("slow") == 1
    with pytest.raises(TimeoutError):
        get(proxy, timeout=0.2)
    with pytest.raises(ValueError, match="No such fault"):
        Fault("stall", seconds=1e6)


def test_an_act_happens_between_two_requests(proxy) -> None:
    proxy.add(Fault("pass", skip=1, act=lambda: proxy.bucket.put("Pong/file", b"new")))
    assert [get(proxy)[1] for _ in range(2)] == [CONTENT, b"new"]


def test_weather_depends_on_seed_object_range_and_attempt_alone(proxy) -> None:
    names = [f"object {number}" for number in range(2_000)]

    def struck(seed: int) -> list[str]:
        return [name for name in names if Weather(0.05, seed).strike(name, "", 0)]

    assert 60 < len(struck(0)) < 140 and struck(0) == struck(0) != struck(1)
    proxy.weather = Weather(1.0, 0, kinds=("status",), most=2)
    assert [get(proxy)[0] >= 400 for _ in range(4)] == [True, True, False, False]
    proxy.clear()
    assert proxy.log == [] and get(proxy) == (200, CONTENT)


@pytest.mark.parametrize(
    ("method", "target", "name", "data"),
    [
        ("GET", "/download/storage/v1/b/x/o/dqn%2FPong%2F%24s?alt=media&generation=3", "Pong/$s", True),
        ("GET", "/storage/v1/b/x/o/dqn%2FPong", "Pong", False),
        ("GET", "/storage/v1/b/x/o?delimiter=%2F&prefix=dqn%2FPong", "delimiter=/&prefix=dqn/Pong", False),
        ("GET", "/x/dqn/Pong/%24s", "Pong/$s", True),
        ("HEAD", "/x/dqn/Pong", "Pong", False),
        ("GET", "/x?list-type=2&prefix=dqn/Pong", "list-type=2&prefix=dqn/Pong", False),
    ],
)
def test_requests_of_both_stores_are_understood(method, target, name, data) -> None:
    assert object_of(method, target) == (name, data)
