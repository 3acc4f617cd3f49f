"""The named rules of play."""

import pytest

from pipelines.environments.atari.protocols import PROTOCOLS, AtariRules


def test_sticky_is_half_an_hour_with_a_quarter_of_repeats() -> None:
    assert (PROTOCOLS["sticky"].sticky, PROTOCOLS["sticky"].max_steps) == (0.25, 27_000)


def test_jowa_has_no_sticky_actions_and_counts_agent_steps() -> None:
    assert (PROTOCOLS["jowa"].sticky, PROTOCOLS["jowa"].max_steps) == (0.0, 108_000)


def test_atari100k_starts_with_no_ops_and_repeats_none() -> None:
    rules = PROTOCOLS["atari100k"]
    assert (rules.sticky, rules.noop_max, rules.max_steps) == (0.0, 30, 27_000)


@pytest.mark.parametrize("rules", PROTOCOLS.values(), ids=PROTOCOLS)
def test_all_rules_skip_frames_as_dopamine_and_take_minimal_actions(rules: AtariRules) -> None:
    assert (rules.frame_skip, rules.full_action_space) == (4, False)
    assert rules.max_frames == rules.max_steps * 4


def test_iris_plays_64x64_rgb_and_lives_end_episodes_in_training_alone() -> None:
    test, train = PROTOCOLS["iris"], PROTOCOLS["iris-train"]
    assert test.frame == train.frame == (64, 64, 3) and PROTOCOLS["jowa"].frame == (84, 84, 1)
    assert (test.life_loss, test.max_steps, train.life_loss, train.max_steps) == (False, 27_000, True, 5_000)
    assert not any(rules.life_loss for name, rules in PROTOCOLS.items() if name != "iris-train")


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"resize": "nearest"}, "Resize 'nearest' is unknown: choose area or bilinear"),
        ({"noop_min": 1}, "No-ops from 1 to below 0 cannot be drawn"),
        ({"noop_min": 5, "noop_max": 5}, "noop_min must be below noop_max"),
        ({"noop_min": -1}, "cannot be drawn"),
    ],
)
def test_impossible_rules_are_refused(changes: dict[str, object], words: str) -> None:
    with pytest.raises(ValueError, match=words):
        AtariRules("test", 0.0, **changes)
