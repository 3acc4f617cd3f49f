"""The number of threads follows what the work takes with it, on a clock of its own."""

from collections.abc import Callable
from itertools import pairwise

import pytest
import torch

from pipelines.training import threads
from pipelines.training.threads import AGAIN, PIECES, FixedThreads, Threads, choose

TRIAL = PIECES + 1  # pieces with each number, the first of which warms up


class Machine:
    """A clock, and how long a piece takes by the number of threads."""

    def __init__(self, seconds: Callable[[int], float], most: int = 4) -> None:
        self.now, self.seconds, self.seen = 0.0, seconds, list[int]()
        self.threads = Threads(most, lambda: self.now)

    def work(self, pieces: int, kind: str = "world") -> list[int]:
        """The numbers that the pieces were computed with."""
        self.seen = []
        for _ in range(pieces):
            with self.threads.timed(kind):
                self.seen.append(torch.get_num_threads())
                self.now += self.seconds(torch.get_num_threads())
        return self.seen


@pytest.fixture(autouse=True)
def _threads_as_before():
    before = torch.get_num_threads()
    yield
    torch.set_num_threads(before)


def quiet(count: int) -> float:
    return 0.1 / count + 0.01


def crowded(count: int) -> float:
    return 0.1 if count == 1 else 1.0


def test_more_threads_are_taken_while_they_pay() -> None:
    machine = Machine(quiet)
    assert machine.work(3 * TRIAL + 1) == [1] * TRIAL + [2] * TRIAL + [4] * (TRIAL + 1)
    assert machine.threads.metrics() == {"threads": {"world": [4]}}
    halting = Machine(lambda count: 0.1 / min(count, 2))
    assert halting.work(3 * TRIAL + 2)[-2:] == [2, 2]


def test_on_a_crowded_machine_one_piece_is_lost() -> None:
    machine = Machine(crowded)
    assert machine.work(20) == [1] * TRIAL + [2] + [1] * (19 - TRIAL)


def test_a_number_between_powers_of_two_is_tried() -> None:
    assert Machine(quiet, most=6).work(4 * TRIAL + 1)[-1] == 6
    assert Machine(quiet, most=1).work(9) == [1] * 9


def test_a_collapse_is_noticed_and_told(capsys: pytest.CaptureFixture, monkeypatch: pytest.MonkeyPatch) -> None:
    told: list[str] = []
    monkeypatch.setattr(threads, "say", told.append)
    machine = Machine(quiet)
    machine.work(30)
    machine.seconds = crowded
    assert machine.work(40)[-20:] == [1] * 20
    assert machine.threads.metrics() == {"threads": {"world": [4, 1]}}
    assert len(told) == 1 and "1 threads in place of 4" in told[0] and "OMP_NUM_THREADS" in told[0]


def test_a_free_machine_is_noticed_after_a_while() -> None:
    machine = Machine(crowded)
    machine.work(20)
    machine.seconds = quiet
    assert set(machine.work(100)) == {1}
    assert machine.work(int(2 * AGAIN / quiet(1)))[-1] == 4


def test_confirmed_choices_are_looked_at_ever_less_often() -> None:
    machine = Machine(crowded)
    slow = [index for index, count in enumerate(machine.work(20_000)) if count == 2]
    gaps = [later - earlier for earlier, later in pairwise(slow)]
    assert len(slow) <= 7 and all(b > 1.5 * a for a, b in pairwise(gaps[:3]))


def test_kinds_are_chosen_apart() -> None:
    machine = Machine(quiet)
    machine.work(30, "tokenizer")
    machine.seconds = crowded
    machine.work(TRIAL + 3, "world")
    assert machine.threads.metrics() == {"threads": {"tokenizer": [4], "world": [1]}}
    assert machine.work(1, "world") == [1]
    assert machine.work(1, "tokenizer") == [4]


def test_a_resumed_run_goes_on_with_its_number(monkeypatch: pytest.MonkeyPatch) -> None:
    told: list[str] = []
    monkeypatch.setattr(threads, "say", told.append)
    first = Machine(quiet)
    first.work(30)
    again = Machine(quiet)
    again.threads.resume(first.threads.choices())
    assert again.work(5) == [4] * 5 and not told
    smaller = Machine(quiet, most=2)
    smaller.threads.resume(first.threads.choices())
    assert smaller.work(3 * TRIAL)[-1] == 2 and "4 threads" in told[0]


def test_a_trial_that_is_cut_is_not_carried() -> None:
    machine = Machine(quiet)
    machine.work(TRIAL + 2)
    assert machine.threads.choices() == {}


def test_the_environment_and_a_gpu_decide(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    assert isinstance(choose("cpu"), FixedThreads)
    assert choose("cpu").metrics() == {"threads": torch.get_num_threads()}
    monkeypatch.delenv("OMP_NUM_THREADS")
    assert isinstance(choose("cuda"), FixedThreads)
    free = choose("cpu")
    assert not isinstance(free, FixedThreads)
    with free.timed("world"):
        assert torch.get_num_threads() == 1
