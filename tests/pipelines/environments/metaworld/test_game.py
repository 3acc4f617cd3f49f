"""Meta-world's names, how people type them, and its rules."""

import pytest

from models.spaces import Box, Spaces
from pipelines.environments import registry
from pipelines.environments.actions import legal_mask, own_actions
from pipelines.environments.metaworld.game import ACHIEVEMENTS, APV_TASKS, CAMERAS, PROTOCOLS, TASKS, MetaworldRules
from pipelines.errors import UsageError, WorldlineError


def test_tasks_are_those_of_the_package(metaworld_here: str) -> None:
    from metaworld.env_dict import ALL_V3_ENVIRONMENTS

    assert sorted(ALL_V3_ENVIRONMENTS) == sorted(f"{task}-v3" for task in TASKS) and len(TASKS) == 50


def test_the_registry_knows_them_behind_crafter() -> None:
    assert list(TASKS) == sorted(TASKS)
    assert registry.GAMES[61:] == TASKS and registry.task_count("reach") == 111
    assert registry.GROUPS["metaworld"] == TASKS and registry.GROUPS["metaworld_apv"] == APV_TASKS
    assert set(APV_TASKS) <= set(TASKS) and len(APV_TASKS) == 6
    assert registry.actions("reach") == Box(4) and registry.achievements("reach") == ACHIEVEMENTS == ("success",)


@pytest.mark.parametrize(
    "text",
    ["drawer-open", "drawer_open", "Drawer Open", "drawer-open-v3", "metaworld_drawer_open", "metaworld-drawer-open",
     "Meta-World/drawer-open-v3", "meta-world drawer open", "metaworld_drawer_open-v2"],
)  # fmt: skip
def test_a_task_is_understood_as_people_type_it(text: str) -> None:
    assert registry.game_named(text) == "drawer-open"


@pytest.mark.parametrize("text", ["drawer-opn", "metaworld_drawer_opn", "DRAWER-OPNE"])
def test_an_unknown_task_is_refused_with_the_nearest(text: str) -> None:
    with pytest.raises(UsageError, match=f"^Unknown game '{text}': did you mean 'drawer-open'"):
        registry.game_named(text)


@pytest.mark.parametrize("name", PROTOCOLS)
def test_protocols_show_64x64_for_500_steps(name: str) -> None:
    rules = registry.protocol(name)
    assert isinstance(rules, MetaworldRules) and (rules.name, rules.max_steps) == (name, 500)
    assert registry.spaces("reach", rules) == Spaces((64, 64, 3), Box(4))
    fast = (rules.shadows, rules.samples, rules.reflections) == (0, 0, False)
    assert fast == ("fast" in name or "coarse" in name) and (rules.detail > 0) == ("coarse" in name)
    assert (rules.camera == "corner4") == ("corner4" in name)


@pytest.mark.parametrize(("game", "rules"), [("reach", "iris"), ("reach", "crafter"), ("Pong", "metaworld")])
def test_rules_of_another_kind_are_refused(game: str, rules: str) -> None:
    with pytest.raises(UsageError, match=f"{game} cannot be played under '{rules}': choose rules of its own"):
        registry.spaces(game, registry.protocol(rules))


def test_what_has_no_numbers_of_actions_says_so() -> None:
    with pytest.raises(WorldlineError, match="reach is played with 4 numbers an action, which have no names"):
        own_actions("reach")
    assert legal_mask("reach").shape == (0,)
    with pytest.raises(UsageError, match="reach has no published replay"):
        registry.require_replay("reach")


@pytest.mark.parametrize(
    ("given", "fault"),
    [
        ({"camera": "corner5"}, f"Unknown camera 'corner5': choose one of {', '.join(CAMERAS)}"),
        ({"camera": "../corner"}, "Unknown camera '../corner'"),
        ({"size": 0}, "Rules 'odd' have size 0: give 1 to 1024"),
        ({"shadows": -1}, "Rules 'odd' have shadows -1: give 0 to 8192"),
        ({"samples": 99}, "Rules 'odd' have samples 99: give 0 to 16"),
        ({"detail": 0.5}, "Rules 'odd' have detail 0.5: give 0 to 0.1"),
        ({"max_steps": 0}, "Rules 'odd' have max_steps 0: give 1 to 1000000"),
    ],
)
def test_impossible_rules_are_refused(given: dict[str, int], fault: str) -> None:
    with pytest.raises(UsageError) as caught:
        MetaworldRules("odd", **given)  # type: ignore[arg-type]
    assert str(caught.value).startswith(fault)
