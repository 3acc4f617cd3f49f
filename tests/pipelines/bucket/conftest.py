"""Real buckets on loopback behind a proxy that can misbehave; waits between tries are short, what is said is kept."""

from collections.abc import Iterator

import pytest

from pipelines.bucket import retry
from pipelines.bucket.bucket import Bucket
from pipelines.bucket.bucket_object import Mirror
from tests.buckets.faults import FaultProxy
from tests.buckets.servers import EmulatedBucket


@pytest.fixture(autouse=True)
def said(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Every line for the user, in order."""
    lines: list[str] = []
    monkeypatch.setattr(retry, "FIRST_WAIT", 0.01)
    for module in ("retry", "download"):
        monkeypatch.setattr(f"pipelines.bucket.{module}.say", lines.append)
    return lines


@pytest.fixture(params=["gs", "s3"])
def emulated(request: pytest.FixtureRequest) -> EmulatedBucket:
    """An empty bucket; the test runs once on gs:// and once on s3://."""
    return request.getfixturevalue("gcs_bucket" if request.param == "gs" else "s3_bucket")


@pytest.fixture
def proxy(emulated) -> Iterator[FaultProxy]:
    """Between the clients of `reached` and the bucket."""
    with FaultProxy(emulated.server.endpoint) as proxy:
        yield proxy


@pytest.fixture
def reached(emulated, proxy, tmp_path) -> Bucket:
    """The emulated bucket through the proxy, with a mirror."""
    profile = emulated.profile(proxy.endpoint, timeout=2.0)
    return Bucket.of(emulated.root_url, profile, Mirror(tmp_path / "mirror" / "bucket"))
