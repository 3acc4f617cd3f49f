"""Streams of shards: order from (seed, step) alone, every segment once an epoch, equal to what was exported."""

import pickle
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from pipelines.batches.loader import SegmentLoader, SegmentSource, samples
from pipelines.batches.segments import Segmentation
from pipelines.batches.shard_cache import ShardCache
from pipelines.batches.shards import ShardSet
from pipelines.batches.webdataset_reader import Epoch, ShardFrames, ShardSource, WebdatasetStream
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


def exports(folder, kept: int = 9, shuffle: int = 24) -> list[ShardSource]:
    sets = [ShardSet(folder / f"{game}.webdataset") for game in ("Freeway", "Pong")]
    return [ShardSource(each, kept, ShardCache(folder / "cache", 1 << 20), shuffle) for each in sets]


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
    stream, loads = WebdatasetStream(exports(folder, shuffle=6)[:1], batch_size=1, seed=0), []
    load = ShardSet.load
    monkeypatch.setattr(ShardSet, "load", lambda self, shard, raw: loads.append(shard) or load(self, shard, raw))
    for step in range(len(sources[0].segments)):
        stream.batch(step)
        assert len(stream._loaded[0]) <= 3
    assert sorted(loads) == list(range(len(stream.sources[0].export.shards)))


def test_held_out_episodes_are_never_learned_from_and_alone_measured(made) -> None:
    """Freeway and Pong have episodes of 5, 40, 1 and 22 steps; the last two are held out."""
    folder, sources = made
    for source, (plain, padding) in zip(
        exports(folder, kept=2), zip(sources, ("right", "left"), strict=True), strict=True
    ):
        cut = Segmentation(plain.trajectories.episode_starts[:3], 8, 4, padding)
        count = int(source.learned.sum())
        assert count == len(cut) < len(source.learned)
        stream = WebdatasetStream([source], batch_size=1, seed=0)
        wanted = rows_of(
            SegmentLoader([SegmentSource(plain.trajectories, cut)], 1, seed=0).batch(step) for step in range(count)
        )
        assert sorted(map(repr, rows_of(stream.batch(step) for step in range(count)))) == sorted(map(repr, wanted))
        frames, actions = source.windows(1, 5, 100, seed=0)
        theirs = plain.windows(1, 5, 100, seed=0)
        assert frames.shape == theirs[0].shape == (18, 5, 84, 84)
        assert {(one.tobytes(), two.tobytes()) for one, two in zip(frames, actions, strict=True)} == {
            (one.tobytes(), two.tobytes()) for one, two in zip(*theirs, strict=True)
        }
        assert len(source.windows(1, 5, 3, seed=0)[0]) == 3
        seen = {frame.tobytes() for frame in plain.trajectories.frames(0, 45)}
        assert {frame.tobytes() for frame in source.spread(512)} <= seen and len(source.spread(4)) == 4


def test_single_frames_are_steps_of_the_streams_segments(made) -> None:
    folder, sources = made
    whole = ShardFrames(WebdatasetStream(exports(folder, kept=3), 6, seed=1))
    allowed = [{frame.tobytes() for frame in source.trajectories.frames(0, 46)} for source in sources]
    seen: list[set] = [set(), set()]
    for step in range(40):
        batch = whole.batch(step)
        for frame, slot in zip(batch.frames_nHW, [0, 1] * 3, strict=True):
            seen[slot].add(frame.tobytes())
        parts = [whole.batch(step, rank, 4) for rank in range(4)]
        np.testing.assert_array_equal(batch.frames_nHW, np.concatenate([part.frames_nHW for part in parts]))
        np.testing.assert_array_equal(batch.games_n, np.concatenate([part.games_n for part in parts]))
    for found, may in zip(seen, allowed, strict=True):
        assert found <= may and len(found) > 30


def made_up(sizes: list[int], learned: list[bool], mixed: int) -> ShardSource:
    firsts = np.concatenate([[0], np.cumsum(sizes)]).astype(np.int64)
    mask = np.resize(np.array(learned), firsts[-1])
    mask[0] = True
    export = SimpleNamespace(firsts=firsts)
    return SimpleNamespace(export=export, learned=mask, mixed=mixed, game=3)  # type: ignore[return-value]


@given(
    st.lists(st.integers(1, 9), min_size=1, max_size=30),
    st.lists(st.booleans(), min_size=1, max_size=7),
    st.integers(1, 8),
    st.integers(0, 5),
    st.integers(0, 2),
)
def test_an_order_is_every_learned_segment_once_a_few_shards_at_a_time(sizes, learned, mixed, seed, number) -> None:
    source = made_up(sizes, learned, mixed)
    epoch = Epoch(source, seed, number)
    order = [epoch.at(place) for place in range(len(epoch))]
    assert sorted(found for _, found in order) == np.flatnonzero(source.learned).tolist()
    for group, found in order:
        shard = int(np.searchsorted(source.export.firsts, found, side="right")) - 1
        assert shard in epoch.shards(group) and len(epoch.shards(group)) <= mixed
    groups = [group for group, _ in order]
    assert groups == sorted(groups)  # so that a group's shards are let go of before the next but one is read
    anywhere = np.random.default_rng(seed).permutation(len(epoch))[:5].tolist()
    fresh = Epoch(source, seed, number)
    assert [fresh.at(place) for place in anywhere] == [order[place] for place in anywhere]


@given(st.integers(1, 40), st.integers(1, 9), st.integers(1, 4), st.integers(0, 9), st.data())
def test_ranks_and_workers_take_each_segment_of_an_epoch_exactly_once(count, batch, workers, resumed, data) -> None:
    """A rank's worker w reads steps w, w + workers, ... of its rows; a run is killed at any step and goes on."""
    world = data.draw(st.integers(1, batch))
    epoch = Epoch(made_up([3] * (count // 3) + [count % 3 or 1], [True], 2), 0, 0)
    steps = -(-len(epoch) // batch)
    taken = []
    for part in (range(min(resumed, steps)), range(min(resumed, steps), steps)):
        for rank in range(world):
            for worker in range(workers):
                for step in part[worker::workers]:
                    rows = samples(step, batch, 1)[1][slice(rank * batch // world, (rank + 1) * batch // world)]
                    taken += [epoch.at(int(nth))[1] for nth in rows if nth < len(epoch)]
    assert sorted(taken) == list(range(len(epoch)))


@pytest.mark.parametrize("kind", ["gcs", "s3"])
def test_streamed_from_a_bucket(made, kind, request, tmp_path) -> None:
    folder, _ = made
    bucket = request.getfixturevalue(f"{kind}_bucket")
    for path in sorted((folder / "Pong.webdataset").iterdir()):
        bucket.put(f"Pong.webdataset/{path.name}", path.read_bytes())
    export = ShardSet(f"{bucket.root_url}/Pong.webdataset", bucket.profile())
    source = ShardSource(export, 9, ShardCache(tmp_path, 1 << 20), shuffle=6)
    far = WebdatasetStream([source], batch_size=4, seed=0)
    near = WebdatasetStream(exports(folder, shuffle=6)[1:], batch_size=4, seed=0)
    for step in (2, 0, 9, 3):
        assert_same(far.batch(step), near.batch(step))
    far.close()
    with pytest.raises(WorldlineError, match="does not exist"):
        ShardSet(f"{bucket.root_url}/Freeway.webdataset", bucket.profile())


def test_impossible_requests_are_refused(made) -> None:
    shards = exports(made[0])
    for wanted, batch_size in (([], 4), (shards, 0)):
        with pytest.raises(ValueError, match="at least"):
            WebdatasetStream(wanted, batch_size, 0)
    shards[1].export.length = 9
    with pytest.raises(ValueError, match="all of one length"):
        WebdatasetStream(shards, 4, 0)
    shards[1].export.length, shards[1].export.frame_shape = 8, (64, 64, 3)
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
