"""The benchmark of threads: that every kind of work is measured and settles on a number."""

import psutil
import pytest
import torch

from pipelines.tools.bench.threads import Sizes, run, table
from pipelines.training import device
from tests.fakes import finish, start, wait_for


@pytest.mark.slow
def test_a_crowd_goes_with_the_benchmark_that_made_it() -> None:
    program = "import time; from pipelines.tools.bench import threads; crowd = threads._crowd(2); crowd.__enter__(); "
    benchmark = start(program + "print(flush=True); time.sleep(60)")
    assert benchmark.stdout is not None and benchmark.stdout.readline()
    crowd = psutil.Process(benchmark.pid).children()
    assert len(crowd) == 2
    benchmark.kill()
    finish(benchmark)
    wait_for(lambda: not any(each.is_running() and each.status() != psutil.STATUS_ZOMBIE for each in crowd), 10)


@pytest.mark.slow
def test_every_row_is_measured(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(device, "processors", lambda: 1)
    before = torch.get_num_threads()
    rows = run(Sizes(pieces=4, environments=2, frames=32, crowds=(False,)))
    assert [row.what.partition(",")[0].partition(" 32")[0] for row in rows] == [
        "tokenizer step", "world_action step", "encode", "greedy", "beam 2 x 2"
    ]  # fmt: skip
    assert all(row.chosen == 1 and row.seconds > 0 and row.trial > 0 for row in rows)
    assert table(rows).count("\n") == len(rows) + 1
    assert torch.get_num_threads() == before
