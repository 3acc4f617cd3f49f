"""Every step of a plan has the partition key that its asset understands."""

import dagster as dg
import pytest

from assets.definitions import defs
from assets.partitions import AGENTS, EXPERIMENT, GAMES, partition_of, step_of
from pipelines.environments.registry import GAMES as ALL_GAMES
from pipelines.graph.plan import Step

KEY = "demo-1a2b3c4d"


def test_games_are_those_that_can_be_played_and_agents_those_of_dqn_replay() -> None:
    assert GAMES.get_partition_keys() == list(ALL_GAMES)
    assert len(ALL_GAMES) == 111
    assert AGENTS.get_partition_keys() == ["1", "2", "3", "4", "5"]


@pytest.mark.parametrize(
    ("step", "key"),
    [
        (Step("collected_replay", "Pong"), "Pong"),
        (Step("replay", "Pong", 2), "2|Pong"),
        (Step("segments", "Pong"), "Pong"),
        (Step("pretrained"), KEY),
        (Step("tokens", "Pong"), f"{KEY}|Pong"),
        (Step("scores", "Pong"), f"{KEY}|Pong"),
        (Step("leaderboard"), None),
    ],
    ids=str,
)
def test_partition_of_a_step_is_one_of_its_asset(step: Step, key: str | None) -> None:
    found = partition_of(step, KEY)
    assert found == key
    definition = defs.resolve_asset_graph().get(dg.AssetKey(step.stage)).partitions_def
    with dg.DagsterInstance.ephemeral() as instance:
        instance.add_dynamic_partitions(EXPERIMENT, [KEY])
        if definition is None:
            assert found is None
        else:
            assert found in definition.get_partition_keys(dynamic_partitions_store=instance)


@pytest.mark.parametrize("step", [Step("replay", "Pong", 2), Step("segments", "Pong"), Step("tokens", "Pong")], ids=str)
def test_a_partition_is_its_step_again(step: Step) -> None:
    key = partition_of(step, KEY)
    assert key is not None and step_of(step.stage, key) == step
