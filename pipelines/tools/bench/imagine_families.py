"""Imagined frames a second of REM, Simulus and IRIS at about equal parameters: rows of `worldline bench imagine`.

World models alone with random weights and about 4.7 million parameters each, the size of REM's: Simulus with half its
layers and no ensemble, IRIS with fewer and narrower layers. Each imagines one rollout of the same number of frames
from its own context, drawing what it imagines; IRIS's frames have 16 tokens, those of the others 64. No aim was set.
"""

from collections.abc import Callable
from dataclasses import dataclass, replace

import torch

from models.api import Moment
from models.iris.config import IrisConfig
from models.iris.config import WorldModelConfig as IrisWorldConfig
from models.iris.world import player_of
from models.iris.world_model import WorldModel as IrisWorld
from models.practice.draws import Sampled
from models.practice.world import RememberingPlayer
from models.rem.agent import RemAgent
from models.rem.config import RemConfig
from models.simulus.agent import SimulusAgent
from models.simulus.config import SimulusConfig
from models.tokenizers.config import TokenizerConfig
from pipelines.progress import say
from pipelines.tools.bench.row import Row
from pipelines.tools.bench.train import Taken, in_turns

REM = RemConfig()
SIMULUS = replace(SimulusConfig(), world_model=replace(SimulusConfig().world_model, layers=5, ensemble=0))
IRIS = replace(IrisConfig(), world_model=IrisWorldConfig(layers=5, heads=4, width=256))


@dataclass(frozen=True)
class FamilySizes:
    """What is measured: the networks, rows of a rollout, its frames, and how often."""

    rem: RemConfig = REM
    simulus: SimulusConfig = SIMULUS
    iris: IrisConfig = IRIS
    rows: int = 128
    frames: int = 8
    rounds: int = 1


@dataclass(frozen=True)
class Side:
    """A family's world model as it is played."""

    name: str
    parameters: int
    player: RememberingPlayer
    tokenizer: TokenizerConfig
    context: int
    actions: int

    def rollout(self, rows: int, frames: int) -> Callable[[], None]:
        """Imagines so many frames of so many rows when it is called."""
        drawn = torch.Generator().manual_seed(0)
        shape = (rows, self.context, self.tokenizer.tokens_per_frame)
        tokens_NCK = torch.randint(0, self.tokenizer.vocab_size, shape, generator=drawn)
        actions_NS = torch.randint(0, self.actions, (rows, self.context + frames), generator=drawn)

        def imagine() -> None:
            self.player.follow(tokens_NCK, actions_NS[:, : self.context - 1])
            draw = Sampled(0, "bench", Moment(step=0))
            for step in range(frames):
                self.player.step(actions_NS[:, self.context - 1 + step], draw)

        return imagine


def sides(sizes: FamilySizes) -> list[Side]:
    """REM, Simulus and IRIS."""
    rem, simulus, iris = RemAgent(sizes.rem), SimulusAgent(sizes.simulus), sizes.iris
    world = IrisWorld(iris.world_model)
    for network in (rem.world_model, simulus.world_model, world):
        network.eval()
    played = (
        ("REM", rem.world_model, rem.player(), sizes.rem, sizes.rem.world_model.context),
        ("Simulus", simulus.world_model, simulus.player(), sizes.simulus, sizes.simulus.world_model.context),
        ("IRIS", world, player_of(world), iris, 1),
    )
    return [
        Side(name, _size(network), player, config.tokenizer, context, config.world_model.num_actions)
        for name, network, player, config, context in played
    ]


def family_rows(sizes: FamilySizes) -> list[Row]:
    """REM and Simulus, each against IRIS."""
    say("Imagining with REM, Simulus and IRIS of one size ...")
    found = sides(sizes)
    taken = in_turns(sizes.rounds, *(side.rollout(sizes.rows, sizes.frames) for side in found))
    (*ours, iris), (*times, theirs) = found, taken
    return [_row(sizes, side, time, iris, theirs) for side, time in zip(ours, times, strict=True)]


def _row(sizes: FamilySizes, side: Side, ours: Taken, iris: Side, theirs: Taken) -> Row:
    frames = sizes.rows * sizes.frames

    def text(each: Side, taken: Taken) -> str:
        size = f"{each.parameters / 1e6:.2f} M parameters, {each.tokenizer.tokens_per_frame} tokens a frame"
        return f"{frames / taken.wall:.0f} frames/s, {frames / taken.cpu:.0f} by CPU ({size})"

    return Row(
        f"{side.name.lower()}-frames",
        f"imagined frames of {side.name}, {sizes.rows} rows, float32",
        "IRIS of about as many parameters",
        text(side, ours),
        text(iris, theirs),
        theirs.wall / ours.wall,
        None,
        theirs.cpu / ours.cpu,
    )


def _size(network: torch.nn.Module) -> int:
    return sum(parameter.numel() for parameter in network.parameters())
