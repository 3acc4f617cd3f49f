"""What a manifest says of the machine and of costs: versions and processor, no names of people or hosts."""

import json
import os
import re
import subprocess
import sys
import time
from pathlib import Path

import pytest

from pipelines.store import machine
from pipelines.store.machine import CostMeter
from tests.fakes import ROOT


def test_versions_are_those_installed() -> None:
    versions = machine.library_versions()
    assert versions["ale-py"].startswith("0.12") and versions["torch"].startswith("2.13")


def test_a_library_that_is_not_there_is_left_out(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(machine, "LIBRARIES", ("numpy", "no-such-library"))
    machine.library_versions.cache_clear()
    assert list(machine.library_versions()) == ["numpy"]
    machine.library_versions.cache_clear()


def test_neither_host_nor_user_is_told() -> None:
    assert set(machine.describe()) == {"system", "cpus", "python", "code"}


def test_the_commit_is_a_hash_or_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    assert re.fullmatch(r"([0-9a-f]{40}\+?)?", machine.git_commit())
    machine.git_commit.cache_clear()
    monkeypatch.setenv("PATH", "")  # no git at all
    assert machine.git_commit() == ""
    machine.git_commit.cache_clear()


def test_a_repository_around_it_is_not_its_own(tmp_path: Path) -> None:
    """As an installation's `.venv` in somebody's project: its commit says nothing of this code."""
    copy = tmp_path / "lib" / "pipelines"
    copied = ["__init__.py", "process.py", "store/__init__.py", "store/machine.py"]
    for name in copied:
        (copy / name).parent.mkdir(parents=True, exist_ok=True)
        (copy / name).write_bytes((ROOT / "pipelines" / name).read_bytes())
    git = ["git", "-c", "user.name=one", "-c", "user.email=one@localhost"]
    subprocess.run([*git, "init", "-q"], cwd=tmp_path, check=True)
    subprocess.run([*git, "commit", "-q", "--allow-empty", "-m", "theirs"], cwd=tmp_path, check=True)
    asked = [sys.executable, "-c", "from pipelines.store.machine import git_commit; print(git_commit())"]
    environment = os.environ | {"PYTHONPATH": str(tmp_path / "lib")}
    said = [subprocess.run(asked, cwd=tmp_path, env=environment, capture_output=True, text=True, check=True).stdout]
    subprocess.run([*git, "add", "lib"], cwd=tmp_path, check=True)
    subprocess.run([*git, "commit", "-q", "-m", "now it is theirs"], cwd=tmp_path, check=True)
    said.append(subprocess.run(asked, cwd=tmp_path, env=environment, capture_output=True, text=True, check=True).stdout)
    assert said[0] == "\n" and re.fullmatch(r"[0-9a-f]{40}\n", said[1])


def test_equal_sources_are_equal_code_wherever_they_lie(tmp_path: Path) -> None:
    for folder in ("one", "two"):
        (tmp_path / folder / "pipelines").mkdir(parents=True)
        (tmp_path / folder / "pipelines" / "a.py").write_text("a = 1\n")
        (tmp_path / folder / "notes.py").write_text(folder)  # no code of ours
    first, second = (machine.code_digest(tmp_path / folder) for folder in ("one", "two"))
    assert re.fullmatch(r"[0-9a-f]{12}", first) and first == second
    machine.code_digest.cache_clear()
    (tmp_path / "two" / "pipelines" / "a.py").write_text("a = 2\n")
    assert machine.code_digest(tmp_path / "two") != first


# ---- costs grow with work and are JSON numbers ----


def test_an_attempt_adds_what_earlier_ones_took_and_only_then_counts_them(tmp_path: Path) -> None:
    first = CostMeter(started=time.monotonic() - 100, cpu_started=-7.0)
    with first.kept(tmp_path):
        alone = first.read()
    assert set(alone) == {"seconds", "cpu_seconds", "peak_bytes"}
    second = CostMeter()
    with pytest.raises(KeyboardInterrupt), second.kept(tmp_path):
        raise KeyboardInterrupt
    third = CostMeter()
    with third.kept(tmp_path):
        cost = third.read()
    assert cost["attempts"] == 3
    assert 100 <= cost["seconds"] < 110 and cost["cpu_seconds"] >= alone["cpu_seconds"] >= 7
    assert cost["peak_bytes"] >= alone["peak_bytes"]
    assert [path.name for path in tmp_path.iterdir()] == ["cost.json"]


def test_a_torn_cost_file_counts_nothing_and_stops_nothing(tmp_path: Path) -> None:
    (tmp_path / "cost.json").write_text('{"seconds": 1')
    meter = CostMeter()
    with meter.kept(tmp_path):
        assert meter.read()["seconds"] < 10 and "attempts" not in meter.read()


def test_seconds_processor_time_and_memory_are_measured() -> None:
    meter = CostMeter()
    until = time.process_time() + 0.05
    while time.process_time() < until:
        pass
    cost = meter.read()
    assert 0.04 <= cost["cpu_seconds"] <= cost["seconds"] + 1.0
    assert cost["peak_bytes"] > 5e6
    assert json.loads(json.dumps(cost)) == cost
