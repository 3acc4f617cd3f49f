"""Crafter against its bare package, in turns in one process: `python -m pipelines.tools.bench.crafter`.

Random play of the same actions, resets included: one environment, several at once, and the drawing of a world alone.
The bare package is `crafter.Env` with its own noise. One thread; CPU seconds are what to compare on a shared machine.
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import crafter
import numpy as np
import opensimplex
from crafter import worldgen
from opensimplex import internals

from pipelines.environments.crafter.environment import make
from pipelines.environments.crafter.game import ACTIONS, GAME, PROTOCOLS
from pipelines.tools.bench.row import Row, table
from pipelines.tools.bench.train import in_turns

Call = Callable[[], object]


@dataclass(frozen=True)
class Sizes:
    """Steps of each environment in a round, and how many are played at once."""

    steps: int = 600
    environments: int = 8
    worlds: int = 2
    rounds: int = 3


QUICK = Sizes(steps=3, environments=2, worlds=1, rounds=1)


def run(sizes: Sizes, only: str = "") -> list[Row]:
    """Measure all rows, or those with `only` in their name."""
    several, shared = sizes.environments, -(-sizes.steps // sizes.environments)
    found = [
        ("random play, 1 environment", "steps/s", sizes.steps, _ours(1, sizes.steps), _plain(1, sizes.steps)),
        (
            f"random play, {several} environments",
            "steps/s",
            several * shared,
            _ours(several, shared),
            _plain(several, shared),
        ),
        ("worlds drawn", "worlds/s", sizes.worlds, _worlds_ours(sizes.worlds), _worlds_plain(sizes.worlds)),
    ]
    return [_row(*each, sizes.rounds) for each in found if only in each[0]]


def _ours(count: int, steps: int) -> Call:
    def play() -> None:
        games, draws = make(GAME, range(count), PROTOCOLS["crafter"]), np.random.default_rng(0)
        games.reset()
        for _ in range(steps):
            games.step(draws.integers(len(ACTIONS), size=count))

    return play


def _plain(count: int, steps: int) -> Call:
    def play() -> None:
        games, draws = [crafter.Env(seed=seed) for seed in range(count)], np.random.default_rng(0)
        for game in games:
            game.reset()
        for _ in range(steps):
            for game, action in zip(games, draws.integers(len(ACTIONS), size=count), strict=True):
                if game.step(action)[2]:
                    game.reset()

    return play


def _worlds_ours(count: int) -> Call:
    games = make(GAME, [0], PROTOCOLS["crafter"])
    return lambda: [games.restart([0], [seed]) for seed in range(count)]


def _worlds_plain(count: int) -> Call:
    game = crafter.Env(seed=0)
    return lambda: [game.reset() for _ in range(count)]


@contextmanager
def _bare() -> Iterator[None]:
    """The package's own noise."""
    ours = worldgen.opensimplex, internals.GRADIENTS3
    worldgen.opensimplex, internals.GRADIENTS3 = opensimplex, np.array(ours[1])
    try:
        yield
    finally:
        worldgen.opensimplex, internals.GRADIENTS3 = ours


def _row(what: str, unit: str, amount: int, ours: Call, plain: Call, rounds: int) -> Row:
    def bare() -> None:
        with _bare():
            plain()

    mine, theirs = in_turns(rounds, ours, bare)
    told, other = (f"{amount / each.wall:,.1f} {unit}, {amount / each.cpu:,.1f} by CPU" for each in (mine, theirs))
    ratio, cpu_ratio = theirs.wall / mine.wall, theirs.cpu / mine.cpu
    return Row(what, what, "the bare package", told, other, ratio, None, cpu_ratio)


if __name__ == "__main__":
    print(table(run(Sizes())))
