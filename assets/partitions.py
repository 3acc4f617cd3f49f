"""How the graph is cut: by game, by game and agent, by experiment, by experiment and game.

Games are static, a list in git that can be reviewed. Experiments are dynamic: `<name>-<8 hex>`, added when they are
registered. Checkpoint files inside a replay are rows of a manifest, not partitions.
"""

import dagster as dg

from pipelines.environments.registry import GAMES as ALL_GAMES
from pipelines.graph import table
from pipelines.graph.plan import Step
from pipelines.sources.dqn_replay.listing import AGENTS as ALL_AGENTS

GAMES = dg.StaticPartitionsDefinition(list(ALL_GAMES))
AGENTS = dg.StaticPartitionsDefinition([str(number) for number in ALL_AGENTS])
GAME_AGENT = dg.MultiPartitionsDefinition({"game": GAMES, "agent": AGENTS})
EXPERIMENT = "experiment"
EXPERIMENTS = dg.DynamicPartitionsDefinition(name=EXPERIMENT)
EXPERIMENT_GAME = dg.MultiPartitionsDefinition({"experiment": EXPERIMENTS, "game": GAMES})


def partition_of(step: Step, experiment: str) -> str | None:
    """The partition key under which Dagster knows a step of an experiment; None for an asset without partitions."""
    parts = {"experiment": experiment, "game": step.game, "agent": step.agent}
    dimensions = table.stage(step.stage).per.split()
    if not dimensions:
        return None
    if len(dimensions) == 1:
        return str(parts[dimensions[0]])
    return dg.MultiPartitionKey({name: str(parts[name]) for name in dimensions})


def step_of(stage: str, key: str) -> Step:
    """The step that a partition of a stage's asset is."""
    dimensions = table.stage(stage).per.split()
    parts = dict(key.keys_by_dimension) if isinstance(key, dg.MultiPartitionKey) else {dimensions[0]: str(key)}
    agent = int(parts["agent"]) if "agent" in parts else None
    return Step(stage, parts.get("game"), agent)
