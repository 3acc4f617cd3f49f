"""The benchmark of threads: that every kind of work is measured and settles on a number."""

import pytest
import torch

from pipelines.tools.bench.threads import Sizes, run, table
from pipelines.training import device


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
