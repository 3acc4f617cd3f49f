"""Fixtures of emulated buckets: the servers start once a session, each test gets a bucket of its own."""

from collections.abc import Iterator

import pytest

from tests.buckets.servers import EmulatedBucket, EmulatedServer, gcs_server, s3_server


@pytest.fixture(scope="session")
def gcs_emulator() -> Iterator[EmulatedServer]:
    """A running GCS."""
    with gcs_server() as server:
        yield server


@pytest.fixture(scope="session")
def s3_emulator() -> Iterator[EmulatedServer]:
    """A running S3."""
    with s3_server() as server:
        yield server


@pytest.fixture
def gcs_bucket(gcs_emulator: EmulatedServer) -> EmulatedBucket:
    """An empty gs:// bucket."""
    return gcs_emulator.bucket()


@pytest.fixture
def s3_bucket(s3_emulator: EmulatedServer) -> EmulatedBucket:
    """An empty s3:// bucket."""
    return s3_emulator.bucket()


@pytest.fixture(params=["gs", "s3"])
def bucket(request: pytest.FixtureRequest) -> EmulatedBucket:
    """An empty bucket; the test runs once on gs:// and once on s3://."""
    return request.getfixturevalue("gcs_bucket" if request.param == "gs" else "s3_bucket")
