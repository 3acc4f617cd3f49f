"""The plug of IRIS (arXiv 2209.00588): its objectives, and where its networks are. Imports no torch."""

from models.family import Family
from models.iris.config import IrisConfig
from models.practice.config import objectives

IRIS = Family(
    name="iris",
    config=IrisConfig,
    agent="models.iris.agent:IrisAgent",
    objectives=objectives(world_outside=("gpt2",)),
    planners=("actor", "greedy", "rollouts"),
    tokens=True,
    one_file="last.pt",
)
