"""A session: which episodes are still to be played, with which seeds, on which ROM; and its log of finished ones."""

import json
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pipelines.environments.atari import roms
from pipelines.environments.registry import emulator_seeds
from pipelines.environments.rollout import Episode
from pipelines.errors import WorldlineError
from pipelines.evaluation import session as session_module
from pipelines.evaluation.player_settings import PlayerSettings
from pipelines.evaluation.session import EpisodeLog, EvaluationSession, reported_seeds, selection_seeds, summary
from pipelines.stages.evaluate import EvaluateConfig, chance, spread

UNDER = {"protocol": "jowa", "emulator": "ale-py 1"}
FIRST, SECOND = Episode(0, 7, 2.5, 1.0, 3, "terminated", b"\1\2\3"), Episode(4, 9, -1.0, -1.0, 2, "limit", b"\0\5")
WHO = PlayerSettings("beam", 3, 40, context=2, epsilon=0.1, width=2, horizon=2)
SEEDS = (11, 12, 13)
ANY_SEED = st.integers(0, 2**32 - 1)


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


def test_only_what_the_log_lacks_is_to_be_played(tmp_path: Path) -> None:
    session = EvaluationSession.of("Pong", "machado", tmp_path, envs=2)
    table = session.table(WHO, SEEDS)
    assert (table.game, table.seeds, table.rows, table.max_steps) == ("Pong", {0: 11, 1: 12, 2: 13}, 2, 40)
    episode = Episode(1, 12, 3.0, 1.0, 2, "terminated", b"\0\1")
    table.finished(episode)
    assert session.table(WHO, SEEDS).seeds == {0: 11, 2: 13}
    assert session.played(WHO, SEEDS) == [episode]
    assert '"width": 2' in session.log.path.read_text() and '"protocol": "sticky"' in session.log.path.read_text()
    assert session.played(WHO, (11, 99, 13)) == []  # another seed is another episode
    assert session.played(WHO, SEEDS[:1]) == []


def test_chance_has_no_settings(tmp_path: Path) -> None:
    who = chance(EvaluateConfig(game="Pong", random_episodes=2, max_steps=9))
    assert (who.planner, who.episodes, who.max_steps, who.settings()) == ("random", 2, 9, {})


def test_what_was_played_is_written_down(tmp_path: Path) -> None:
    root = EvaluationSession.of("Pong", "atari100k", tmp_path).root()
    assert (root["game"], root["protocol"], root["noop_max"], root["sticky"]) == ("Pong", "atari100k", 30, 0.0)
    assert root["rom_md5"] == roms.shipped("Pong").md5 and root["emulator"].startswith("ale-py ")


def test_a_single_episode_has_no_spread() -> None:
    episodes = [Episode(number, number, score, 1.0, 9, "terminated") for number, score in enumerate((3.0, 5.0))]
    one, two = summary(episodes[:1]), summary(episodes)
    assert (one["std"], two["std"]) == (None, 1.4142)
    assert (spread(one), spread(two)) == ("3.0", "4.0 ± 1.4")
    assert spread({**one, "std": 0.0}) == "3.0", "as earlier versions wrote it"
    assert spread(summary([episodes[0], episodes[0]])) == "3.0 ± 0.0"  # two that are equal


@given(ANY_SEED, st.integers(0, 40), st.data())
def test_reported_seeds_are_the_emulators_without_the_spent(seed: int, count: int, data: st.DataObject) -> None:
    known = emulator_seeds(seed, count + 9)
    spent = data.draw(st.lists(st.sampled_from(known), max_size=9))
    found = reported_seeds(seed, count, spent)
    assert found == tuple(word for word in known if word not in spent)[:count]
    assert len(found) == count
    assert reported_seeds(seed, count) == known[:count]


@given(ANY_SEED, ANY_SEED, st.integers(1, 20))
def test_what_was_selected_on_is_not_reported_whatever_the_seeds(ours: int, theirs: int, count: int) -> None:
    spent = selection_seeds(ours, count)
    assert not set(spent) & set(reported_seeds(theirs, 30, spent))
    assert all(0 <= word < 2**31 for word in spent)
    assert selection_seeds(ours, count + 3)[:count] == spent


def test_an_equal_seed_gives_the_search_other_episodes() -> None:
    assert not set(selection_seeds(7, 50)) & set(emulator_seeds(7, 50))


def test_streams_that_meet_are_told_apart(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(session_module, "emulator_seeds", lambda seed, count: selection_seeds(seed, count))
    spent = selection_seeds(3, 4)
    assert reported_seeds(3, 2, spent) == selection_seeds(3, 6)[4:]
