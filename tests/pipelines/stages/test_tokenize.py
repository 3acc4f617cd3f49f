"""Tokens on disk are what the frozen tokenizer gives for each frame, in order."""

from dataclasses import replace
from pathlib import Path

import h5py
import numpy as np
import pytest
import torch
import zarr

from models.jowa.agent import JowaAgent
from pipelines.batches.segments import TOKENS_NAME, TokenWriter
from pipelines.cli import run as command
from pipelines.episodes.trajectories import FILE_NAME, Trajectories
from pipelines.errors import UsageError
from pipelines.graph.plan import Step
from pipelines.stages import import_trajectories, tokenize
from pipelines.stages.import_trajectories import ImportConfig, content_of
from pipelines.store.artefact import Draft, Report
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


def put_other_play(source: Trajectories, path: Path, brighter: int = 0) -> None:
    """JOWA's file with the same frames, `brighter` by so much, and everything else another: rewards, actions, ends."""
    half = len(source) // 2
    with h5py.File(path, "w") as file:
        for episode, (start, stop) in enumerate(((0, half), (half, len(source)))):
            group = file.create_group(str(episode))
            group["observations"] = source.frames(start, stop) + np.uint8(brighter)
            group["actions"] = np.zeros(stop - start, np.int64)
            group["rewards"] = -source.rewards[start:stop].astype(np.float64)
            group["terminals"] = np.arange(start, stop) == stop - 1


def test_other_rewards_actions_and_ends_of_the_same_frames_encode_nothing(
    tiny_copy: TinyRun, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture
) -> None:
    """The work is counted: frames that were encoded, and rows of tokens that were written."""
    store, config = tiny_copy.store, tiny_copy.plan.config(Step("tokens", "Breakout"))
    source = Trajectories(tiny_copy.made["trajectories"].path(FILE_NAME))
    work = {"encoded": 0, "written": 0}
    encode, append = JowaAgent.encode, TokenWriter.append

    def counted_encode(agent: JowaAgent, frames: torch.Tensor) -> torch.Tensor:
        work["encoded"] += len(frames)
        return encode(agent, frames)

    def counted_append(writer: TokenWriter, tokens: np.ndarray) -> None:
        work["written"] += len(tokens)
        append(writer, tokens)

    monkeypatch.setattr(JowaAgent, "encode", counted_encode)
    monkeypatch.setattr(TokenWriter, "append", counted_append)

    def tokens_of(name: str, brighter: int = 0) -> Report:
        put_other_play(source, tmp_path / name, brighter)
        asked = ImportConfig(game="Breakout", sha256=content_of(tmp_path / name)[0], path=str(tmp_path / name))
        made = import_trajectories.run(asked, store).artefact
        assert made.manifest.counts["episodes"] == 2 and made.ref != tiny_copy.made["trajectories"].ref
        return tokenize.run(replace(config, trajectories=made.ref), store)

    same = tokens_of("same.h5")
    assert same.adopted and work == {"encoded": 0, "written": 0}
    hashes = [
        {file.path: file.sha256 for file in made.manifest.files} for made in (same.artefact, tiny_copy.made["tokens"])
    ]
    assert hashes[0] == hashes[1]
    again = tokens_of("same.h5")
    assert again.skipped and not again.adopted and again.artefact.ref == same.artefact.ref
    assert work == {"encoded": 0, "written": 0}
    assert not tokens_of("brighter.h5", brighter=1).skipped
    assert work == {"encoded": len(source), "written": len(source)}

    monkeypatch.setenv("WORLDLINE_HOME", str(tiny_copy.home))
    assert command(["lineage", str(same.artefact.ref)]) == 0
    told = capsys.readouterr().out
    assert "only its frames" in told and "only its tokenizer" in told
    assert command(["lineage", str(same.artefact.ref), "--verify"]) == 0
