"""Fixtures of emulated buckets: the servers start once a session, each test gets a bucket of its own."""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from pipelines.store.artefact import Artefact
from pipelines.store.store import Store
from tests.buckets.faults import FaultProxy
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


@dataclass
class Site:
    """Replay on disk, the same in a bucket behind a proxy, and what the stages make of the files on disk: `hashes`."""

    folder: Path
    bucket: EmulatedBucket
    proxy: FaultProxy
    home: Path
    expected: dict[str, str]

    def store(self, name: str = "store") -> Store:
        """A store that reads the bucket through the proxy."""
        return Store(self.home / name, profile=self.bucket.profile(self.proxy.endpoint, timeout=2.0))


def hashes(*artefacts: Artefact) -> dict[str, str]:
    """sha256 of every file but the object list, which names versions."""
    files = [entry for artefact in artefacts for entry in artefact.manifest.files]
    return {entry.path: entry.sha256 for entry in files if entry.path != "objects.json"}
