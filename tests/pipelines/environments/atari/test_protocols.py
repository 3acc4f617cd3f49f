"""The named rules of play."""

import pytest

from pipelines.environments.atari.protocols import PROTOCOLS, Protocol, canonical, protocol
from pipelines.errors import UsageError


def test_sticky_is_half_an_hour_with_a_quarter_of_repeats() -> None:
    assert (protocol("sticky").sticky, protocol("sticky").max_steps) == (0.25, 27_000)


def test_jowa_has_no_sticky_actions_and_counts_agent_steps() -> None:
    assert (protocol("jowa").sticky, protocol("jowa").max_steps) == (0.0, 108_000)


def test_machado_is_another_name_of_sticky() -> None:
    assert protocol("machado") is protocol("sticky")
    assert canonical("machado") == canonical("sticky") == "sticky"
    assert canonical("jowa") == "jowa"


def test_atari100k_starts_with_no_ops_and_repeats_none() -> None:
    rules = protocol("atari100k")
    assert (rules.sticky, rules.noop_max, rules.max_steps) == (0.0, 30, 27_000)


@pytest.mark.parametrize("rules", PROTOCOLS.values(), ids=PROTOCOLS)
def test_all_rules_skip_frames_as_dopamine_and_take_minimal_actions(rules: Protocol) -> None:
    assert (rules.frame_skip, rules.full_action_space) == (4, False)
    assert rules.max_frames == rules.max_steps * 4


def test_unknown_protocol() -> None:
    with pytest.raises(UsageError, match=r"Unknown protocol 'stiky': did you mean 'sticky'\?"):
        protocol("stiky")
