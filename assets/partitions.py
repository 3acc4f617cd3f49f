"""How the graph is cut: by game, by game and agent, by experiment, by experiment and game.

Games are static, a list in git that can be reviewed. Experiments are dynamic: `<name>-<8 hex>`, added when they are
registered. Checkpoint files inside a replay are rows of a manifest, not partitions.
"""

import dagster as dg

from pipelines.environments.registry import GAMES as ALL_GAMES
from pipelines.graph.plan import DATA_STAGES, Step

GAMES = dg.StaticPartitionsDefinition(list(ALL_GAMES))
AGENTS = dg.StaticPartitionsDefinition(["1", "2", "3", "4", "5"])
GAME_AGENT = dg.MultiPartitionsDefinition({"game": GAMES, "agent": AGENTS})
EXPERIMENT = "experiment"
EXPERIMENTS = dg.DynamicPartitionsDefinition(name=EXPERIMENT)
EXPERIMENT_GAME = dg.MultiPartitionsDefinition({"experiment": EXPERIMENTS, "game": GAMES})


def partition_of(step: Step, experiment: str) -> str | None:
    """The partition key under which Dagster knows a step of an experiment; None for an asset without partitions."""
    if step.agent is not None:
        return dg.MultiPartitionKey({"game": str(step.game), "agent": str(step.agent)})
    if step.stage in DATA_STAGES:
        return step.game
    if step.game is not None:
        return dg.MultiPartitionKey({"experiment": experiment, "game": step.game})
    return None if step.stage == "leaderboard" else experiment


def dimensions(key: str) -> dict[str, str]:
    """A two-dimensional partition key as {dimension: value}. Raises TypeError for any other key."""
    if not isinstance(key, dg.MultiPartitionKey):
        raise TypeError(f"partition key '{key}' has one dimension")
    return dict(key.keys_by_dimension)
