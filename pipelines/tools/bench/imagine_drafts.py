"""IRIS's imagination with frames drafted and verified against token by token, of an experiment's checkpoint.

`worldline bench plan --experiment mini --environments 32` prints these rows. From real frames of recorded episodes a
checkpoint imagines as it practises: from one frame, drawn, as many steps as its rollouts have, actions in turns. So
does a world model of the same sizes with fresh weights, whose tokens hardly depend on others: the frame before is no
draft, but what a pass said is. Both ways imagine in turns in one process, on 2 threads, and what they imagine must be
the same but for rounding.

Shapes: N environments, n of them at once; K tokens a frame.
"""

import statistics
from collections.abc import Iterator, Sequence

import torch
from torch import Tensor

from models.api import Context, Moment
from models.iris.agent import IrisAgent
from models.iris.world import DraftingPlayer
from models.iris.world_model import WorldModel
from models.practice.draws import Sampled
from pipelines.errors import UsageError
from pipelines.progress import say
from pipelines.tools.bench.row import Row
from pipelines.tools.bench.train import THREADS, Taken, in_turns, threads

FEW = 3  # environments that imagine each alone, and all at once


class Way:
    """One way of imagining `steps` steps on from each group of frames; `found` is the last frame of all rows."""

    def __init__(self, model: WorldModel, drafts: bool, groups: Sequence[Tensor], steps: int) -> None:
        self._player, self._groups, self._steps = DraftingPlayer(model, drafts), groups, steps
        self.found, self.passes = torch.empty(0), list[int]()

    def __call__(self) -> None:
        """All of them, the same each time."""
        found: list[Tensor] = []
        for frames_nK in self._groups:
            self._player.reset(frames_nK)
            for step in range(self._steps):
                here = self._player.step(torch.full_like(frames_nK[:, 0], step % 3), Sampled(0, "bench", Moment(step)))
                self.passes.append(self._player.remembered.passes)
            assert here.tokens_NK is not None
            found.append(here.tokens_NK)
        self.found = torch.cat(found)


def run(agent: IrisAgent, whole: Context, rounds: int = 3) -> list[Row]:
    """All rows, of the checkpoint and of random weights. Raises UsageError where its world model is no transformer."""
    if not isinstance(agent.world_model, WorldModel):
        raise UsageError("A neural circuit drafts nothing: name an experiment with world_model.kind=transformer")
    newest_NK, steps = whole.tokens_NCK[:, -1], agent.imagined_steps
    models = {"trained": agent.world_model.eval(), "random": WorldModel(agent.world_model.config).eval()}
    with threads(THREADS), torch.inference_mode():
        return [row for name, model in models.items() for row in _rows(name, model, newest_NK, steps, rounds)]


def _rows(weights: str, model: WorldModel, frames_NK: Tensor, steps: int, rounds: int) -> Iterator[Row]:
    many = len(frames_NK)
    for at_once in sorted({1, min(FEW, many), many}):
        say(f"Imagining, {weights} weights, {at_once} at once ...")
        used = max(at_once, min(FEW, many))
        ways = [Way(model, drafts, frames_NK[:used].split(at_once), steps) for drafts in (True, False)]
        ours, theirs = in_turns(rounds, *ways)
        same = int((ways[0].found == ways[1].found).all(1).sum())
        mine, other = (_said(used * steps, each, way) for each, way in zip((ours, theirs), ways, strict=True))
        yield Row(
            f"{weights}-imagine-{at_once}",
            f"{weights} weights, imagination of {at_once} at once",
            "one by one",
            mine,
            other,
            theirs.wall / ours.wall,
            None,
            theirs.cpu / ours.cpu,
            notes=(f"rows that end in the same frame: {same} of {used}",),
        )


def _said(frames: int, taken: Taken, way: Way) -> str:
    return f"{frames / taken.wall:.3g} frames/s, {statistics.mean(way.passes):.1f} passes a frame"
