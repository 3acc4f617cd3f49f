"""Seeds of episodes. Those on which settings are chosen are never among those whose scores are reported.

Why: the best of many settings owes part of its score to the episodes that it was chosen on.
"""

from collections.abc import Collection

import numpy as np

from pipelines.atari.environment import emulator_seeds

SELECTION = 1  # numpy's spawn key of the stream from which selection draws


def reported_seeds(seed: int, count: int, spent: Collection[int] = ()) -> tuple[int, ...]:
    """The first `count` emulator seeds of `seed` that are not `spent`; more of them begin with the same ones."""
    taken = set(spent)
    found = (word for word in emulator_seeds(seed, count + len(taken)) if word not in taken)
    return tuple(word for word, _ in zip(found, range(count), strict=False))


def selection_seeds(seed: int, count: int) -> tuple[int, ...]:
    """`count` emulator seeds to choose settings on: a stream of its own, so an equal `seed` does not repeat episodes.

    A rare meeting by chance is ruled out where scores are made: `reported_seeds` leaves out what was spent here.
    """
    stream = np.random.SeedSequence(seed, spawn_key=(SELECTION,))
    return tuple(int(word) >> 1 for word in stream.generate_state(count))
