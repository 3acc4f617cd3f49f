"""Costs of a real child process, none of them its parent's."""

import gzip
from functools import partial
from pathlib import Path

import numpy as np
import pytest

from pipelines.errors import WorldlineError
from pipelines.tools.bench import replay_plain
from pipelines.tools.bench.child import Cost, in_turns, measure


def test_a_child_returns_its_result_and_its_own_memory(tmp_path: Path) -> None:
    """The parent holds 300 MB; the child, which loads 14 MB, has not inherited them."""
    ballast = np.ones(300 << 17)
    with gzip.open(tmp_path / "a.gz", "wb") as file:
        np.save(file, np.zeros((2_000, 84, 84), np.uint8))
    cost = measure(replay_plain.select_rows, path=str(tmp_path / "a.gz"), pieces=[[0, 5], [7, 9]])
    assert cost.result > 0 and cost.cpu_seconds >= 0 and cost.seconds > 0
    assert 2_000 * 7056 < cost.peak_bytes < ballast.nbytes


def test_a_child_that_fails_is_one_line(tmp_path: Path) -> None:
    with pytest.raises(WorldlineError, match=r"^Benchmark step select_rows failed: FileNotFoundError.*gone.gz'$"):
        measure(replay_plain.select_rows, path=str(tmp_path / "gone.gz"), pieces=[])


def test_only_benchmarks_are_called() -> None:
    with pytest.raises(WorldlineError, match="shutil is no benchmark"):
        import shutil

        measure(shutil.rmtree, path="/nowhere")


def test_turns_alternate_and_the_middle_round_counts() -> None:
    called: list[str] = []

    def call(name: str, seconds: list[float]) -> Cost:
        called.append(name)
        return Cost(seconds.pop(0), 0.0, 0, name)

    ours, theirs = in_turns(3, partial(call, "ours", [5.0, 1.0, 3.0]), partial(call, "theirs", [2.0, 9.0, 4.0]))
    assert called == ["ours", "theirs"] * 3
    assert (ours.seconds, theirs.seconds) == (3.0, 4.0)
