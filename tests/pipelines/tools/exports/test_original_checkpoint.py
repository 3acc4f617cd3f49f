"""A Simulus's checkpoint as the original's file: written, read back, and loaded bit for bit."""

from pathlib import Path

import pytest
import torch

from models.simulus.agent import SimulusAgent
from pipelines.tools.exports.original_checkpoint import OriginalCheckpoint
from tests.models.simulus.small_simulus import VARIANTS


@pytest.mark.parametrize("variant", ["simulus", "retnet", "separate", "ema"])
def test_simulus_goes_out_as_one_file_without_what_only_ours_remembers(tmp_path: Path, variant: str) -> None:
    one, other = (SimulusAgent(VARIANTS[variant], seed=seed) for seed in (1, 2))
    ticks: list[int] = []
    export = OriginalCheckpoint(one, "out")
    export.write(tmp_path / "out", None, ticks.append)  # type: ignore[arg-type]  # it needs no origin
    export.read_back(tmp_path / "out", ticks.append)
    assert ticks == [1, 1] and [path.name for path in (tmp_path / "out").iterdir()] == ["last.pt"]
    whole = torch.load(tmp_path / "out" / "last.pt", weights_only=True)
    assert not any("return_scale" in name or name.endswith("embedding.step") for name in whole)
    for name, network in other.networks.items():
        other.load_original(name, whole)
        pairs = zip(network.parameters(), one.networks[name].parameters(), strict=True)
        assert all(torch.equal(*pair) for pair in pairs)
