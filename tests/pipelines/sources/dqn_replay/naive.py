"""Counts the faults of a reading of replay files that stitching is there to avoid."""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import chain, pairwise

from tests.pipelines.sources.dqn_replay.toy import Kept, Truth

Rows = list[tuple[int, int]]  # (file, row)


@dataclass(frozen=True)
class Faults:
    """Rows never written, blank rows, real rows seen before, and neighbours in an episode that are none in truth."""

    unwritten: int = 0
    padding: int = 0
    duplicates: int = 0
    wrong_joins: int = 0


def count(episodes: Sequence[Rows], truth: Truth) -> Faults:
    """Judge episodes by the add numbers that their rows really hold."""
    numbered = [[truth.number(file, row) for file, row in episode] for episode in episodes]
    numbers = list(chain.from_iterable(numbered))
    real = [number for number in numbers if number in truth.frames]
    return Faults(
        unwritten=sum(number < 0 for number in numbers),
        padding=sum(number >= 0 and number not in truth.frames for number in numbers),
        duplicates=len(real) - len(set(real)),
        wrong_joins=sum(two != one + 1 for episode in numbered for one, two in pairwise(episode)),
    )


def one_after_another(ring: Kept) -> list[Rows]:
    """All files as one stream, cut after each terminal."""
    episodes: list[Rows] = [[]]
    for log in ring.taken:
        for row, terminal in enumerate(log.terminals.tolist()):
            episodes[-1].append((log.checkpoint, row))
            if terminal:
                episodes.append([])
    return episodes
