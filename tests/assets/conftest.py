"""Dagster homes of the tests' own: one is set up a session, and each test that needs no fresh one gets a copy."""

import shutil
from pathlib import Path

import pytest

from assets.instance import prepare


@pytest.fixture(scope="session")
def _prepared(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """As the first command leaves it: making its databases takes a second of processor time, copying them nothing."""
    folder = tmp_path_factory.mktemp("prepared") / "dagster"
    prepare(folder)
    return folder


@pytest.fixture
def fresh_home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The test's own home, which is not there yet, for this process and its children."""
    monkeypatch.setenv("WORLDLINE_HOME", str(tmp_path / "home"))
    monkeypatch.setenv("DAGSTER_HOME", "set by open_instance")  # so that it is put back afterwards
    monkeypatch.setenv("DAGSTER_DISABLE_TELEMETRY", "1")
    monkeypatch.delenv("WORLDLINE_STORAGE", raising=False)
    return tmp_path / "home"


@pytest.fixture
def ready_home(fresh_home: Path, _prepared: Path) -> Path:
    """The test's own home, with a Dagster in which nothing has happened."""
    shutil.copytree(_prepared, fresh_home / "dagster")
    return fresh_home
