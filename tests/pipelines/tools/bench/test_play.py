"""The bench of play: every mode of both families is timed, and a table says so."""

import json

import pytest

from models.family import AgentConfig
from pipelines.cli import run as worldline
from pipelines.recipes.demo import mini
from pipelines.stages.train import PretrainConfig
from pipelines.tools.bench import play
from tests.pipelines.stages.test_learn_iris import NETWORKS


@pytest.mark.slow
@pytest.mark.parametrize("config", [mini().of(PretrainConfig).networks, NETWORKS], ids=["jowa", "iris"])
def test_every_mode_and_planner_is_timed(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture, config: AgentConfig
) -> None:
    monkeypatch.setitem(play.MODELS, "demo", lambda: config)
    assert worldline(["bench", "play", "--quick", "--json"]) == 0
    found = {each["mode"]: each for each in json.loads(capsys.readouterr().out)}
    planners = ("greedy", "beam", "mcts") if config.family == "jowa" else ("actor",)
    assert {f"agent in the game, {planner}" for planner in planners} < set(found)
    assert {"you in the game", "you in the world model", "model against game"} < set(found)
    assert all(each["median"] >= each["slow"] > 0 and each["cpu"] > 0 for each in found.values())


def test_a_table_says_whether_the_games_own_pace_is_kept(capsys: pytest.CaptureFixture) -> None:
    text = play.table([play.Speed("dream", 9.0, 14.94, 4.0)])
    assert text.splitlines()[-1] == "| dream | 9.0 | 14.9 | 4.0 | NO |"
    assert worldline(["bench", "play", "--model", "huge"]) == 2
    assert "Unknown model 'huge': choose one of 40m, demo, iris" in capsys.readouterr().err
