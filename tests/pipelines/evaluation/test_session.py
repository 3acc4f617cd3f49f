"""A session: which episodes are still to be played, and on which ROM."""

from pathlib import Path

from pipelines.environments.atari import roms
from pipelines.environments.rollout import Episode
from pipelines.evaluation.player_settings import PlayerSettings
from pipelines.evaluation.session import EvaluationSession
from pipelines.stages.evaluate import EvaluateConfig, chance

WHO = PlayerSettings("beam", 3, 40, context=2, epsilon=0.1, width=2, horizon=2)
SEEDS = (11, 12, 13)


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
