from collections import Counter
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from pipelines.batches.sampler import RULES, SampledFrames, SampledSegments, Sampler, returns_at
from pipelines.environments.actions import to_shared
from pipelines.environments.registry import game_id
from pipelines.episodes.trajectories import FlatEpisodes
from pipelines.errors import WorldlineError

LENGTHS = (1, 4, 12)


class Numbered(FlatEpisodes):
    """Episodes whose row numbers are in frames, rewards and actions."""

    game, frame_shape = "Pong", (2, 2, 3)

    def __init__(self, *lengths: int) -> None:
        rows = np.arange(sum(lengths))
        self.actions, self.rewards = (rows % 6).astype(np.uint8), rows.astype(np.float32)
        self.episode_starts = np.concatenate([[0], np.cumsum(lengths)]).astype(np.int64)
        self.terminals = np.zeros(len(rows), np.uint8)
        self.terminals[self.episode_starts[1:] - 1] = 1
        self.truncations = np.zeros_like(self.terminals)

    def frames(self, start: int, stop: int) -> NDArray[np.uint8]:
        return np.broadcast_to(np.arange(start, stop)[:, None, None, None], (stop - start, 2, 2, 3)).astype(np.uint8)

    def close(self) -> None:
        pass


def test_ends_are_drawn_as_often_as_by_the_originals() -> None:
    """Of 501 steps, a segment of 50 begins at 452 places; 51 of 502 draws take the last of them."""
    even = np.stack([np.zeros(502 * 9), (np.arange(502 * 9) + 0.5) / (502 * 9)], axis=1)
    episodes, steps = RULES["ends"](np.array([452, 0]), even, 50)
    assert not episodes.any() and np.array_equal(np.bincount(steps), [9] * 451 + [9 * 51])
    drawn = Sampler(Numbered(30, 12), "world", 4_000, 0, 6, "left", "ends", least=5).segments(0)
    last = Counter((int(episode), int(end)) for episode, _, end in drawn)
    assert min(end for _, end in last) == 5
    assert abs(last[0, 30] / 2_000 - 6 / 31) < 0.03 and abs(last[1, 12] / 2_000 - 6 / 13) < 0.04
    assert abs(last[0, 17] / 2_000 - 1 / 31) < 0.015


@given(
    lengths=st.lists(st.integers(1, 9), min_size=1, max_size=6),
    length=st.integers(1, 7),
    padding=st.sampled_from(["right", "left"]),
    rule=st.sampled_from(sorted(RULES)),
    step=st.integers(0, 2**40),
    world=st.integers(1, 3),
)
def test_segments_lie_in_one_episode_and_ranks_share_them_out(
    lengths: list[int], length: int, padding: str, rule: str, step: int, world: int
) -> None:
    reader = Numbered(*lengths)
    source = SampledSegments(Sampler(reader, "world", 5, 0, length, padding, rule))
    whole = source.batch(step)
    parts = [source.batch(step, rank, world) for rank in range(world)]
    for name, array in vars(whole).items():
        if array is not None:
            assert np.array_equal(array, np.concatenate([getattr(part, name) for part in parts])), name
    assert whole.frames_BTHW is not None and whole.mask_BT.shape == (5, length)
    for row in range(5):
        real = whole.mask_BT[row]
        assert real[0 if padding == "right" else -1], "the step that was drawn is real"
        edges = np.flatnonzero(np.diff(real.astype(int)))
        assert len(edges) <= 1, "padding is on one side"
        rows = whole.rewards_BT[row][real].astype(int)
        assert (np.diff(rows) == 1).all() and len(set(np.searchsorted(reader.episode_starts, rows, "right"))) == 1
        assert np.array_equal(whole.frames_BTHW[row, real, 0, 0, 0], rows.astype(np.uint8))
        assert not whole.frames_BTHW[row, ~real].any() and not whole.actions_BT[row, ~real].any()
        assert np.array_equal(whole.actions_BT[row][real], to_shared("Pong", reader.actions[rows]))
        assert np.array_equal(whole.ends_BT[row][real], reader.terminals[rows])
    assert (whole.games_B == game_id("Pong")).all()


def test_episodes_are_as_likely_as_each_other_or_their_steps_are() -> None:
    drawn = {}
    for rule in RULES:
        sampler = Sampler(Numbered(*LENGTHS), "world", 4000, 0, rule=rule)
        segments = np.concatenate([sampler.segments(step) for step in range(5)])
        drawn[rule] = Counter(segments[:, 0].tolist())
        steps = Counter(segments[segments[:, 0] == 2][:, 1].tolist())
        if rule == "ends":  # the last step, alone, is as likely as two
            assert 1.7 < steps.pop(11) / np.mean(list(steps.values())) < 2.3
        assert sorted(steps) == list(range(len(steps))) and max(steps.values()) < 1.35 * min(steps.values())
    for rule in ("episodes", "ends"):
        assert all(abs(drawn[rule][episode] / 20_000 - 1 / 3) < 0.02 for episode in range(3))
    assert all(abs(drawn["steps"][episode] / 20_000 - LENGTHS[episode] / 17) < 0.02 for episode in range(3))


def test_each_objective_step_and_seed_draws_its_own_and_repeats_it() -> None:
    sampler = Sampler(Numbered(*LENGTHS), "world", 16, 0)
    first = sampler.segments(3)
    assert np.array_equal(first, replace(sampler, length=1).segments(3))
    for other in (replace(sampler, name="tokenizer"), replace(sampler, seed=1)):
        assert not np.array_equal(first, other.segments(3))
    assert not np.array_equal(first, sampler.segments(4))


def test_held_out_episodes_are_never_drawn_and_frames_come_from_memory() -> None:
    reader = Numbered(*LENGTHS)
    memory = reader.frames(0, 5) + np.uint8(100)
    sampler = Sampler(reader, "eyes", 64, 0, kept=2, memory=memory)
    found = SampledFrames(sampler).batch(0)
    assert set(sampler.segments(0)[:, 0]) == {0, 1}
    assert found.frames_nHW.shape == (64, 2, 2, 3) and found.frames_nHW.min() >= 100


@pytest.mark.parametrize("rule", sorted(RULES))
def test_every_segment_that_has_at_least_so_many_real_steps_is_drawn_and_no_other(rule: str) -> None:
    """REM's own example: of episodes of 5, 2 and 7 steps, a context of 2 leaves 3 + 0 + 5 segments."""
    reader, real = Numbered(5, 2, 7), {}
    for padding in ("right", "left"):
        source = SampledSegments(Sampler(reader, "world", 500, 0, 21, padding, rule, least=3))
        batch = source.batch(0)
        drawn = zip(batch.rewards_BT, batch.mask_BT, strict=True)
        found = {(int(rewards[mask][0]), int(rewards[mask][-1])): int(mask.sum()) for rewards, mask in drawn}
        real[padding] = [found[ends] for ends in sorted(found)]
    assert real == {"right": [5, 4, 3, 7, 6, 5, 4, 3], "left": [3, 4, 5, 3, 4, 5, 6, 7]}
    with pytest.raises(WorldlineError, match="No episode of Pong has 8 steps: play more"):
        Sampler(reader, "world", 4, 0, rule=rule, least=8).segments(0)


def test_nothing_to_draw_from_is_said() -> None:
    with pytest.raises(WorldlineError, match="no episode of Pong"):
        Sampler(Numbered(), "world", 4, 0).segments(0)


@pytest.mark.parametrize("discount", [0.0, 0.9, 1.0])
def test_returns_are_the_discounted_rest_of_each_frames_episode(discount: float) -> None:
    reader = Numbered(3, 5)
    expected = [
        sum(discount**k * reader.rewards[row + k] for k in range(end - row))
        for row, end in ((0, 3), (1, 3), (2, 3), (3, 8), (6, 8), (7, 8))
    ]
    found = returns_at(reader, np.array([0, 1, 2, 3, 6, 7]), discount)
    assert found.dtype == np.float32 and found == pytest.approx(expected)


def test_returns_of_the_papers_example() -> None:
    reader = Numbered(3)
    reader.rewards = np.array([1, 0, 2], np.float32)
    assert returns_at(reader, np.arange(3), 0.99) == pytest.approx([2.9602, 1.98, 2])


def test_what_is_far_ahead_hardly_counts() -> None:
    reader = Numbered(5_000)
    reader.rewards = np.ones(5_000, np.float32)
    assert returns_at(reader, np.zeros(1, np.int64), 0.99)[0] == pytest.approx(100, rel=2e-6)


def test_frames_come_with_returns_where_they_are_asked_for() -> None:
    reader = Numbered(*LENGTHS)
    plain, told = (SampledFrames(Sampler(reader, "tokenizer", 6, 0), discount).batch(3) for discount in (None, 0.5))
    assert plain.returns_n is None and told.returns_n is not None
    rows_n = told.frames_nHW[:, 0, 0, 0].astype(np.int64)
    assert told.returns_n == pytest.approx(returns_at(reader, rows_n, 0.5))


@pytest.mark.parametrize(("padding", "anywhere"), [("both", False), ("left", True)])
def test_a_drawn_step_lies_anywhere_in_its_segment(padding: str, anywhere: bool) -> None:
    """Delta-IRIS's two ways: start = step - u, or stop = min(end of the episode, step + 1 + u), u uniform in 0 .. 3."""
    length, drawn = 4, 4_000
    sampler = Sampler(Numbered(12), "world", drawn, 0, length, padding, "steps", anywhere=anywhere)
    firsts = sampler.segments(0)[:, 1]
    expected: Counter[int] = Counter()
    for step in range(12):
        for u in range(length):
            expected[step - u if padding == "both" else min(12, step + 1 + u) - length] += drawn / 12 / length
    found = Counter(firsts.tolist())
    assert found.keys() == expected.keys()
    for first, count in expected.items():
        assert abs(found[first] - count) < 5 * count**0.5, first
    batch = SampledSegments(sampler).batch(0)
    assert batch.mask_BT.any(1).all() and (padding == "both" or batch.mask_BT[:, -1].all())
    assert not np.array_equal(firsts, sampler.segments(1)[:, 1]) and np.array_equal(firsts, sampler.segments(0)[:, 1])
