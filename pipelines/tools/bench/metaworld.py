"""Meta-world's frames, drawn fast against as the package draws them: `python -m pipelines.tools.bench.metaworld`.

Steps of one environment under each way of drawing, in turns with the package's own way in one process; then what an
episode costs besides frames. One thread; CPU seconds are what to compare on a shared machine, and where a graphics card
draws, wall time.
"""

from collections.abc import Callable
from contextlib import closing
from dataclasses import dataclass, replace

import numpy as np

from pipelines.environments.metaworld.environment import MetaworldGame, make
from pipelines.environments.metaworld.game import PROTOCOLS, MetaworldRules
from pipelines.environments.metaworld.rendering import drawn_by
from pipelines.tools.bench.row import Row, table
from pipelines.tools.bench.train import Taken, in_turns

TASK = "drawer-open"
STOCK = PROTOCOLS["metaworld"]

# What is drawn otherwise than the package does it, from the least to all.
WAYS: dict[str, MetaworldRules] = {
    "shadows of 1024 pixels": replace(STOCK, shadows=1024),
    "no reflections": replace(STOCK, reflections=False),
    "no shadows": replace(STOCK, shadows=0),
    "no shadows, one sample a pixel": replace(STOCK, shadows=0, samples=0),
    "metaworld_fast": PROTOCOLS["metaworld_fast"],
    "metaworld_coarse": PROTOCOLS["metaworld_coarse"],
}


@dataclass(frozen=True)
class Sizes:
    """Steps in a round."""

    steps: int = 40
    rounds: int = 3


QUICK = Sizes(steps=1, rounds=1)


def run(sizes: Sizes, only: str = "") -> list[Row]:
    """Measure all ways, or those with `only` in their name."""
    return [_way(name, rules, sizes) for name, rules in WAYS.items() if only in name]


def lines(sizes: Sizes) -> list[str]:
    """What draws, and the cost of an episode's beginning and of physics alone, by CPU seconds."""
    with closing(make(TASK, [0], WAYS["metaworld_fast"])) as game:
        task = game._copies[0]
        picture = task.picture
        reset, _ = in_turns(sizes.rounds, game.reset, lambda: picture("corner"))
        task.picture = lambda camera: np.zeros((64, 64, 3), np.uint8)  # type: ignore[method-assign]
        alone, _ = in_turns(sizes.rounds, _steps(game, 10 * sizes.steps), game.reset)
    made, _ = in_turns(sizes.rounds, lambda: make(TASK, [0], STOCK).close(), lambda: None)
    return [
        f"drawn by {drawn_by()}",
        f"physics without frames: {10 * sizes.steps / alone.cpu:,.0f} steps/s by CPU",
        f"an episode's beginning: {1000 * reset.cpu:,.0f} ms by CPU",
        f"an environment's making: {made.cpu:,.1f} s by CPU",
    ]


def _way(name: str, rules: MetaworldRules, sizes: Sizes) -> Row:
    with closing(make(TASK, [0], rules)) as ours, closing(make(TASK, [0], STOCK)) as theirs:
        drawn = [game.reset().astype(np.int64) for game in (ours, theirs)]
        mine, other = in_turns(sizes.rounds, _steps(ours, sizes.steps), _steps(theirs, sizes.steps))

    def told(found: Taken) -> str:
        return f"{sizes.steps / found.wall:,.1f} steps/s, {sizes.steps / found.cpu:,.1f} by CPU"

    off = float(np.abs(drawn[0] - drawn[1]).mean())
    return Row(
        name, f"{TASK}, {name}", "as the package draws", told(mine), told(other), other.wall / mine.wall, None,
        other.cpu / mine.cpu, notes=(f"its first frame differs by {off:.1f} of 255 a pixel in the mean",),
    )  # fmt: skip


def _steps(game: MetaworldGame, count: int) -> Callable[[], None]:
    def play() -> None:
        draws = np.random.default_rng(0)
        for _ in range(count):
            game.step(draws.uniform(-1, 1, (1, 4)))

    return play


if __name__ == "__main__":
    print("\n".join([table(run(Sizes())), *(f"- {line}" for line in lines(Sizes()))]))
