"""From a config to planners with every number resolved."""

import re
from dataclasses import replace
from types import SimpleNamespace

import pytest

from models.api import Limits
from models.jowa.config import JowaAgentConfig
from models.planning.beam import Beam, Greedy
from models.planning.mcts import Mcts
from models.planning.rollouts import Rollouts
from models.registry import FAMILIES
from pipelines.environments.registry import protocol
from pipelines.errors import UsageError
from pipelines.evaluation.player_settings import (
    WHAT_PLANNERS_DO,
    WHEN_SEARCH_LOSES,
    PlayerSettings,
    SearchConfig,
    told_of,
)
from pipelines.evaluation.players import planner
from pipelines.stages.evaluate import EvaluateConfig, roster


def replace_limits(games: int) -> SimpleNamespace:
    return SimpleNamespace(config=JowaAgentConfig(), limits=Limits(games, 8), spaces=None)


AGENT = replace_limits(60)
RULES = protocol("jowa")


def test_a_planner_gets_all_its_settings() -> None:
    search = SearchConfig("mean", 9, 0.5, "visits", sample=True, gain="expected", hold=2)
    config = EvaluateConfig(game="Pong", beam_width=3, beam_horizon=4, search=search)
    built = [planner(roster(replace(config, planner=name))[0]) for name in ("greedy", "beam", "mcts", "rollouts")]
    tree = Mcts(9, 3, 4, 0.5, "mean", "visits", resample=True, gain="expected")
    assert built == [Greedy(), Beam(3, 4, "mean", "expected"), tree, Rollouts(3, 4, "mean", "expected", 2)]
    assert planner(roster(replace(config, planner="mcts", search=SearchConfig()))[0]) == Mcts(width=3, horizon=4)


def test_what_a_planner_does_not_read_is_not_among_its_settings() -> None:
    config = EvaluateConfig(game="Pong", context=3)
    planners = ("greedy", "beam", "mcts", "rollouts")
    names = {name: set(roster(replace(config, planner=name))[0].settings()) for name in planners}
    assert names["greedy"] == {"context", "epsilon"}
    assert names["mcts"] - names["beam"] == {"simulations", "temperature", "choice"}
    assert names["beam"] - names["greedy"] == {"width", "horizon", "leaf", "sample"}
    assert names["rollouts"] == names["beam"]
    held = replace(config, search=SearchConfig(gain="expected", hold=3))
    more = {name: set(roster(replace(held, planner=name))[0].settings()) - names[name] for name in planners}
    assert more == {"greedy": set(), "beam": {"gain"}, "mcts": {"gain"}, "rollouts": {"gain", "hold"}}


def test_a_beam_search_beside_the_planner_has_its_own_episodes() -> None:
    config = EvaluateConfig(game="Pong", episodes=9, max_steps=70, beam_episodes=2)
    assert [(each.planner, each.episodes, each.max_steps) for each in roster(config)] == [
        ("greedy", 9, 70), ("beam", 2, 70),
    ]  # fmt: skip
    assert roster(replace(config, beam_steps=30))[1].max_steps == 30
    assert [each.planner for each in roster(replace(config, beam_episodes=0))] == ["greedy"]


def test_tuned_numbers_stand_for_the_configs_where_there_are_any() -> None:
    config = EvaluateConfig(game="Seaquest", planner="beam", settings="jowa_150m")
    (found,) = roster(config)
    assert (found.context, found.width, found.horizon) == (6, 4, 2)
    (other,) = roster(replace(config, game="Pong"))
    assert (other.context, other.width) == (4, 2)


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        (PlayerSettings("mcts", 1, 0, 7, 0.0, 2, 2), "7 steps and a mcts horizon of 2 is more than the 8 steps"),
        (PlayerSettings("greedy", 1, 0, 9, 0.0), "A context of 9 steps is more than the 8 steps"),
    ],
)
def test_a_planner_that_looks_beyond_the_model_is_refused(settings: PlayerSettings, words: str) -> None:
    with pytest.raises(UsageError, match=re.escape(words)):
        settings.require_fit("Pong", AGENT, RULES)


def test_an_agent_without_a_value_of_states_cannot_be_searched_by_one() -> None:
    settings = PlayerSettings("rollouts", 1, 0, 2, 0.0, 2, 2, SearchConfig(leaf="state"))
    with pytest.raises(UsageError, match="learned no value of states: train with"):
        settings.require_fit("Pong", AGENT, RULES)
    learned = JowaAgentConfig(model=replace(JowaAgentConfig().model, state_value=1.0))
    settings.require_fit("Pong", SimpleNamespace(config=learned, limits=AGENT.limits, spaces=None), RULES)  # type: ignore[arg-type]


@pytest.mark.parametrize("family", ["iris", "rem", "simulus", "delta_iris"])
def test_an_actor_is_searched_by_its_critic(family: str) -> None:
    agent = SimpleNamespace(config=FAMILIES[family].config(family), limits=Limits(60, 20), spaces=None)
    rules = protocol("iris")

    def fit(planner: str = "rollouts", **search: object) -> None:
        settings = PlayerSettings(planner, 1, 0, 2, 0.0, 2, 2, SearchConfig(**search))  # type: ignore[arg-type]
        settings.require_fit("Pong", agent, rules)  # type: ignore[arg-type]

    fit(leaf="state")
    fit(leaf="none", hold=2)
    for wrong in ({"leaf": "max"}, {"leaf": "state", "gain": "expected"}, {"leaf": "none", "sample": True}):
        with pytest.raises(UsageError, match="value states and no actions"):
            fit(**wrong)
    with pytest.raises(UsageError, match="cannot play by beam: choose from actor, greedy, rollouts"):
        fit("beam", leaf="state")


def test_a_planner_that_the_family_cannot_use_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(FAMILIES, "jowa", replace(FAMILIES["jowa"], planners=("greedy",)))
    with pytest.raises(UsageError, match="Agents of the family 'jowa' cannot play by beam: choose from greedy"):
        PlayerSettings("beam", 1, 0, 2, 0.0, 2, 2).require_fit("Pong", AGENT, RULES)


def test_a_game_that_the_model_cannot_name_is_refused() -> None:
    settings = PlayerSettings("greedy", 1, 0, 8, 0.0)
    settings.require_fit("Zaxxon", AGENT, RULES)
    with pytest.raises(UsageError, match="This model names 5 games and Zaxxon is number 59"):
        settings.require_fit("Zaxxon", replace_limits(5), RULES)


def test_planners_are_told_in_words_and_a_search_beside_greedy_play_is_judged_fairly() -> None:
    assert told_of(["greedy"]) == "greedy takes what the agent holds best, without looking ahead."
    assert "beam looks ahead" in told_of(["beam"]) and WHEN_SEARCH_LOSES not in told_of(["beam"])
    assert told_of(["beam", "greedy", "random"]).endswith(WHEN_SEARCH_LOSES)
    assert told_of(["random", "not stated"]) == ""
    assert set(WHAT_PLANNERS_DO) == {name for each in FAMILIES.values() for name in each.planners}
