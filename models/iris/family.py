"""The plug of IRIS (arXiv 2209.00588): its objectives, and where its networks are. Imports no torch."""

from models.family import Family, Frames, Objective, Segments
from models.iris.config import IrisConfig

NETWORKS = ("tokenizer", "world_model", "actor_critic")

IRIS = Family(
    name="iris",
    config=IrisConfig,
    agent="models.iris.agent:IrisAgent",
    objectives={
        "tokenizer": Objective(trains=("tokenizer",), reads=Frames(), outside=("lpips",)),
        "world_model": Objective(trains=("world_model",), reads=Segments(), outside=("gpt2",), tells_rows=True),
        "actor_critic": Objective(trains=("actor_critic",), reads=Segments(padding="left")),
    },
    planners=("actor", "greedy"),
    tokens=True,
    one_file="last.pt",
)
