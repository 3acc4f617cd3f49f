"""Streams of shards: order from (seed, step) alone, every segment once an epoch, equal to what was exported."""

import pickle

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from pipelines.batches import webdataset_reader as webdataset
from pipelines.batches.loader import SegmentLoader, SegmentSource
from pipelines.batches.segments import Segmentation
from pipelines.batches.shards import ShardSet
from pipelines.batches.webdataset_reader import WebdatasetStream, epoch_order
from pipelines.environments.registry import game_id
from pipelines.episodes.trajectories import FILE_NAME, Trajectories
from pipelines.errors import WorldlineError
from pipelines.store.store import Store
from pipelines.tools.exports.export import export
from pipelines.tools.exports.webdataset import Webdataset
from pipelines.training.device import Device
from pipelines.training.prefetch import Prefetcher
from tests.pipelines.episodes.made_episodes import put_episodes


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """Freeway and Pong as shards of 3 segments; tests only read them."""
    folder = tmp_path_factory.mktemp("stream")
    store = Store(folder / "store")
    sources = []
    for game, padding, seed in (("Freeway", "right", 0), ("Pong", "left", 1)):
        artefact = put_episodes(store, game, seed=seed)
        data = Trajectories(artefact.path(FILE_NAME))
        cut = Segmentation(data.episode_starts, 8, 4, padding)
        export(artefact, Webdataset(data, cut, per_shard=3), folder)
        sources.append(SegmentSource(data, cut))
    return folder, sources


def exports(folder) -> list[ShardSet]:
    return [ShardSet(folder / f"{game}.webdataset") for game in ("Freeway", "Pong")]


def assert_same(left, right) -> None:
    for name, value in vars(left).items():
        np.testing.assert_array_equal(value, getattr(right, name), err_msg=name)


def rows_of(batches) -> list[tuple]:
    """Each segment of some batches as comparable bytes, without tokens."""
    names = ("frames_BTHW", "actions_BT", "rewards_BT", "ends_BT", "mask_BT", "games_B")
    found = []
    for batch in batches:
        for row in range(len(batch.games_B)):
            found.append(tuple((getattr(batch, name)[row].tobytes(), getattr(batch, name).dtype) for name in names))
    return found


def test_an_epoch_gives_the_loaders_segments_in_another_order(made) -> None:
    folder, sources = made
    for source, shards in zip(sources, exports(folder), strict=True):
        count = len(source.segments)
        stream = WebdatasetStream([shards], batch_size=1, seed=0)
        loader = SegmentLoader([source], batch_size=1, seed=0)
        first, second = (rows_of(stream.batch(epoch * count + i) for i in range(count)) for epoch in (0, 1))
        wanted = rows_of(loader.batch(i) for i in range(count))
        assert sorted(map(repr, first)) == sorted(map(repr, second)) == sorted(map(repr, wanted))
        assert first != second != wanted


def test_a_batch_depends_on_seed_and_step_alone(made) -> None:
    folder, _ = made
    walked = WebdatasetStream(exports(folder), batch_size=5, seed=3)
    batches = [walked.batch(step) for step in range(25)]
    fresh = WebdatasetStream(exports(folder), batch_size=5, seed=3)
    for step in (24, 0, 13, 7):
        assert_same(fresh.batch(step), batches[step])
    sent = pickle.loads(pickle.dumps(walked))  # noqa: S301  # our own bytes, as data loader workers exchange them
    assert_same(sent.batch(17), batches[17])
    walked.close()
    assert_same(walked.batch(11), batches[11])
    other = WebdatasetStream(exports(folder), batch_size=5, seed=4)
    assert not np.array_equal(other.batch(0).frames_BTHW, batches[0].frames_BTHW)


@pytest.mark.parametrize("world", [2, 3, 5])
def test_ranks_together_are_the_whole_batch(made, world) -> None:
    folder, _ = made
    whole = WebdatasetStream(exports(folder), batch_size=5, seed=3)
    ranks = [WebdatasetStream(exports(folder), batch_size=5, seed=3) for _ in range(world)]
    for step in (0, 4, 9):
        parts = [stream.batch(step, rank, world) for rank, stream in enumerate(ranks)]
        for name, value in vars(whole.batch(step)).items():
            if value is not None:
                np.testing.assert_array_equal(value, np.concatenate([getattr(part, name) for part in parts]))


def test_games_take_turns(made) -> None:
    stream = WebdatasetStream(exports(made[0]), batch_size=8, seed=0)
    assert [int((stream.batch(step).games_B == game_id("Pong")).sum()) for step in range(3)] == [4] * 3


def test_few_shards_are_in_memory_and_each_is_loaded_once_an_epoch(made, monkeypatch) -> None:
    folder, sources = made
    monkeypatch.setattr(webdataset, "MIXED", 2)
    stream, loads = WebdatasetStream(exports(folder)[:1], batch_size=1, seed=0), []
    load = ShardSet.load
    monkeypatch.setattr(ShardSet, "load", lambda self, shard: loads.append(shard) or load(self, shard))
    for step in range(len(sources[0].segments)):
        stream.batch(step)
        assert len(stream._loaded) <= 3
    assert sorted(loads) == list(range(len(stream.exports[0].shards)))


@given(st.lists(st.integers(1, 9), min_size=1, max_size=30), st.integers(0, 5))
def test_an_order_is_every_segment_once_a_few_shards_at_a_time(sizes, seed) -> None:
    firsts = np.concatenate([[0], np.cumsum(sizes)]).astype(np.int64)
    order = epoch_order(firsts, np.random.default_rng(seed))
    np.testing.assert_array_equal(np.sort(order), np.arange(sum(sizes)))
    shards = (np.searchsorted(firsts, order, side="right") - 1).tolist()
    for place, shard in enumerate(shards):  # while a shard is open, at most MIXED are
        until = max(later for later, other in enumerate(shards) if other == shard)
        assert len(set(shards[place : until + 1])) <= webdataset.MIXED


@pytest.mark.parametrize("kind", ["gcs", "s3"])
def test_streamed_from_a_bucket(made, kind, request) -> None:
    folder, _ = made
    bucket = request.getfixturevalue(f"{kind}_bucket")
    for path in sorted((folder / "Pong.webdataset").iterdir()):
        bucket.put(f"Pong.webdataset/{path.name}", path.read_bytes())
    far = WebdatasetStream([ShardSet(f"{bucket.root_url}/Pong.webdataset", bucket.profile())], batch_size=4, seed=0)
    near = WebdatasetStream(exports(folder)[1:], batch_size=4, seed=0)
    assert_same(far.batch(2), near.batch(2))
    with pytest.raises(WorldlineError, match="does not exist"):
        ShardSet(f"{bucket.root_url}/Freeway.webdataset", bucket.profile())


def test_impossible_requests_are_refused(made) -> None:
    shards = exports(made[0])
    for wanted, batch_size in (([], 4), (shards, 0)):
        with pytest.raises(ValueError, match="at least"):
            WebdatasetStream(wanted, batch_size, 0)
    shards[1].length = 9
    with pytest.raises(ValueError, match="all of one length"):
        WebdatasetStream(shards, 4, 0)
    shards[1].length, shards[1].frame_shape = 8, (64, 64, 3)
    with pytest.raises(ValueError, match="all of one length and frame shape"):
        WebdatasetStream(shards, 4, 0)


@pytest.mark.filterwarnings("ignore:This DataLoader will create")  # 8 workers on 2 cores
@pytest.mark.parametrize("workers", [2, 8])
def test_any_number_of_workers_gives_the_same_batches(made, workers) -> None:
    folder, _ = made
    sources = {"stream": WebdatasetStream(exports(folder), batch_size=4, seed=0)}
    alone, many = (
        Prefetcher(sources, Device("cpu", False)),
        Prefetcher(sources, Device("cpu", False), workers=workers, stop=12),
    )
    for step in range(12):
        ours, theirs = alone.batch(step)["stream"], many.batch(step)["stream"]
        assert ours.keys() == theirs.keys()
        assert all(torch.equal(tensor, theirs[name]) for name, tensor in ours.items())
