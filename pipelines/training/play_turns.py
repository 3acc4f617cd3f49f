"""How an agent plays while it learns, and how it is looked at: parts of what the stages of learning are told.

Both are checked as they are made: a bad number or an unknown protocol is a UsageError.
"""

from dataclasses import dataclass

from models.limits import Few, Natural, Positive, Share, Size
from pipelines.environments.registry import canonical, protocol
from pipelines.errors import UsageError
from pipelines.store.stage_config import manner, option, require


@dataclass(frozen=True)
class PlayTurns:
    """How an agent plays while it learns: `steps` a round, in the first `until` rounds (0: in all), under `protocol`.

    steps 0 plays nothing. The first round plays `first_steps` (0: as many as the others) with `first_epsilon`. With
    probability epsilon an action is random, others are drawn from the actor's distribution at `temperature`.
    """

    protocol: str = "iris-train"
    steps: Natural = 200
    until: Natural = 0
    epsilon: Share = 0.01
    temperature: Positive = 1.0
    environments: Few = 1
    first_steps: Natural = 0
    first_epsilon: Share = 0.0
    truncation_ends: bool = option(False)  # a time limit is learned as the game's end, as Delta-IRIS's code has it
    rom_md5: str = option("")  # of a ROM of yours; none plays ale-py's
    rom_dir: str = manner("")  # the folder that holds it

    def __post_init__(self) -> None:
        protocol(self.protocol)
        object.__setattr__(self, "protocol", canonical(self.protocol))
        require(self, "learn.collect")
        if not self.environments:
            raise UsageError("learn.collect.environments is 0: play in at least 1")


@dataclass(frozen=True)
class CheckPlay:
    """How the agent is looked at: every so many rounds (0: never) it plays `episodes` whole ones under `protocol`.

    Its actions are drawn at `temperature`; 0 plays the likeliest. `steps` of fresh play measure the finished agent.
    """

    every: Natural = 5
    episodes: Size = 16
    max_steps: Natural = 0  # agent steps at which an episode is cut; 0 leaves it to the protocol
    temperature: Share = 0.5
    protocol: str = "iris"
    steps: Natural = 1_000

    def __post_init__(self) -> None:
        protocol(self.protocol)
        object.__setattr__(self, "protocol", canonical(self.protocol))
        require(self, "learn.check")
