"""Each reading that a config names, and the stack size by majority."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from pipelines.errors import WorldlineError
from pipelines.sources.dqn_replay.readings import read, stack_size
from tests.pipelines.sources.dqn_replay.toy import Kept, play


@pytest.fixture
def ring() -> Kept:
    made = Kept(capacity=50, stack_size=3)
    play(made, Path(), [13] * 20, unfinished=2)
    return made


def test_each_reading_is_another(ring) -> None:
    def rows(**options) -> int:
        return int(read(ring.taken, "Freeway", 1, **options).episodes["length"].sum())

    assert rows() == 20 * 13 + 2
    assert rows(keep_padding=True) == 20 * 15 + 4
    assert rows(compat="jowa") not in (rows(), rows(keep_padding=True))


def test_the_stack_size_is_what_most_logs_say(ring) -> None:
    short = replace(ring.taken[0], invalid_range=np.zeros(1, np.int64))
    assert stack_size([short, *ring.taken[1:]], "Freeway/1") == 3
    with pytest.raises(WorldlineError, match="Freeway/1: invalid_range has length 1"):
        stack_size([short], "Freeway/1")
