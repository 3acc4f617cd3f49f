"""Leases: one machine holds it, others wait; the dead lose it, the living keep it, whatever the network does."""

import threading
import time

import pytest

from pipelines.bucket import lease
from pipelines.bucket.lease import Lease
from pipelines.bucket.writing import WritableBucket
from tests import fakes
from tests.buckets.faults import Fault, FaultProxy
from tests.buckets.servers import EmulatedBucket

NAME = "leases/scores/Freeway/0.json"


@pytest.fixture
def place(emulated: EmulatedBucket, proxy: FaultProxy, monkeypatch: pytest.MonkeyPatch) -> WritableBucket:
    for name, seconds in (("RENEW", 0.05), ("LOST", 0.6), ("POLL", 0.02)):
        monkeypatch.setattr(lease, name, seconds)
    return WritableBucket.of(f"{emulated.root_url}/store", emulated.profile(proxy.endpoint, timeout=2.0))


def never() -> bool:
    return False


def nothing() -> None:
    pass


def test_a_lease_is_there_while_it_is_held(place: WritableBucket) -> None:
    with Lease(place, NAME, "here").held(never, nothing):
        assert place.find(NAME) is not None
    assert place.find(NAME) is None


def test_others_wait_as_long_as_it_is_renewed_and_no_longer(place: WritableBucket) -> None:
    waits, got, until = threading.Event(), threading.Event(), time.monotonic() + 1.5

    def other() -> None:
        with Lease(place, NAME, "there").held(never, waits.set):
            got.set()

    thread = threading.Thread(target=other)
    with Lease(place, NAME, "here").held(never, nothing):
        thread.start()
        assert waits.wait(5)
        while time.monotonic() < until:  # more than twice as long as a dead one's is left alone
            assert not got.is_set()
            time.sleep(0.05)
    assert got.wait(5)
    thread.join()
    assert place.find(NAME) is None


def test_who_waits_goes_on_when_the_work_is_done(place: WritableBucket) -> None:
    done = threading.Event()
    with Lease(place, NAME, "here").held(never, nothing), Lease(place, NAME, "there").held(done.is_set, done.set):
        assert done.is_set()
    assert place.find(NAME) is None


def test_a_dead_machines_lease_is_taken_over_in_time_and_ones_own_at_once(place: WritableBucket) -> None:
    place.put(NAME, b"dead 1 1")
    started = time.monotonic()
    with Lease(place, NAME, "here").held(never, nothing):
        assert 0.6 <= time.monotonic() - started < 5
    place.put(NAME, b"here 1 1")
    with Lease(place, NAME, "here").held(never, lambda: pytest.fail("it waits for itself")):
        pass
    assert place.find(NAME) is None


def test_a_lease_that_was_taken_away_is_left_to_its_new_holder(place: WritableBucket) -> None:
    with Lease(place, NAME, "here").held(never, nothing):
        fakes.wait_for(lambda: place.put(NAME, b"there 1 1") is not None)
        time.sleep(0.3)
    stands = place.find(NAME)
    assert stands is not None and place.read(stands) == b"there 1 1"


def test_a_network_that_goes_away_ends_no_work(place: WritableBucket, proxy: FaultProxy) -> None:
    with Lease(place, NAME, "here").held(never, nothing):
        proxy.add(Fault("status", listings=True, times=10_000), Fault("status", times=10_000))
        fakes.wait_for(lambda: proxy.struck() > 3)
