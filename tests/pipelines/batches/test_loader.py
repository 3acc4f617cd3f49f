"""Batches against the transitions they claim to hold, their order against (seed, step) alone, and the rows of ranks."""

import pickle
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pipelines.batches.loader import FrameLoader, SegmentLoader, SegmentSource, flat_rows, rank_rows, samples
from pipelines.batches.segments import Segmentation, segment_index
from pipelines.environments.atari.games import minimal_actions
from pipelines.environments.registry import game_id
from pipelines.episodes.trajectories import Trajectories, TrajectoryWriter


@given(st.integers(1, 4096), st.integers(1, 64))
def test_ranks_in_order_are_the_whole_batch_in_even_parts(count: int, world: int) -> None:
    if world > count:
        return
    parts = [list(range(count))[rank_rows(count, rank, world)] for rank in range(world)]
    assert [row for part in parts for row in part] == list(range(count))
    sizes = [len(part) for part in parts]
    assert max(sizes) - min(sizes) <= 1


@pytest.mark.parametrize(
    ("count", "rank", "world", "words"),
    [
        (8, 2, 2, "Rank 2 of 2: ranks are numbered 0 to 1"),
        (8, -1, 2, "Rank -1 of 2"),
        (8, 0, 0, "Rank 0 of 0"),
        (3, 0, 4, "A batch of 3 cannot be shared by 4 ranks: make it larger"),
    ],
)
def test_impossible_ranks_are_refused(count: int, rank: int, world: int, words: str) -> None:
    with pytest.raises(ValueError, match=words):
        rank_rows(count, rank, world)


@given(st.integers(1, 9), st.integers(1, 300), st.integers(0, 200))
def test_a_source_gives_its_samples_one_after_the_other(sources: int, count: int, first: int) -> None:
    slots, nths = (
        np.concatenate(parts) for parts in zip(*[samples(first + i, count, sources) for i in range(3)], strict=True)
    )
    for slot in range(sources):
        own = nths[slots == slot]
        assert (np.diff(own) == 1).all()
        assert abs(len(own) - len(slots) / sources) < 1  # shares are equal


@given(st.integers(1, 400), st.integers(0, 50), st.integers(1, 5))
def test_the_samples_do_not_depend_on_how_they_are_cut_into_batches(count: int, step: int, sources: int) -> None:
    whole, part = samples(0, count * (step + 1), sources), samples(step, count, sources)
    for all_of_them, ours in zip(whole, part, strict=True):
        np.testing.assert_array_equal(all_of_them[count * step :], ours)


def make_source(
    folder, game: str, lengths: list[int], seed: int, padding: str = "right", frame: tuple[int, ...] = (84, 84)
) -> SegmentSource:
    rng = np.random.default_rng(seed)
    total, path = sum(lengths), folder / f"{game}.h5"
    ends = np.cumsum(lengths) - 1
    terminals, truncations = np.zeros(total, np.uint8), np.zeros(total, np.uint8)
    terminals[ends[:-1]], truncations[ends[-1]] = 1, 1  # the last episode ran into the time limit
    with TrajectoryWriter(path, game, ["unused"], lengths, frame) as writer:
        writer.write("observations", 0, rng.integers(1, 256, (total, *frame), dtype=np.uint8))
        writer.write("actions", 0, rng.integers(0, len(minimal_actions(game)), total).astype(np.uint8))
        writer.write("rewards", 0, rng.integers(-1, 2, total).astype(np.float32))
        writer.write("terminals", 0, terminals)
        writer.write("truncations", 0, truncations)
    found = Trajectories(path)
    tokens = rng.integers(1, 512, (total, 36)).astype(np.uint16)
    return SegmentSource(found, segment_index(found.episode_starts, 8, 4, padding), tokens)


@pytest.fixture(scope="module")
def sources(tmp_path_factory) -> list[SegmentSource]:
    folder = tmp_path_factory.mktemp("loader")
    return [
        make_source(folder, "Freeway", [5, 40, 1, 22], 0),
        make_source(folder, "Pong", [9, 30], 1, padding="left"),
    ]


def assert_same(left, right) -> None:
    for name, value in vars(left).items():
        np.testing.assert_array_equal(value, getattr(right, name), err_msg=name)


def test_every_step_is_the_transition_it_claims(sources) -> None:
    by_game = {source.game: source for source in sources}
    loader = SegmentLoader(sources, batch_size=6, seed=0)
    for step in range(12):
        batch = loader.batch(step)
        assert batch.frames_BTHW is not None and batch.tokens_BTK is not None
        assert (batch.frames_BTHW.shape, batch.tokens_BTK.shape) == ((6, 8, 84, 84), (6, 8, 36))
        for b in range(6):
            source = by_game[int(batch.games_B[b])]
            data, real = source.trajectories, batch.mask_BT[b]
            assert real.any()
            steps = np.flatnonzero(real)
            assert (np.diff(steps) == 1).all()
            frames = batch.frames_BTHW[b, real]
            row = next(r for r in range(len(data)) if np.array_equal(data.frames(r, r + 1)[0], frames[0]))
            rows = np.arange(row, row + len(frames))
            assert len(set(np.searchsorted(data.episode_starts, rows, side="right"))) == 1
            np.testing.assert_array_equal(frames, data.frames(row, row + len(frames)))
            np.testing.assert_array_equal(batch.tokens_BTK[b, real], source.tokens_NK[rows])
            table = np.array(minimal_actions(data.game))
            np.testing.assert_array_equal(batch.actions_BT[b, real], table[data.actions[rows]])
            np.testing.assert_array_equal(batch.rewards_BT[b, real], data.rewards[rows])
            np.testing.assert_array_equal(batch.ends_BT[b, real], data.terminals[rows])
            for padded in (batch.frames_BTHW[b, ~real], batch.tokens_BTK[b, ~real], batch.actions_BT[b, ~real]):
                assert not padded.any()
            assert not batch.rewards_BT[b, ~real].any() and not batch.ends_BT[b, ~real].any()
    assert (batch.actions_BT.dtype, batch.rewards_BT.dtype) == (np.int64, np.float32)
    assert (batch.tokens_BTK.dtype, batch.ends_BT.dtype, batch.games_B.dtype) == (np.int64, np.uint8, np.int64)


def test_padding_lies_on_the_side_that_was_asked_for(sources) -> None:
    loader = SegmentLoader(sources, batch_size=16, seed=0, with_frames=False)
    for step in range(6):
        batch = loader.batch(step)
        freeway = batch.games_B == game_id("Freeway")
        assert (np.diff(batch.mask_BT[freeway].astype(int), axis=1) <= 0).all()
        assert (np.diff(batch.mask_BT[~freeway].astype(int), axis=1) >= 0).all()
        assert batch.frames_BTHW is None


def test_a_batch_depends_on_seed_and_step_alone(sources) -> None:
    walked = SegmentLoader(sources, batch_size=5, seed=3)
    batches = [walked.batch(step) for step in range(30)]
    fresh = SegmentLoader(sources, batch_size=5, seed=3, preload_bytes=1 << 30)
    for step in (29, 0, 13, 7):
        assert_same(fresh.batch(step), batches[step])
    sent = pickle.loads(pickle.dumps(walked))  # noqa: S301  # our own bytes, as data loader workers exchange them
    assert_same(sent.batch(17), batches[17])
    other = SegmentLoader(sources, batch_size=5, seed=4)
    assert not np.array_equal(other.batch(0).frames_BTHW, batches[0].frames_BTHW)


def test_an_epoch_shows_every_segment_once(sources) -> None:
    source = sources[0]
    loader = SegmentLoader([source], batch_size=1, seed=0, with_frames=False)
    count = len(source.segments)
    epochs = [[loader.batch(e * count + i).tokens_BTK.tobytes() for i in range(count)] for e in (0, 1)]
    assert set(epochs[0]) == set(epochs[1]) and len(set(epochs[0])) == count
    assert epochs[0] != epochs[1]


def test_shares_of_the_games_are_exact(sources) -> None:
    equal = SegmentLoader(sources, batch_size=8, seed=0, with_frames=False)
    assert [int((equal.batch(step).games_B == game_id("Pong")).sum()) for step in range(5)] == [4] * 5


@settings(max_examples=25, deadline=None)
@given(st.integers(0, 40), st.integers(1, 9), st.integers(1, 9))
def test_ranks_together_give_the_batch_of_one_process(sources, step, batch_size, world) -> None:
    if world > batch_size:
        return
    loader = SegmentLoader(sources, batch_size, seed=1)
    for source in (loader, FrameLoader(loader, batch_size)):
        whole = vars(source.batch(step))
        parts = [vars(source.batch(step, rank, world)) for rank in range(world)]
        for name, value in whole.items():
            if value is None:
                assert all(part[name] is None for part in parts), name
                continue
            np.testing.assert_array_equal(np.concatenate([part[name] for part in parts]), value, err_msg=name)


@pytest.mark.parametrize("preload_bytes", [0, 1 << 30])
def test_rgb_frames_of_any_size_come_as_they_lie_in_the_file(tmp_path, preload_bytes) -> None:
    source = make_source(tmp_path, "Freeway", [5, 40], 0, frame=(16, 12, 3))
    data, loader = source.trajectories, SegmentLoader([source], 6, seed=0, preload_bytes=preload_bytes)
    assert data.frame_shape == (16, 12, 3)
    rows_of = {frame.tobytes(): row for row, frame in enumerate(data.frames(0, 45))}
    for step in range(5):
        batch = loader.batch(step)
        assert batch.frames_BTHW.shape == (6, 8, 16, 12, 3) and not batch.frames_BTHW[~batch.mask_BT].any()
        for b in range(6):
            rows = [rows_of[frame.tobytes()] for frame in batch.frames_BTHW[b, batch.mask_BT[b]]]
            np.testing.assert_array_equal(batch.rewards_BT[b, batch.mask_BT[b]], data.rewards[rows])
            assert rows == list(range(rows[0], rows[0] + len(rows)))
        drawn = loader.frames_batch(step, 7).frames_nHW
        assert drawn.shape == (7, 16, 12, 3) and all(frame.tobytes() in rows_of for frame in drawn)


def test_computed_segments_give_the_batches_of_the_table(sources) -> None:
    computed = [
        replace(source, segments=Segmentation(source.trajectories.episode_starts, 8, 4, padding))
        for source, padding in zip(sources, ("right", "left"), strict=True)
    ]
    left, right = SegmentLoader(sources, 7, seed=2), SegmentLoader(computed, 7, seed=2)
    for step in (0, 5, 30):
        assert_same(left.batch(step), right.batch(step))
        assert_same(left.frames_batch(step, 6), right.frames_batch(step, 6))


def test_no_file_stays_open_after_close(sources) -> None:
    loader = SegmentLoader(sources, batch_size=4, seed=0)
    before = loader.batch(0)
    assert open_files() & {source.trajectories.path for source in sources}
    loader.close()
    assert not open_files() & {source.trajectories.path for source in sources}
    assert_same(loader.batch(0), before)
    loader.close()


def open_files() -> set[Path]:
    """The files that this process has open."""
    return {link.readlink() for link in Path("/proc/self/fd").iterdir() if link.is_symlink()}


def test_single_frames_are_real_frames_and_repeatable(sources) -> None:
    loader = SegmentLoader(sources, batch_size=4, seed=0)
    drawn = FrameLoader(loader, 12).batch(5)
    frames, games = drawn.frames_nHW, drawn.games_n
    kept = SegmentLoader(sources, batch_size=4, seed=0, preload_bytes=1 << 30).frames_batch(5, 12).frames_nHW
    assert frames.shape == (12, 84, 84) and frames.dtype == np.uint8 and set(games) == {s.game for s in sources}
    np.testing.assert_array_equal(frames, kept)
    everything = {s.game: {f.tobytes() for f in s.trajectories.frames(0, len(s.trajectories))} for s in sources}
    assert all(frame.tobytes() in everything[int(game)] for frame, game in zip(frames, games, strict=True))
    assert not np.array_equal(frames, loader.frames_batch(6, 12).frames_nHW)


@pytest.mark.parametrize("preload_bytes", [0, 1 << 30])
def test_held_out_episodes_are_never_shown(sources, preload_bytes) -> None:
    whole = sources[0]
    source = SegmentSource(whole.trajectories, whole.segments[whole.segments[:, 0] < 2], whole.tokens_NK)
    loader = SegmentLoader([source], batch_size=8, seed=0, preload_bytes=preload_bytes)
    seen = {frame.tobytes() for frame in whole.trajectories.frames(0, 45)}  # episodes 0 and 1: 5 + 40 steps
    assert source.rows == 45
    for step in range(10):
        batch = loader.batch(step)
        assert batch.frames_BTHW is not None
        assert all(frame.tobytes() in seen for frame in batch.frames_BTHW[batch.mask_BT])
        assert all(frame.tobytes() in seen for frame in loader.frames_batch(step, 20).frames_nHW)


def test_flat_rows_never_leave_the_episode() -> None:
    starts = np.array([0, 3, 10])
    rows, real = flat_rows(np.array([[0, 0, 3], [1, -2, 3], [1, 4, 7]]), starts, 5)
    assert rows.tolist() == [[0, 1, 2, 2, 2], [3, 3, 3, 4, 5], [7, 8, 9, 9, 9]]
    assert real.astype(int).tolist() == [[1, 1, 1, 0, 0], [0, 0, 1, 1, 1], [1, 1, 1, 0, 0]]


def test_impossible_requests_are_refused(sources, tmp_path) -> None:
    source = sources[0]
    with pytest.raises(ValueError, match="0 sources"):
        SegmentLoader([], 4, 0)
    rgb = make_source(tmp_path, "Boxing", [9], 0, frame=(16, 12, 3))
    with pytest.raises(ValueError, match=r"Frames of \(16, 12, 3\), \(84, 84\) share no batch"):
        SegmentLoader([source, rgb], 4, 0)
    with pytest.raises(ValueError, match="token rows"):
        SegmentSource(source.trajectories, source.segments, source.tokens_NK[:-1])
    with pytest.raises(ValueError, match="no segment"):
        SegmentSource(source.trajectories, source.segments[:0])
    with pytest.raises(ValueError, match="other trajectories"):
        SegmentSource(source.trajectories, np.add(source.segments, [[9, 0, 0]]))
    bare = SegmentSource(sources[1].trajectories, sources[1].segments)
    with pytest.raises(ValueError, match="one tokenizer"):
        SegmentLoader([source, bare], 4, 0).batch(0)
