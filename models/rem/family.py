"""The plug of REM (arXiv 2402.05643): its objectives, and where its networks are. Imports no torch."""

from models.family import Family, Frames, Objective, Segments
from models.rem.config import RemConfig

NETWORKS = ("tokenizer", "world_model", "actor_critic")

REM = Family(
    name="rem",
    config=RemConfig,
    agent="models.rem.agent:RemAgent",
    objectives={
        "tokenizer": Objective(trains=("tokenizer",), reads=Frames(), outside=("lpips",)),
        "world_model": Objective(trains=("world_model",), reads=Segments(), tells_rows=True),
        "actor_critic": Objective(trains=("actor_critic",), reads=Segments(padding="left")),
    },
    planners=("actor", "greedy"),
    tokens=True,
    one_file="last.pt",
)
