"""Episodes come together from segments in any order; segments that cannot be of whole episodes are one line."""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from pipelines.batches.shard_episodes import ShardEpisodes
from pipelines.batches.shards import Segment, ShardSet, shard_name, write_index, write_shard
from pipelines.errors import WorldlineError

LENGTH = 4
LENGTHS = (6, 3)  # steps of the two episodes


def segment(episode: int, start: int) -> Segment:
    """A window whose frames, actions and rewards say which step they are of; the last step of an episode ends it."""
    steps = start + np.arange(LENGTH)
    mask = (steps >= 0) & (steps < LENGTHS[episode])
    numbers = (10 * episode + steps) * mask
    frames = np.broadcast_to(numbers[:, None, None], (LENGTH, 5, 7)).astype(np.uint8)
    ends = ((steps == LENGTHS[episode] - 1) & mask).astype(np.uint8)
    source = np.stack([numbers * 0 + 1, numbers * 0 + 2, numbers], axis=1).astype(np.int32) * mask[:, None]
    actions = np.array([0, 2, 5])[numbers % 3] * mask  # of Freeway: noop, up, down
    return Segment(
        frames, actions.astype(np.uint8), (numbers % 2).astype(np.float32), ends, mask, source, episode, start
    )


def gathered(folder: Path, segments: Sequence[Segment], **options: int) -> ShardEpisodes:
    shards = [
        write_shard(
            folder / shard_name(number), 2 * number, iter(segments[2 * number : 2 * number + 2]), "Freeway", True
        )
        for number in range(-(-len(segments) // 2))
    ]
    facts = {"game": "Freeway", "length": LENGTH, "compress": True, "frame": (5, 7)}
    write_index(folder, shards, facts | {"worldline": {"options": options}})
    return ShardEpisodes(ShardSet(folder), folder / "aside")


WHOLE = [segment(1, 0), segment(0, 2), segment(0, 0), segment(0, 4)]


@pytest.mark.parametrize("order", [(0, 1, 2, 3), (3, 2, 1, 0), (2, 0, 3, 1), (2, 1, 3, 0)])
def test_any_order_gives_the_episodes(tmp_path, order) -> None:
    found = gathered(tmp_path, [WHOLE[place] for place in order])
    expected = np.array([*range(6), 10, 11, 12])
    assert found.episode_starts.tolist() == [0, 6, 9] and found.num_episodes == 2
    np.testing.assert_array_equal(found.frames(0, 9)[:, 4, 6], expected)
    np.testing.assert_array_equal(found.actions, expected % 3)
    np.testing.assert_array_equal(found.rewards, expected % 2)
    np.testing.assert_array_equal(found.source_rows(0, 9)[:, 2], expected)
    assert np.flatnonzero(found.terminals).tolist() == [5, 8] and not found.truncations.any()


def test_left_padding_and_a_time_out_are_read(tmp_path) -> None:
    timed_out = replace(segment(1, -1), ends=np.zeros(LENGTH, np.uint8))
    found = gathered(tmp_path, [segment(0, -2), segment(0, 2), timed_out])
    assert np.flatnonzero(found.terminals).tolist() == [5] and np.flatnonzero(found.truncations).tolist() == [8]


@pytest.mark.parametrize(
    ("segments", "words"),
    [
        ([segment(0, 2), segment(0, 4), segment(1, 0)], "leaves out 2 of 9 steps"),
        ([segment(1, 0)], "numbers its 1 episodes otherwise"),
        ([*WHOLE, replace(segment(0, 2), frames=segment(0, 2).frames ^ 1)], "contradicts itself in episode 0"),
        ([*WHOLE, replace(segment(0, 2), rewards=segment(0, 2).rewards + 1)], "contradicts itself in episode 0"),
        ([*WHOLE, replace(segment(0, 2), mask=np.array([1, 0, 1, 1], np.bool_))], "with a hole"),
        ([*WHOLE, replace(segment(0, 0), start=-1)], "before its start"),
        ([*WHOLE, replace(segment(0, 0), mask=np.zeros(LENGTH, np.bool_))], "a segment of no step"),
        ([*WHOLE, replace(segment(0, 0), start=1 << 40)], "or too long"),
        ([*WHOLE, replace(segment(0, 0), start=1 << 19)], "leaves out steps"),
    ],
)
def test_what_no_export_writes_is_one_line(tmp_path, segments, words) -> None:
    with pytest.raises(WorldlineError, match=words) as caught:
        gathered(tmp_path, segments)
    assert "\n" not in str(caught.value) and "export it again" in str(caught.value)


def test_a_stride_above_the_length_is_refused_though_no_hole_shows(tmp_path) -> None:
    with pytest.raises(WorldlineError, match="leaves out steps: 4 of every 6"):
        gathered(tmp_path, WHOLE, stride=6)
