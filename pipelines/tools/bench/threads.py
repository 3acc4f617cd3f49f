"""One thread, all threads, and the number that is chosen: `python -m pipelines.tools.bench.threads`.

The demo's networks learn, encode and decide, quiet and beside busy processes, one a processor but the first. The fixed
numbers are measured in turns; the chosen one is what `Threads` settles on, with the pieces that its trial takes.
"""

import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from statistics import median

import torch

from models.api import Batch, FrameBatch, Learning, Moment
from models.jowa.agent import JowaAgent
from models.jowa.config import JowaAgentConfig
from models.planning.beam import Beam, Greedy
from pipelines.progress import say
from pipelines.recipes.registry import recipe
from pipelines.tools.bench.plan import Ours, random_context
from pipelines.tools.bench.train import random_batch
from pipelines.training.device import Device, Threads, processors

BUSY = "import os, sys\nwhile os.getppid() == int(sys.argv[1]): pass"  # as long as there is somebody to disturb


@dataclass(frozen=True)
class Sizes:
    """Pieces timed with each number, environments that decide, frames that are encoded."""

    pieces: int = 12
    environments: int = 8
    frames: int = 64
    crowds: tuple[bool, ...] = (False, True)


@dataclass(frozen=True)
class Row:
    """Median seconds a piece by number of threads; the chosen number, its seconds, and what its trial took in all."""

    what: str
    crowded: bool
    fixed: dict[int, float]
    chosen: int
    seconds: float
    trial: float

    def line(self) -> str:
        """A row of the table."""
        fixed = " | ".join(f"{seconds:.4f}" for seconds in self.fixed.values())
        place = "crowded" if self.crowded else "quiet"
        return f"| {self.what} | {place} | {fixed} | {self.chosen} | {self.seconds:.4f} | {self.trial:.2f} |"


def run(sizes: Sizes) -> list[Row]:
    """Measure all rows."""
    before, rows = torch.get_num_threads(), []
    try:
        for crowded in sizes.crowds:
            with _crowd(max(1, processors() - 1) if crowded else 0):
                for what, piece in _pieces(sizes).items():
                    say(f"Measuring {what}, {'crowded' if crowded else 'quiet'} ...")
                    rows.append(_row(what, piece, crowded, sizes.pieces))
    finally:
        torch.set_num_threads(before)
    return rows


def table(rows: list[Row]) -> str:
    """The rows as a Markdown table."""
    counts = " | ".join(f"{count} thread{'s' if count > 1 else ''}, s" for count in rows[0].fixed)
    columns = 6 + len(rows[0].fixed) - 1
    head = f"| what | machine | {counts} | chosen | s with it | its trial, s |"
    return "\n".join([head, "|---" * columns + "|", *(row.line() for row in rows)])


def _pieces(sizes: Sizes) -> dict[str, Callable[[], object]]:
    """What the demo does, by name."""
    pretrain = recipe("demo").pretrain
    assert pretrain is not None and isinstance(pretrain.networks, JowaAgentConfig)
    config = pretrain.networks
    rows = {use.name: use.batch for phase in pretrain.phases for use in phase.uses}
    agent, model = JowaAgent(config, seed=0), config.model
    device, side = Device("cpu", False), config.tokenizer.resolution
    noise = torch.randint(0, 256, (sizes.frames, 1, side, side), dtype=torch.uint8)
    frames = FrameBatch(
        frames_nCHW=noise[: rows["tokenizer"]], games_n=torch.zeros(rows["tokenizer"], dtype=torch.long)
    )
    agent.start(
        Learning(
            seed=0,
            legal_GA=torch.ones(model.num_games, model.num_actions, dtype=torch.bool),
            mean_frames=lambda: {0: torch.zeros(1, side, side)},
        ),
        ["tokenizer", "world_action"],
    )
    context, ours = random_context(model, sizes.environments), Ours(agent.model, device)

    def decide(planner: Greedy | Beam) -> None:
        agent.model.eval()
        with torch.inference_mode():
            ours.plan(planner, context.last(model.max_steps - planner.horizon))

    def encode() -> None:
        with torch.inference_mode():
            agent.encode(noise)

    return {
        "tokenizer step": partial(_learn, agent, "tokenizer", frames),
        "world_action step": partial(_learn, agent, "world_action", random_batch(model, rows["world"])),
        f"encode {sizes.frames} frames": encode,
        f"greedy, {sizes.environments} at once": partial(decide, Greedy()),
        f"beam 2 x 2, {sizes.environments} at once": partial(decide, Beam(2, 2)),
    }


def _learn(agent: JowaAgent, objective: str, batch: Batch | FrameBatch) -> None:
    """Losses and gradients."""
    for network in agent.networks.values():
        network.train()
        network.zero_grad(set_to_none=True)
    agent.loss(objective, batch, agent.counts(objective, batch), Moment(step=0)).total.backward()


def _row(what: str, piece: Callable[[], object], crowded: bool, pieces: int) -> Row:
    counts = tuple(dict.fromkeys((1, processors())))
    taken: dict[int, list[float]] = {count: [] for count in counts}
    for number in range(pieces + 1):
        for count in counts:
            torch.set_num_threads(count)
            seconds = _timed(piece)
            if number:  # the first warms up
                taken[count].append(seconds)
    threads = Threads()
    trial, settled = 0.0, list[float]()
    while len(settled) < pieces:
        with threads.timed(what):
            seconds = _timed(piece)
        if threads.choices():
            settled.append(seconds)
        else:
            trial += seconds
    count, _ = threads.choices()[what]
    return Row(what, crowded, {n: median(each) for n, each in taken.items()}, count, median(settled), trial)


def _timed(piece: Callable[[], object]) -> float:
    started = time.perf_counter()
    piece()
    return time.perf_counter() - started


@contextmanager
def _crowd(many: int) -> Iterator[None]:
    """So many processes that never wait."""
    busy = [subprocess.Popen([sys.executable, "-c", BUSY, str(os.getpid())]) for _ in range(many)]
    try:
        yield
    finally:
        for process in busy:
            process.kill()
            process.wait()


if __name__ == "__main__":
    print(table(run(Sizes())))
