"""Tokens on disk are what the frozen tokenizer gives for each frame, in order."""

from dataclasses import replace

import numpy as np
import pytest
import torch
import zarr

from pipelines.batches.tokens import NAME
from pipelines.episodes.trajectories import FILE_NAME, Trajectories
from pipelines.errors import UsageError
from pipelines.graph.plan import Step
from pipelines.stages import tokenize
from pipelines.store.store import Store
from pipelines.training.checkpoints import load_agent
from pipelines.training.device import Device
from tests.pipelines.conftest import TinyRun


def test_tokens_equal_direct_encoding(tiny: TinyRun) -> None:
    data = Trajectories(tiny.made["trajectories"].path(FILE_NAME))
    agent = load_agent(tiny.made["pretrained"], Device("cpu", False))
    stored = zarr.open_array(store=str(tiny.made["tokens"].folder / NAME), mode="r")
    assert (stored.shape, stored.dtype) == ((len(data), 36), np.uint16)
    size = tiny.experiment.recipe.tokenize.batch_frames
    blocks = [data.frames(start, start + size) for start in range(0, len(data), size)]
    direct = np.concatenate([agent.encode(torch.as_tensor(block)[:, None]).numpy() for block in blocks])
    assert np.array_equal(stored[:], direct)
    alone = agent.encode(torch.as_tensor(data.frames(100, 101))[:, None]).numpy()
    assert (alone == stored[100:101]).mean() > 0.9  # another batch size may round a tie the other way


def test_the_manifest_counts_what_was_encoded(tiny: TinyRun) -> None:
    counts = tiny.made["tokens"].manifest.counts
    assert counts["frames"] == tiny.made["trajectories"].manifest.counts["transitions"]
    assert counts["tokens"] == 36 * counts["frames"]
    assert 1 < counts["codes_used"] <= 64


def test_both_parents_must_be_named(tiny: TinyRun, store: Store) -> None:
    config = tiny.plan.config(Step("tokens", "Breakout"))
    for missing in ("agent", "trajectories"):
        with pytest.raises(UsageError, match="Tokens of Breakout need an agent and trajectories"):
            tokenize.run(replace(config, **{missing: None}), tiny.store)
