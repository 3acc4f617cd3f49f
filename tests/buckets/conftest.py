"""Tests here run on both stores, behind a proxy that can misbehave, and wait hundredths of seconds between tries."""

from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from pipelines.bucket import bucket_object, download, retry
from tests.buckets.faults import FaultProxy
from tests.buckets.fixtures import Site, bucket  # noqa: F401
from tests.buckets.servers import EmulatedBucket

CHUNK = 20_000  # bytes a range: small objects then have several


@pytest.fixture(scope="session")
def _proxies() -> Iterator[dict[str, FaultProxy]]:
    """One for each emulator, so that clients keep their connections from test to test."""
    with ExitStack() as stack:
        yield _Started(stack)


class _Started(dict[str, FaultProxy]):
    def __init__(self, stack: ExitStack) -> None:
        self.stack = stack

    def __missing__(self, upstream: str) -> FaultProxy:
        self[upstream] = self.stack.enter_context(FaultProxy(upstream))
        return self[upstream]


@pytest.fixture
def proxy(bucket: EmulatedBucket, _proxies: dict[str, FaultProxy]) -> Iterator[FaultProxy]:  # noqa: F811
    """In front of `bucket`; does nothing until it is told."""
    running = _proxies[bucket.server.endpoint]
    running.clear()
    yield running
    running.clear()


@pytest.fixture
def site(
    request: pytest.FixtureRequest,
    toy: tuple[Path, dict[str, str]],
    bucket: EmulatedBucket,  # noqa: F811
    proxy: FaultProxy,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> Site:
    """The module's `toy`: the folder of a replay, and what its files give. It is read by ranges of RANGE bytes."""
    monkeypatch.setattr(bucket_object, "CHUNK", request.module.RANGE)
    bucket.put_folder(toy[0])
    return Site(toy[0], bucket, proxy, tmp_path, toy[1])


@pytest.fixture
def _hasty(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(retry, "FIRST_WAIT", 0.01)
    monkeypatch.setattr(bucket_object, "CHUNK", CHUNK)
    monkeypatch.setattr(download, "CHUNK", CHUNK)
