"""A family without a tokenizer, for tests: a world model of coarse pictures and an actor that imitates. No torch."""

from dataclasses import dataclass

from models.family import AgentConfig, Family, Objective, Segments


@dataclass(frozen=True)
class ToyConfig(AgentConfig):
    """Frames of `channels` x `height` x `width` pixels, seen as `grid` x `grid` cells a channel."""

    family: str = "toy"
    channels: int = 1
    height: int = 84
    width: int = 84
    grid: int = 6
    hidden: int = 16


TOY = Family(
    name="toy",
    config=ToyConfig,
    agent="tests.models.toy_family.agent:ToyAgent",
    objectives={
        "dynamics": Objective(trains=("world",), reads=Segments(), tells_rows=True),
        "imitation": Objective(trains=("actor",), reads=Segments()),
    },
)
