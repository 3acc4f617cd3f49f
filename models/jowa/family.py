"""The plug of JOWA (arXiv 2410.00564): its objectives, and where its networks are. Imports no torch."""

from models.family import Family, Frames, Objective, Segments
from models.jowa.config import JowaAgentConfig

JOWA = Family(
    name="jowa",
    config=JowaAgentConfig,
    agent="models.jowa.agent:JowaAgent",
    objectives={
        "tokenizer": Objective(trains=("tokenizer",), reads=Frames(), outside=("lpips",)),
        "world": Objective(trains=("model",), reads=Segments()),
        "world_action": Objective(trains=("model",), reads=Segments()),
    },
    planners=("greedy", "beam", "mcts", "gumbel", "rollouts"),
    tokens=True,
)
