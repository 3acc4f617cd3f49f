"""Episodes against a writer of shards whose truth is known: what is read is what was played, in any form."""

import io

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pipelines.sources.rlu.episodes import Episode, RewardEvidence, align, iter_episodes
from pipelines.sources.rlu.png import decode_frames
from tests.pipelines.sources.rlu import shards
from tests.pipelines.sources.rlu.shards import Truth, example, play, shard

GAME = "Pong"


def read(episodes: list[Truth], shifted: bool = False, **form: object) -> list[Episode]:
    """Through the file and back."""
    data = shard(example(truth.features(shifted), **form) for truth in episodes)  # type: ignore[arg-type]
    return list(iter_episodes(io.BytesIO(data), GAME))


@settings(max_examples=40, deadline=None)
@given(
    lengths=st.lists(st.tuples(st.integers(1, 12), st.booleans()), min_size=1, max_size=4),
    checkpoint=st.integers(0, 49),
    shifted=st.booleans(),
    packed=st.booleans(),
    unknown=st.sampled_from([b"", b"\x78\x05", b"\x7a\x03abc", b"\x7d1234", b"\x7912345678"]),
    data=st.data(),
)
def test_every_transition_is_the_one_that_was_played(lengths, checkpoint, shifted, packed, unknown, data) -> None:
    """Lengths, true ends, cuts, orders of features, lists packed or not, unknown fields, rewards in two ways."""
    played = [
        play(seed, steps + (not end), end, checkpoint, seed)  # a cut episode of one row would be no transition
        for seed, (steps, end) in enumerate(lengths)
    ]
    order = data.draw(st.permutations(list(played[0].features())))
    found = read(played, shifted, order=order, packed=packed, unknown=unknown)
    for truth, episode in zip(played, found, strict=True):
        transitions = align(episode, shifted)
        count = len(truth.actions) - (shifted and not truth.terminated)
        assert (episode.checkpoint, episode.episode) == (checkpoint, truth.episode)
        assert len(transitions) == len(transitions.pngs) == len(transitions.clipped_N) == count
        np.testing.assert_array_equal(decode_frames(transitions.pngs), truth.frames[:count])
        np.testing.assert_array_equal(transitions.actions_N, truth.actions[:count])
        np.testing.assert_array_equal(transitions.rewards_N, truth.rewards[:count])
        np.testing.assert_array_equal(transitions.clipped_N, truth.rewards[:count].clip(-1, 1))
        assert transitions.terminated == truth.terminated and not transitions.truncated
    ended = sum(truth.terminated for truth in played)
    evidence = sum(map(RewardEvidence.of, found), RewardEvidence())
    assert evidence.ended == ended and evidence.shown >= (ended > 0) and not evidence.contradicted
    assert evidence.shifted == (shifted and ended > 0)


def test_where_a_reward_stands_is_decided_by_counts() -> None:
    nothing = RewardEvidence(ended=5)
    assert not nothing.shifted and not nothing.shown and "as far as anything shows" in nothing.detail
    beside = RewardEvidence(ended=5, in_last_but_one=4, in_first=1)
    assert not beside.shifted and beside.shown and beside.detail.startswith("a reward stands in the row of its action:")
    behind = RewardEvidence(ended=5, in_last=4, in_last_but_one=1)
    assert behind.shifted and behind.detail.startswith("a reward stands one row behind its action:")
    assert "of 5 true ends 4 have one in the terminal row, 1 in the row before; 0 episodes" in behind.detail
    both = behind + beside
    assert both == RewardEvidence(10, 4, 5, 1) and both.contradicted and both.shifted and "not all" in both.detail


@pytest.mark.parametrize("rows, truncated", [(26_999, False), (27_000, True)])
def test_an_episode_of_27_000_steps_met_the_time_limit(rows: int, truncated: bool) -> None:
    truth = play(0, 4, terminated=False)
    features = truth.features()
    long = {name: (kind, (list(values) * rows)[:rows]) for name, (kind, values) in features.items()}
    for name in ("checkpoint_idx", "episode_idx"):
        long[name] = features[name]
    for name, of in (("episode_return", "unclipped_rewards"), ("clipped_episode_return", "clipped_rewards")):
        long[name] = ("floats", [sum(long[of][1])])
    (episode,) = iter_episodes(io.BytesIO(shards.shard([example(long)])), GAME)
    assert len(align(episode, shifted=False)) == rows and align(episode, shifted=False).truncated == truncated
