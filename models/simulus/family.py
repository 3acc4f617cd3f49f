"""The plug of Simulus (arXiv 2502.11537): its objectives, and where its networks are. Imports no torch."""

from models.family import Family
from models.practice.config import objectives
from models.simulus.config import SimulusConfig

SIMULUS = Family(
    name="simulus",
    config=SimulusConfig,
    agent="models.simulus.agent:SimulusAgent",
    objectives=objectives(),
    planners=("actor", "greedy", "rollouts"),
    tokens=True,
    one_file="last.pt",
)
