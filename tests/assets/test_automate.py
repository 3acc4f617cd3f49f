"""The switches of what runs by itself are those of the UI: a daemon obeys them, whichever side was there first."""

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import dagster as dg
import psutil
import pytest
import yaml

from assets.automate import EVERY, LOCATION, MODULE, is_on, switch
from assets.instance import open_instance
from assets.launch import main
from assets.server import workspace
from tests.fakes import ROOT, wait_for

NAMES = {"weekly_reevaluation", "nightly_verify", "new_checkpoints", "new_scores"}


@pytest.fixture(autouse=True)
def _home(ready_home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PYTHONPATH", str(ROOT))


def states() -> dict[str, bool]:
    with open_instance() as instance:
        return {name: is_on(instance, name) for name in EVERY}


def test_all_are_off_and_go_on_and_off_alone_or_together(capsys: pytest.CaptureFixture[str]) -> None:
    assert set(EVERY) == NAMES
    assert main(["automate", "status"]) == 0
    assert capsys.readouterr().out.count(" off ") == len(NAMES)
    assert main(["automate", "on", "nightly_verify", "new_scores"]) == 0
    assert "Nothing happens before 'worldline ui' runs" in capsys.readouterr().out
    assert states() == {name: name in ("nightly_verify", "new_scores") for name in EVERY}
    assert main(["automate", "on"]) == 0 and all(states().values())
    assert main(["automate", "on"]) == 0 and all(states().values()), "twice is once"
    assert main(["automate", "off", "new_scores"]) == 0
    assert states() == {name: name != "new_scores" for name in EVERY}
    assert main(["automate", "off"]) == 0 and not any(states().values())


@pytest.mark.parametrize(
    ("arguments", "line"),
    [
        (["on", "nightly_verfy"], "Unknown automation 'nightly_verfy': did you mean 'nightly_verify'?"),
        (["onn"], "Unknown action 'onn': did you mean 'on'?"),
        (["on", "dead_runs"], "Unknown automation 'dead_runs': "),
    ],
)
def test_bad_words_are_one_line_and_switch_nothing(
    arguments: list[str], line: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["automate", *arguments]) == 2
    [told] = capsys.readouterr().err.splitlines()
    assert told.startswith(line)
    assert not any(states().values())


def test_they_are_those_of_the_code_location_that_the_ui_serves() -> None:
    with open_instance():
        for path in (workspace(), ROOT / "workspace.yaml"):
            [found] = yaml.safe_load(path.read_text())["load_from"]
            assert found["python_module"]["module_name"] == MODULE
            assert found["python_module"]["location_name"] == LOCATION


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_a_daemon_obeys_at_once(tmp_path: Path) -> None:
    """Switched on before it starts, and off while it runs; its ticks say so."""
    (tmp_path / "home" / "store").mkdir(parents=True)
    with open_instance() as instance:
        switch(instance, "new_scores", on=True)
        with daemon(workspace(), tmp_path / "daemon.log"):
            wait_for(lambda: ticks(instance, "new_scores") > 0, 240)
            assert ticks(instance, "new_checkpoints") == 0
            switch(instance, "new_checkpoints", on=True)
            switch(instance, "new_scores", on=False)
            wait_for(lambda: ticks(instance, "new_checkpoints") > 0, 240)
        assert is_on(instance, "new_checkpoints") and not is_on(instance, "new_scores")


def ticks(instance: dg.DagsterInstance, name: str) -> int:
    """How often the daemon looked."""
    found = [each for each in instance.all_instigator_state() if each.instigator_name == name]
    return sum(len(instance.get_ticks(each.instigator_origin_id, each.selector_id)) for each in found)


@contextmanager
def daemon(served: Path, log: Path) -> Iterator[None]:
    """`dagster-daemon` over a workspace; nothing that it started outlives it."""
    command = [sys.executable, "-P", "-m", "dagster._daemon", "run", "-w", str(served)]
    with log.open("w") as out:
        process = subprocess.Popen(command, env=os.environ, stdout=out, stderr=out)
    try:
        yield
    finally:
        family = psutil.Process(process.pid).children(recursive=True)
        process.send_signal(signal.SIGINT)
        process.wait(60)
        for each in psutil.wait_procs(family, timeout=20)[1]:
            each.kill()
