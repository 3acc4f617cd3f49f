"""Lets every test say `from tests import fakes`, and gives each its own store, home and buckets; nothing is printed."""

import os
import signal
import sys
from pathlib import Path

import pytest

os.environ.setdefault("OMP_NUM_THREADS", "1")  # before torch is imported: each core runs tests of its own
sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from pipelines.store.store import Store
from tests.buckets.fixtures import gcs_bucket, gcs_emulator, s3_bucket, s3_emulator  # noqa: F401

if signal.getsignal(signal.SIGINT) == signal.SIG_IGN:
    # As in a shell's background jobs; the programs that tests interrupt would inherit it.
    signal.signal(signal.SIGINT, signal.default_int_handler)


@pytest.fixture(autouse=True)
def _quiet(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WORLDLINE_QUIET", "1")


@pytest.fixture
def store(tmp_path: Path) -> Store:
    """An empty store in the test's own folder."""
    return Store(tmp_path / "store")
