"""Lets every test say `from tests import fakes`, and gives each its own store, home and buckets; nothing is printed."""

import os
import signal
import sys
import zlib
from pathlib import Path

import hypothesis
import pytest

os.environ.setdefault("OMP_NUM_THREADS", "1")  # before torch is imported: each core runs tests of its own
sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from pipelines import redact
from pipelines.store.store import Store
from tests.buckets.fixtures import gcs_bucket, gcs_emulator, s3_bucket, s3_emulator  # noqa: F401

if signal.getsignal(signal.SIGINT) == signal.SIG_IGN:
    # As in a shell's background jobs; the programs that tests interrupt would inherit it.
    signal.signal(signal.SIGINT, signal.default_int_handler)


# Helpers whose assertions tell what differs, as those of tests do.
pytest.register_assert_rewrite("tests.models.parity.golden_files", "tests.models.practice.learning")

hypothesis.settings.register_profile("patient", deadline=None)  # on a busy machine an example may take seconds
hypothesis.settings.load_profile("patient")

SLICES = 10


def pytest_addoption(parser: pytest.Parser) -> None:
    """`--slice N`: of what is selected, the tenth that belongs to N; all tenths together are everything, once."""
    parser.addoption("--slice", type=int, choices=range(SLICES), default=None, help="run one tenth, 0 to 9")


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Select and order. A test's tenth follows from its name, so that it stays where it is when others come and go."""
    number = config.getoption("--slice")
    if number is not None:
        chosen = [item for item in items if zlib.crc32(item.nodeid.encode()) % SLICES == number]
        config.hook.pytest_deselected(items=[item for item in items if item not in chosen])
        items[:] = chosen
    # The longest first: last, it would keep one worker busy and the others idle.
    items.sort(key=lambda item: not item.nodeid.startswith("tests/test_end_to_end.py"))


@pytest.fixture(autouse=True)
def _quiet(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WORLDLINE_QUIET", "1")
    monkeypatch.setattr(redact, "_known", {})  # no test's secrets are hidden from another's messages


@pytest.fixture
def store(tmp_path: Path) -> Store:
    """An empty store in the test's own folder."""
    return Store(tmp_path / "store")
