"""Episodes against a writer of shards whose truth is known: what is read is what was played, in any form."""

import gzip
import io

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pipelines.bucket.bucket import Bucket
from pipelines.errors import WorldlineError
from pipelines.sources import inflate
from pipelines.sources.rlu.episodes import NUMBERS, ROWS, Episode, RewardEvidence, align, iter_episodes
from pipelines.sources.rlu.png import decode_frames
from pipelines.sources.rlu.tfrecord import REPAIR
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


def changed(field: str, *values: object, at: int | None = None) -> bytes:
    """An episode of 5 transitions of which one field has other values, or one value at a place."""
    features = play(0, 5).features()
    kind, old = features[field]
    new = list(old) if at is not None else list(values)
    if at is not None:
        new[at] = values[0]
    return shard([example(features | {field: (kind, new)})])


NAN, INF = float("nan"), float("inf")


@pytest.mark.parametrize(
    "data, what",
    [
        (
            changed("actions", 1, 2),
            "has 6 observations, 2 actions, 6 unclipped_rewards, .*: each row of an",
        ),
        (changed("observations"), "has 0 observations, 6 actions"),
        (changed("checkpoint_idx", 1, 2), "has 2 values in its field 'checkpoint_idx', not one"),
        (changed("episode_return"), "has 0 values in its field 'episode_return', not one"),
        (changed("actions", 6, at=2), "has action 6: Pong has 0 to 5"),
        (changed("actions", -1, at=2), "has action -1: Pong has 0 to 5"),
        (changed("actions", 256, at=2), "has action 256: Pong has 0 to 5"),
        (
            changed("episode_return", 1e6),
            r"\(checkpoint 0, episode 0\) states episode_return 1e\+06, its rewards add",
        ),
        (changed("episode_return", NAN), "states episode_return nan, its rewards add up to"),
        (changed("clipped_episode_return", 7.5), "states clipped_episode_return 7.5, its rewards add up to"),
        (changed("unclipped_rewards", 2, at=0), "has clipped reward 0 for 2 in row 0"),
        (changed("clipped_rewards", 5, at=4), "has clipped reward 5 for 21 in row 4"),
        (changed("unclipped_rewards", INF, at=1), "has unclipped_rewards that are no finite numbers"),
        (changed("clipped_rewards", NAN, at=1), "has clipped_rewards that are no finite numbers"),
        (changed("discounts", 0, at=2), "has discount 0 in row 2 of 6: only its last may have it"),
        (changed("discounts", NAN, at=2), "has discounts outside 0 to 1"),
        (changed("discounts", 1.5, at=2), "has discounts outside 0 to 1"),
        (changed("checkpoint_idx", -1), "counts from below 0"),
        (changed("observations", bytes(20_000), at=3), "has a frame of 20,000 bytes, its PNG has at most 16,384"),
        (shard([example(play(0, 1, terminated=False).features())]), "has 1 rows: it needs two for a transition"),
    ],
)
def test_an_episode_that_contradicts_itself_is_one_line(data: bytes, what: str) -> None:
    with pytest.raises(WorldlineError, match=what) as caught:
        list(iter_episodes(io.BytesIO(data), GAME, "gs://b/Pong/run_1-00003-of-00050"))
    text = str(caught.value)
    assert text.startswith("gs://b/Pong/run_1-00003-of-00050: record 0 ") and text.endswith(REPAIR) and "\n" not in text


@pytest.mark.parametrize("field", [*NUMBERS, *ROWS])
def test_an_episode_without_a_field_is_one_line(field: str) -> None:
    features = play(0, 5).features()
    del features[field]
    with pytest.raises(WorldlineError, match=f"record 0 has no field '{field}', every episode has one of"):
        list(iter_episodes(io.BytesIO(shard([example(features)])), GAME))


@pytest.mark.parametrize("rows, what", [(27_002, "at most 27,001"), (27_001, "27,001 rows and no end")])
def test_an_episode_beyond_the_limit_is_one_line(rows: int, what: str) -> None:
    features = play(0, 4, terminated=False).features()
    for name in ROWS:
        kind, values = features[name]
        features[name] = kind, [values[0]] * rows
    features |= {"observations": ("bytes", [b"x"] * min(rows, 27_001))} if rows == 27_001 else {}
    with pytest.raises(WorldlineError, match=rf"{what}|27,001 values that are possible"):
        list(iter_episodes(io.BytesIO(shard([example(features)])), GAME))


@pytest.mark.parametrize("inflater", ["isal", "standard library"])
def test_a_shard_cut_anywhere_is_one_line_and_never_a_shorter_shard(inflater, tmp_path, monkeypatch) -> None:
    """From the bucket through gzip: prefixes of every kind, and bytes changed anywhere."""
    if inflater == "standard library":
        monkeypatch.setattr(inflate, "open_gzip", gzip.GzipFile)
    path = tmp_path / "run_1-00000-of-00001"
    shards.write_shard(path, [play(0, 1)])
    whole, bucket = path.read_bytes(), Bucket.of(f"file://{tmp_path}")

    def episodes() -> int:
        item = bucket.stat(path.name)
        with inflate.inflated(item, bucket) as stream:
            return len(list(iter_episodes(stream, GAME, item.url)))

    assert episodes() == 1
    for length in {*range(0, len(whole), 11), *range(len(whole) - 12, len(whole))}:
        path.write_bytes(whole[:length])
        with pytest.raises(WorldlineError, match="run_1-00000-of-00001 ") as caught:
            episodes()
        assert "\n" not in str(caught.value)
    trailer = range(len(whole) - 8, len(whole))
    for place in {*range(10, len(whole) - 9, 11), *trailer}:  # what is left out holds bits that nobody reads
        path.write_bytes(whole[:place] + bytes([whole[place] ^ 16]) + whole[place + 1 :])
        with pytest.raises(WorldlineError, match="run_1-00000-of-00001") as caught:
            episodes()
        assert "\n" not in str(caught.value)
