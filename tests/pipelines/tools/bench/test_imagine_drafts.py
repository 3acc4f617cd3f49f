"""IRIS's drafts beside one by one: the rows say passes, rates and how many frames agree."""

from dataclasses import replace

import pytest
import torch

from models.api import Context
from models.iris.agent import IrisAgent
from pipelines.errors import UsageError
from pipelines.tools.bench import imagine_drafts
from pipelines.tools.bench.imagine import QUICK, random_frames


@pytest.mark.slow
def test_every_row_tells_passes_rates_and_agreement(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(imagine_drafts, "THREADS", 1)
    agent = IrisAgent(QUICK.networks)
    frames_NCK = random_frames(QUICK.networks.world_model, 8).unflatten(0, (4, 2))
    whole = Context(frames_NCK, torch.tensor([[0], [2], [5], [0]]), torch.zeros(4, dtype=torch.long))
    rows = imagine_drafts.run(agent, whole, rounds=1)
    assert [row.name for row in rows] == [
        f"{kind}-imagine-{many}" for kind in ("trained", "random") for many in (1, 3, 4)
    ]
    per_step = QUICK.networks.world_model.tokens_per_step
    for row in rows:
        used = 4 if row.name.endswith("4") else 3
        assert row.notes == (f"rows that end in the same frame: {used} of {used}",) and row.aim is None
        said = float(row.theirs.split(", ")[1].removesuffix(" passes a frame"))
        assert per_step <= said <= per_step + 1 and row.ratio > 0  # a pass more where all was forgotten


def test_circuits_are_refused() -> None:
    circuit = replace(QUICK.networks, world_model=replace(QUICK.networks.world_model, kind="ncp_tokens", units=60))
    whole = Context(torch.zeros(1, 1, 16).long(), torch.zeros(1, 0).long(), torch.zeros(1).long())
    with pytest.raises(UsageError, match="A neural circuit drafts nothing"):
        imagine_drafts.run(IrisAgent(circuit), whole)
