"""The log: what was added is found, what a kill tore off or other circumstances made is not."""

import json
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pipelines.environments.rollout import Episode
from pipelines.errors import WorldlineError
from pipelines.evaluation.episode_log import EpisodeLog

UNDER = {"protocol": "jowa", "emulator": "ale-py 1"}
FIRST, SECOND = Episode(0, 7, 2.5, 1.0, 3, "terminated", b"\1\2\3"), Episode(4, 9, -1.0, -1.0, 2, "limit", b"\0\5")


@pytest.fixture
def log(tmp_path: Path) -> EpisodeLog:
    return EpisodeLog(tmp_path, UNDER)


def test_what_was_added_is_found_by_its_planner(log: EpisodeLog) -> None:
    assert log.found("beam") == {}
    log.add("beam", {"width": 2}, FIRST)
    log.add("greedy", {}, SECOND)
    assert log.found("beam") == {0: FIRST}
    assert log.found("greedy") == {4: SECOND}
    assert '"settings": {"width": 2}' in log.path.read_text()


def test_other_circumstances_do_not_count(log: EpisodeLog) -> None:
    log.add("beam", {}, FIRST)
    assert EpisodeLog(log.folder, UNDER | {"emulator": "ale-py 2"}).found("beam") == {}


def test_what_was_played_again_is_published_once(log: EpisodeLog) -> None:
    log.add("beam", {}, FIRST)
    now = EpisodeLog(log.folder, UNDER | {"emulator": "ale-py 2"})
    now.add("beam", {}, FIRST)
    now.add("beam", {}, SECOND)
    now.add("beam", {}, FIRST)  # its actions had been lost
    lines = now.text({"beam": [FIRST, SECOND], "random": []}).splitlines()
    assert [json.loads(line)["episode"] for line in lines] == [4, 0]
    assert set(lines) < set(now.path.read_text().splitlines()) and all("ale-py 2" in line for line in lines)


def test_an_episode_without_its_actions_does_not_count(log: EpisodeLog) -> None:
    log.add("beam", {}, FIRST)
    log.actions_path("beam", 0).write_bytes(b"\1\2")
    assert log.found("beam") == {}


def test_a_damaged_line_is_named_and_not_skipped(log: EpisodeLog) -> None:
    log.add("beam", {}, FIRST)
    log.path.write_bytes(log.path.read_bytes().replace(b"{", b"\xff", 1))
    with pytest.raises(WorldlineError, match=r"episodes\.jsonl holds a damaged line .*: delete that file"):
        log.found("beam")


@settings(deadline=None)  # the log waits for the disk
@given(cut=st.integers(0, 400))
def test_wherever_a_line_was_torn_the_log_goes_on(cut: int, tmp_path_factory: pytest.TempPathFactory) -> None:
    log = EpisodeLog(tmp_path_factory.mktemp("log"), UNDER)
    log.add("beam", {}, FIRST)
    log.add("beam", {}, SECOND)
    raw = log.path.read_bytes()
    log.path.write_bytes(raw[:cut])
    whole = raw[:cut].count(b"\n")
    assert list(log.found("beam").values()) == [FIRST, SECOND][:whole]
    log.add("beam", {}, SECOND)
    assert log.found("beam")[4] == SECOND
