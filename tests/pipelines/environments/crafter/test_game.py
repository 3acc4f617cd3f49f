"""Crafter's names against those of its package, and its rules."""

import pytest
from crafter import constants

from models.spaces import Spaces
from pipelines.environments import registry
from pipelines.environments.actions import legal_mask, own_actions
from pipelines.environments.crafter.game import ACHIEVEMENTS, ACTIONS, GAME
from pipelines.errors import UsageError


def test_actions_and_achievements_are_those_of_the_package() -> None:
    assert list(ACTIONS) == constants.actions and len(ACTIONS) == 17
    assert list(ACHIEVEMENTS) == constants.achievements and len(ACHIEVEMENTS) == 22


def test_the_registry_knows_it_by_its_name_behind_the_60_of_atari() -> None:
    assert registry.GAMES[60] == GAME and registry.game_id(GAME) == 60
    assert registry.game_named("crafter") == GAME
    assert own_actions(GAME) == ACTIONS and legal_mask(GAME).all()
    assert registry.achievements(GAME) == ACHIEVEMENTS and registry.achievements("Pong") == ()
    assert (registry.task_count("Pong"), registry.task_count(GAME)) == (60, 61)


@pytest.mark.parametrize(("name", "budget"), [("crafter", 0), ("crafter_1m", 10**6), ("crafter_10m", 10**7)])
def test_protocols_differ_in_what_an_agent_may_have_seen(name: str, budget: int) -> None:
    rules = registry.protocol(name)
    assert (rules.name, rules.budget, rules.max_steps) == (name, budget, 10_000)  # type: ignore[attr-defined]
    assert registry.spaces(GAME, rules) == Spaces((64, 64, 3), registry.actions(GAME))


def test_a_budget_that_is_exceeded_is_refused() -> None:
    rules = registry.protocol("crafter_1m")
    rules.require_budget(1_000_000, "It")  # type: ignore[attr-defined]
    with pytest.raises(UsageError, match="It plays 1,000,001 steps while it learns, and crafter_1m allows 1,000,000"):
        rules.require_budget(1_000_001, "It")  # type: ignore[attr-defined]
    registry.protocol("crafter").require_budget(10**9, "It")  # type: ignore[attr-defined]


@pytest.mark.parametrize(
    ("game", "rules", "choose"),
    [
        (GAME, "iris", "crafter, crafter_1m, crafter_10m"),
        (GAME, "jowa+noise0.1", "crafter, crafter_1m, crafter_10m"),
        ("Pong", "crafter_1m", "sticky, jowa, atari100k, iris, iris-train"),
    ],
)
def test_rules_of_another_kind_are_refused(game: str, rules: str, choose: str) -> None:
    for ask in (registry.spaces, registry.roots, lambda game, rules: registry.make(game, [1], rules)):
        with pytest.raises(UsageError) as caught:
            ask(game, registry.protocol(rules))
        plain = rules.partition("+")[0]
        assert f"{game} cannot be played under '{plain}" in str(caught.value)
        assert str(caught.value).endswith(f"choose rules of its own, {choose}")


@pytest.mark.parametrize(
    ("ours", "fault"),
    [
        (Spaces((84, 84, 1), registry.actions(GAME)), "sees frames of 84x84 grey, Crafter shows 64x64 RGB"),
        (registry.spaces("Pong", registry.protocol("iris")), "chooses among 18 actions (NOOP, FIRE, UP, ...), Crafter"),
    ],
)
def test_agents_of_other_frames_or_actions_do_not_fit(ours: Spaces, fault: str) -> None:
    with pytest.raises(ValueError) as caught:
        ours.require_fit(registry.spaces(GAME, registry.protocol("crafter")), "This agent", GAME)
    assert fault in str(caught.value)
