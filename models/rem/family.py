"""The plug of REM (arXiv 2402.05643): its objectives, and where its networks are. Imports no torch."""

from models.family import Family
from models.practice.config import objectives
from models.rem.config import RemConfig

REM = Family(
    name="rem",
    config=RemConfig,
    agent="models.rem.agent:RemAgent",
    objectives=objectives(),
    planners=("actor", "greedy", "rollouts"),
    tokens=True,
    one_file="last.pt",
)
