"""Lets every test say `from tests import fakes`, and gives each its own store, home and buckets; nothing is printed."""

import gc
import os
import re
import signal
import sys
import zlib
from collections.abc import Callable, Generator, Iterator
from pathlib import Path
from typing import Any

import hypothesis
import pytest

os.environ.setdefault("OMP_NUM_THREADS", "1")  # before torch is imported: each core runs tests of its own
sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from pipelines import redact
from pipelines.store.store import Store
from tests import fakes
from tests.buckets.fixtures import gcs_bucket, gcs_emulator, s3_bucket, s3_emulator  # noqa: F401

if signal.getsignal(signal.SIGINT) == signal.SIG_IGN:
    # As in a shell's background jobs; the programs that tests interrupt would inherit it.
    signal.signal(signal.SIGINT, signal.default_int_handler)


# Helpers whose assertions tell what differs, as those of tests do.
pytest.register_assert_rewrite("tests.models.parity.golden_files", "tests.models.practice.learning")

hypothesis.settings.register_profile("patient", deadline=None)  # on a busy machine an example may take seconds
hypothesis.settings.load_profile("patient")

SLICES = 40


def pytest_addoption(parser: pytest.Parser) -> None:
    """`--slice N`: of what is selected, the fortieth with number N; all of them together are everything, once."""
    parser.addoption("--slice", type=int, choices=range(SLICES), default=None, help="run one fortieth, 0 to 39")


def _of_the_other_bucket(item: pytest.Item) -> bool:
    """Whether a test of both buckets runs here on the one that only the long tests ask; its name says which that is."""
    found = re.fullmatch(r"(.*\[)(gs|s3)\b(.*)", item.nodeid)
    return found is not None and ("gs", "s3")[zlib.crc32((found[1] + found[3]).encode()) % 2] == found[2]


@pytest.hookimpl(wrapper=True, tryfirst=True)
def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> Generator[None, object, object]:
    """Mark, let `-m` select, then take a slice: every fortieth test of those selected, so that slices cost alike."""
    for item in items:
        if item.get_closest_marker("one_bucket") and _of_the_other_bucket(item):
            item.add_marker(pytest.mark.slow)
    result = yield
    number = config.getoption("--slice")
    if number is not None:
        chosen = items[number::SLICES]
        config.hook.pytest_deselected(items=[item for item in items if item not in chosen])
        items[:] = chosen
    # The longest first: last, it would keep one worker busy and the others idle.
    items.sort(key=lambda item: not item.nodeid.startswith("tests/test_end_to_end.py"))
    return result


def pytest_collection_finish() -> None:
    """What stands now stays: modules and thousands of tests, which each search for garbage would visit again."""
    gc.freeze()


@pytest.fixture(autouse=True)
def _quiet(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WORLDLINE_QUIET", "1")
    monkeypatch.setattr(redact, "_known", {})  # no test's secrets are hidden from another's messages


@pytest.fixture
def store(tmp_path: Path) -> Store:
    """An empty store in the test's own folder."""
    return Store(tmp_path / "store")


@pytest.fixture(scope="module")
def undrawn() -> Iterator[Callable[[Any, Path], None]]:
    """Figures are built and saved empty: to draw them takes longer than the stages under test. Other processes draw.

    Returns what draws and saves, for a test that looks at pictures.
    """
    from pipelines.plots import style

    with pytest.MonkeyPatch.context() as patch:
        drawn = style.save
        patch.setattr(style, "save", fakes.save_empty)
        yield drawn
