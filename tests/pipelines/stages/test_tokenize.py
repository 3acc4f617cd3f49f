"""Tokens on disk are what the frozen tokenizer gives for each frame, in order."""

from dataclasses import replace

import numpy as np
import pytest
import torch
import zarr

from pipelines.batches.segments import TOKENS_NAME
from pipelines.episodes.trajectories import FILE_NAME, Trajectories
from pipelines.errors import UsageError
from pipelines.graph.plan import Step
from pipelines.stages import tokenize
from pipelines.store.artefact import Draft
from pipelines.store.ref import Ref
from pipelines.store.store import Store
from pipelines.training.checkpoints import load_agent, name_parts, save_agent
from pipelines.training.device import Device
from tests import fakes
from tests.pipelines.conftest import TinyRun


def test_tokens_equal_direct_encoding(tiny: TinyRun) -> None:
    data = Trajectories(tiny.made["trajectories"].path(FILE_NAME))
    agent = load_agent(tiny.made["pretrained"], Device("cpu", False))
    stored = zarr.open_array(store=str(tiny.made["tokens"].folder / TOKENS_NAME), mode="r")
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


def test_another_world_model_re_encodes_nothing_and_another_tokenizer_everything(tiny_copy: TinyRun) -> None:
    """Only the tokenizer's weights and the frames are read of the parents."""
    tiny = tiny_copy
    store, config = tiny.store, tiny.plan.config(Step("tokens", "Breakout"))
    whole = tiny.made["tokens"].manifest.parents
    assert [entry.part for entry in whole] == ["tokenizer", "frames"]

    def changed(network: str) -> Ref:
        agent = load_agent(tiny.made["pretrained"], Device("cpu", False))
        with torch.no_grad():
            next(agent.networks[network].parameters()).add_(1.0)

        def build(draft: Draft) -> None:
            save_agent(draft.folder, agent)
            name_parts(draft, agent)

        return store.produce(fakes.spec("pretrained", subject=network), build).artefact.ref

    same = tokenize.run(replace(config, agent=changed("model")), store)
    assert same.adopted and same.artefact.manifest.adopted == str(tiny.made["tokens"].ref)
    assert not tokenize.run(replace(config, agent=changed("tokenizer")), store).skipped
