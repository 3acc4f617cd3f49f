"""Tokens on disk are what the frozen tokenizer gives for each frame, in order."""

from dataclasses import replace

import numpy as np
import pytest
import torch
import zarr

from pipelines.batches.tokens import NAME
from pipelines.episodes.trajectories import FILE_NAME, Trajectories
from pipelines.errors import UsageError
from pipelines.stages import tokenize
from pipelines.store.store import Store
from pipelines.training.checkpoints import TOKENIZER, load_tokenizer
from pipelines.training.device import Device
from tests.pipelines.conftest import TinyRun


def test_tokens_equal_direct_encoding(tiny: TinyRun) -> None:
    data = Trajectories(tiny.made["trajectories"].path(FILE_NAME))
    tokenizer = load_tokenizer(tiny.made["pretrained"].path(TOKENIZER), Device("cpu", False))
    stored = zarr.open_array(store=str(tiny.made["tokens"].folder / NAME), mode="r")
    assert (stored.shape, stored.dtype) == ((len(data), 36), np.uint16)
    size = tiny.experiment.recipe.tokenize.batch_frames
    blocks = [data.frames(start, start + size) for start in range(0, len(data), size)]
    direct = np.concatenate([tokenizer.encode_tokens(torch.as_tensor(block)).numpy() for block in blocks])
    assert np.array_equal(stored[:], direct)
    alone = tokenizer.encode_tokens(torch.as_tensor(data.frames(100, 101))).numpy()
    assert (alone == stored[100:101]).mean() > 0.9  # another batch size may round a tie the other way


def test_the_manifest_counts_what_was_encoded(tiny: TinyRun) -> None:
    counts = tiny.made["tokens"].manifest.counts
    assert counts["frames"] == tiny.made["trajectories"].manifest.counts["transitions"]
    assert counts["tokens"] == 36 * counts["frames"]
    assert 1 < counts["codes_used"] <= 64


def test_both_parents_must_be_named(tiny: TinyRun, store: Store) -> None:
    config = tiny.plan.tokenize("Breakout")
    for missing in ("pretrained", "trajectories"):
        with pytest.raises(UsageError, match="Tokens of Breakout need a tokenizer and trajectories"):
            tokenize.run(replace(config, **{missing: None}), tiny.store)
