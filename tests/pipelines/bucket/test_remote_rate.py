"""The meter counts time in which something is read once, however many threads read."""

import pytest

from pipelines.bucket import remote as rate
from pipelines.bucket.remote import Meter, meter


def test_overlapping_reads_share_their_time(monkeypatch) -> None:
    clock = [0.0]
    monkeypatch.setattr(rate.time, "monotonic", lambda: clock[0])
    one = Meter()
    assert one.rate() is None
    with one.reading(100):
        clock[0] = 1.0
        with one.reading(300):
            clock[0] = 3.0
        clock[0] = 4.0
    clock[0] = 100.0  # nothing is read meanwhile
    assert one.rate() == 100.0
    with pytest.raises(ConnectionResetError), one.reading(1000):
        clock[0] = 104.0
        raise ConnectionResetError
    assert one.rate() == 50.0  # lost time counts, lost bytes do not


def test_a_bucket_has_one_meter() -> None:
    assert meter("gs://a") is meter("gs://a") and meter("gs://a") is not meter("gs://b")
