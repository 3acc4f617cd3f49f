"""The plug of Delta-IRIS (arXiv 2406.19320): its objectives, and where its networks are. Imports no torch."""

from models.delta_iris.config import DeltaIrisConfig
from models.family import Family, Objective, Segments

NETWORKS = ("tokenizer", "world_model", "actor_critic")

DELTA_IRIS = Family(
    name="delta_iris",
    config=DeltaIrisConfig,
    agent="models.delta_iris.agent:DeltaIrisAgent",
    objectives={
        "tokenizer": Objective(trains=("tokenizer",), reads=Segments(padding="both")),
        "world_model": Objective(trains=("world_model",), reads=Segments(padding="both"), tells_rows=True),
        "actor_critic": Objective(trains=("actor_critic",), reads=Segments(padding="left", anywhere=True)),
    },
    planners=("actor", "greedy", "rollouts"),
    one_file="last.pt",
)
