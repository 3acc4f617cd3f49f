"""Stitching against the stream that each writer was given: nothing twice, nothing joined wrongly, nothing lost."""

from pathlib import Path

import numpy as np
import pytest
from hypothesis import assume, example, given, settings
from hypothesis import strategies as st

from pipelines.errors import WorldlineError
from pipelines.sources.dqn_replay.log_order import UNJOINED, Continuity, Padding
from pipelines.sources.dqn_replay.ring_log import RingLog
from pipelines.sources.dqn_replay.stitch import Part, Stitched, Stream, stitch
from pipelines.sources.source import EPISODE_COLUMNS
from tests.pipelines.sources.dqn_replay.toy import InOrder, Kept, Liar, Truth, play

lengths_of_episodes = st.lists(st.integers(1, 45), max_size=14)
rings = {
    "capacity": st.integers(8, 60),
    "stack_size": st.integers(1, 5),
    "lengths": lengths_of_episodes,
    "unfinished": st.integers(1, 30),
    "seed": st.integers(0, 2**16),
}


def stream_indices(found: Stitched, truth: Truth) -> list[list[int]]:
    """For each episode the add numbers that its rows really hold."""
    episodes: list[list[int]] = [[] for _ in range(len(found.episodes))]
    for episode, file, start, stop in found.pieces.itertuples(index=False):
        episodes[episode] += [truth.number(file, row) for row in range(start, stop)]
    return episodes


def whole(found: Stitched, truth: Truth) -> list[list[int]]:
    """The episodes that the table calls complete."""
    numbers = stream_indices(found, truth)
    return [rows for complete, rows in zip(found.episodes.complete, numbers, strict=True) if complete]


def check_exact(found: Stitched, truth: Truth) -> set[int]:
    """Every claim of the tables against the truth; returns the real transitions in them, by add number."""
    episodes = stream_indices(found, truth)
    everything = [index for episode in episodes for index in episode]
    assert len(everything) == len(set(everything)), "a row appears twice"
    truths = {episode[0]: episode for episode in truth.episodes}
    owner = {index: number for number, episode in enumerate(truth.episodes) for index in episode}
    assert list(found.episodes.columns) == EPISODE_COLUMNS
    for claim, indices in zip(found.episodes.itertuples(), episodes, strict=True):
        assert claim.length == len(indices)
        assert np.all(np.diff(indices) == 1), "rows that are not neighbours were joined"
        real = [index for index in indices if index in owner]
        assert len({owner[index] for index in real}) <= 1, "two episodes were joined"
        assert claim._4 == sum(truth.rewards[index] for index in real)
        assert [truth.number(claim.first_file, claim.first_row), truth.number(claim.last_file, claim.last_row)] == [
            indices[0],
            indices[-1],
        ]
        assert claim.checkpoint == claim.last_file
        if claim.complete:
            assert indices == truths[indices[0]] and truth.terminals[indices[-1]]
        else:  # blank rows only at the head of a stream that starts midway
            blank = [index for index in indices if index not in owner]
            assert len(blank) < truth.stack_size and blank == indices[: len(blank)]
    fresh = {
        truth.number(span.log.checkpoint, row)
        for span in found.spans
        for start, stop in span.row_ranges
        for row in range(start, stop)
    }
    assert fresh & set(owner) <= set(everything), "a new transition was lost"
    assert sum(each.fresh for each in found.facts) == len(fresh)
    return set(everything) & set(owner)


def held(truth: Truth) -> set[int]:
    """Every real transition that any log holds."""
    numbers = {n for count in truth.counts for n in range(max(0, count - truth.capacity), count)}
    return numbers & set(truth.frames)


@settings(max_examples=80, deadline=None)
@given(**rings, idle=st.sampled_from([0.0, 0.3, 1.0]))
@example(capacity=23, stack_size=5, lengths=[1, 9], unfinished=1, seed=0, idle=0.0)
def test_the_original_writer_is_stitched_exactly(capacity, stack_size, lengths, unfinished, seed, idle) -> None:
    assume(capacity > stack_size + 1)
    ring = Kept(capacity, stack_size)
    truth = play(ring, Path(), lengths, seed, unfinished=unfinished, idle=idle)
    if [log.add_count for log in ring.taken] == [0]:  # its only lap went unlogged, and the last log has no new row
        with pytest.raises(WorldlineError, match="no transition"):
            stitch(ring.taken, agent=1, stack_size=stack_size)
        return
    found = stitch(ring.taken, agent=1, stack_size=stack_size)
    everything = check_exact(found, truth)
    assert not any(each.bare or each.refuted for each in found.facts) and all(e.range_fits for e in found.facts)
    # What the files show at all: each logged lap but its last row, and the row before it.
    last = max(truth.frames)
    kept: set[int] = set()
    for lap in truth.logged:
        kept |= set(range(max(lap * capacity - 1, 0), min((lap + 1) * capacity - 1, last + 1)))
    if len(truth.logged) == 1:  # a lone last log cannot prove what its last row is
        kept.discard(truth.logged[0] * capacity - 1)
    assert set(truth.frames) & kept <= everything, "a logged transition was lost"
    gaps = int(np.sum(np.diff(sorted(set(truth.logged))) > 1))
    unjoined = sum(each.continuity in UNJOINED for each in found.facts)
    assert unjoined >= gaps
    alone = len(truth.logged) == 1 and truth.logged[0] * capacity + capacity - stack_size <= last + 1
    if unjoined == gaps and not alone:  # every join was proven, so every whole episode must have been found
        complete = {rows[0] for rows in whole(found, truth)}
        for episode in truth.episodes:
            before = range(max(episode[0] - stack_size, 0), episode[0])
            known = kept.issuperset(episode) and kept.issuperset(before)
            if known and truth.terminals[episode[-1]]:
                assert episode[0] in complete, "a whole episode was not recognised"


@settings(max_examples=60, deadline=None)
@given(**rings, every=st.integers(1, 150), honest=st.booleans())
def test_snapshots_at_any_moment(capacity, stack_size, lengths, unfinished, seed, every, honest) -> None:
    assume(capacity > stack_size + 1)
    assume(honest or every < capacity)  # reset counts and whole laps unseen: nothing says how many rows are missing
    ring = Kept(capacity, stack_size, every=every, honest=honest)
    truth = play(ring, Path(), lengths, seed, unfinished=unfinished)
    if ring.taken[0].add_count == 0:  # a lone last log, reset right at a lap's end
        return
    found = stitch(ring.taken, agent=1, stack_size=stack_size)
    everything = check_exact(found, truth)
    alone = len(ring.taken) == 1
    if honest and not (alone and ring.add_count == capacity):
        assert held(truth) == everything, "true counts leave nothing out"
    assert not any(each.differing for each in found.facts if not each.reset)


@settings(max_examples=40, deadline=None)
@given(**rings, pads=st.booleans())
def test_a_writer_that_logs_full_rings_in_order(capacity, stack_size, lengths, unfinished, seed, pads) -> None:
    assume(capacity > stack_size + 1)
    ring = InOrder(capacity, stack_size, pads=pads, honest=True)
    truth = play(ring, Path(), lengths, seed, unfinished=unfinished, idle=0.0, lively=True)
    assert check_exact(stitch(ring.taken, agent=1, stack_size=stack_size), truth) == held(truth)


@settings(max_examples=60, deadline=None)
@given(**rings)
def test_a_writer_that_never_pads(capacity, stack_size, lengths, unfinished, seed) -> None:
    assume(capacity > stack_size + 1)
    ring = Kept(capacity, stack_size, pads=False)
    truth = play(ring, Path(), lengths, seed, unfinished=unfinished, idle=0.0, lively=True)
    if ring.taken[0].add_count == 0:
        return
    found = stitch(ring.taken, agent=1, stack_size=stack_size)
    everything = check_exact(found, truth)
    patterns = {each.padding for each in found.facts}
    assert patterns <= {Padding.NONE, Padding.UNKNOWN}
    if (
        Padding.NONE in patterns
        and not any(each.continuity in UNJOINED for each in found.facts)
        and len(truth.logged) > 1
    ):
        ended = [episode for episode in truth.episodes if truth.terminals[episode[-1]]]
        assert whole(found, truth) == [episode for episode in ended if everything.issuperset(episode)]


@settings(max_examples=60, deadline=None)
@given(**rings)
def test_counts_that_lie_about_the_order_are_refuted_by_the_rows(
    capacity, stack_size, lengths, unfinished, seed
) -> None:
    assume(capacity > stack_size + 1 and stack_size > 1)
    ring = Liar(capacity, stack_size)
    truth = play(ring, Path(), lengths, seed, unfinished=unfinished, idle=0.0, lively=True)
    if ring.taken[0].add_count == 0:
        return
    found = stitch(ring.taken, agent=1, stack_size=stack_size)
    if any(each.refuted for each in found.facts):
        assert not any(each.continuity == Continuity.JOINED for each in found.facts)
        assert all(np.all(np.diff(indices) == 1) for indices in stream_indices(found, truth))


def test_a_lie_is_found_where_a_terminal_stands_before_the_border() -> None:
    ring = Liar(capacity=40, stack_size=4)
    play(ring, Path(), [17, 57] * 10, idle=0.0, lively=True)  # every other lap starts midway and ends with a terminal
    found = stitch(ring.taken, agent=1, stack_size=4)
    assert sum(each.refuted for each in found.facts) > 0
    assert {each.continuity for each in found.facts} & {Continuity.DISORDERED} and not found.episodes.complete.all()
    honest = Kept(capacity=40, stack_size=4)
    play(honest, Path(), [17, 18, 17, 16] * 20, idle=0.0, lively=True)
    found = stitch(honest.taken, agent=1, stack_size=4)
    assert sum(each.confirmed for each in found.facts) > 3 and not any(each.refuted for each in found.facts)


@settings(max_examples=40, deadline=None)
@given(**rings, gone=st.sets(st.integers(0, 12), max_size=4), every=st.sampled_from([0, 17, 40]))
def test_missing_files_are_gaps_and_nothing_is_joined_over_them(
    capacity, stack_size, lengths, unfinished, seed, gone, every
) -> None:
    assume(capacity > stack_size + 1)
    ring = Kept(capacity, stack_size, every=every)
    truth = play(ring, Path(), lengths, seed, unfinished=unfinished)
    logs = [log for log in ring.taken if log.checkpoint not in gone]
    if not logs or (len(logs) == 1 and logs[0].add_count == 0):
        return
    check_exact(stitch(logs, agent=1, stack_size=stack_size), truth)


def regular(episodes: int = 20, unfinished: int = 5) -> tuple[list[RingLog], Truth]:
    ring = Kept(capacity=48, stack_size=4)
    truth = play(ring, Path(), [13] * episodes, unfinished=unfinished)
    return ring.taken, truth


def test_a_plain_run_loses_only_its_unfinished_tail() -> None:
    logs, truth = regular()
    found = stitch(logs, agent=3, stack_size=4)
    check_exact(found, truth)
    assert [each.continuity for each in found.facts] == [Continuity.FIRST] + [Continuity.JOINED] * (len(logs) - 1)
    assert found.episodes.complete.sum() == 20 and len(found.episodes) == 21
    assert not found.episodes.terminated.iloc[-1]
    assert set(found.episodes.agent) == {3}


def test_a_missing_log_is_a_gap_with_a_size() -> None:
    logs, truth = regular()
    found = stitch(logs[:2] + logs[3:], agent=1, stack_size=4)
    check_exact(found, truth)
    assert [(each.checkpoint, each.missing) for each in found.facts if each.continuity == Continuity.GAP] == [(3, 48)]


def test_rows_that_differ_from_the_log_before_are_not_joined() -> None:
    ring = Kept(capacity=48, stack_size=4, every=30, honest=True)
    play(ring, Path(), [13] * 20)
    other = ring.taken[2]
    actions = other.actions.copy()
    actions[other.oldest % 48] += 1
    logs = [*ring.taken[:2], RingLog(2, other.add_count, actions, other.rewards, other.terminals), *ring.taken[3:]]
    found = stitch(logs, agent=1, stack_size=4)
    seen = found.facts[2]
    assert seen.continuity == Continuity.DIFFERS and seen.differing == 1 and seen.overlap > 1


def test_a_count_that_goes_back_is_seen() -> None:
    logs, _ = regular()
    swapped = [RingLog(n, log.add_count, log.actions, log.rewards, log.terminals) for n, log in enumerate(logs)]
    swapped[2], swapped[3] = (
        RingLog(2, logs[3].add_count, logs[3].actions, logs[3].rewards, logs[3].terminals),
        RingLog(3, logs[2].add_count, logs[2].actions, logs[2].rewards, logs[2].terminals),
    )
    found = stitch(swapped, agent=1, stack_size=4)
    assert [each.checkpoint for each in found.facts if each.continuity == Continuity.BACK] == [3]


def test_an_invalid_range_of_another_cursor_joins_nothing() -> None:
    logs, truth = regular()
    odd = RingLog(2, logs[2].add_count, logs[2].actions, logs[2].rewards, logs[2].terminals, logs[2].invalid_range + 1)
    found = stitch([*logs[:2], odd, *logs[3:]], agent=1, stack_size=4)
    check_exact(found, truth)
    assert [each.checkpoint for each in found.facts if each.continuity == Continuity.RANGE] == [2, 3]


def test_the_same_snapshot_twice_adds_nothing() -> None:
    logs, _ = regular()
    again = RingLog(99, logs[-2].add_count, logs[-2].actions, logs[-2].rewards, logs[-2].terminals)
    found = stitch([*logs[:-1], again], agent=1, stack_size=4)
    assert found.facts[-1].continuity == Continuity.AGAIN and found.facts[-1].fresh == 0
    assert found.episodes.equals(stitch(logs[:-1], agent=1, stack_size=4).episodes)


def test_time_limit_is_a_truncation_not_a_death_and_longer_is_not_complete() -> None:
    ring = Kept(capacity=80, stack_size=4)
    play(ring, Path(), [9, 12, 13, 9])
    found = stitch(ring.taken, agent=1, stack_size=4, time_limit=12)
    assert found.episodes.truncated.tolist() == [False, True, False, False]
    assert found.episodes.terminated.tolist() == [True, False, True, True]
    assert found.episodes.complete.tolist() == [True, True, False, True]
    assert found.too_long == 1


def test_padding_may_be_kept_as_the_head_of_each_episode() -> None:
    logs, truth = regular()
    plain, kept = (stitch(logs, agent=1, stack_size=4, keep_padding=keep) for keep in (False, True))
    complete = plain.episodes.complete
    assert kept.episodes.complete.equals(complete)
    assert (kept.episodes.length - plain.episodes.length)[complete].tolist() == [3] * 20
    assert kept.episodes["return"].equals(plain.episodes["return"])
    for short, long in zip(whole(plain, truth), whole(kept, truth), strict=True):
        assert long == [*range(short[0] - 3, short[0]), *short]


def test_a_missing_blank_row_is_counted() -> None:
    ring = Kept(capacity=60, stack_size=4)
    play(ring, Path(), [9, 12, 9])
    log = ring.taken[0]
    actions = log.actions.copy()
    actions[int(np.flatnonzero(log.terminals)[0]) + 3] = 1
    found = stitch([RingLog(0, log.add_count, actions, log.rewards, log.terminals)], agent=1, stack_size=4)
    assert (found.facts[0].padded, found.facts[0].bare, found.facts[0].padding) == (1, 1, Padding.MIXED)
    assert found.episodes.complete.tolist() == [True, False, True]


def ring(checkpoint: int, add_count: int, capacity: int = 10) -> RingLog:
    zeros = np.zeros(capacity, np.int64)
    return RingLog(checkpoint, add_count, zeros, zeros.astype(np.float32), zeros)


@pytest.mark.parametrize(
    ("logs", "words"),
    [
        ([], "No replay log"),
        ([ring(0, 0)], "no transition"),
        ([ring(0, 9), ring(1, 19, capacity=20)], "one ring size"),
        ([ring(1, 9), ring(0, 19)], "ascending"),
        ([ring(0, -3)], "add_count -3"),
    ],
)
def test_logs_that_contradict_each_other_are_refused(logs, words) -> None:
    with pytest.raises(WorldlineError, match=words) as caught:
        stitch(logs, agent=1, stack_size=4)
    assert "\n" not in str(caught.value)


def part(file: int, start: int, stop: int) -> Part:
    rows = np.arange(40)
    return RingLog(file, 40, rows, (rows % 5).astype(np.float32), (rows % 7 == 6).astype(np.uint8)), (start, stop)


several_parts = st.lists(
    st.tuples(st.integers(0, 9), st.integers(0, 30), st.integers(1, 10)).map(lambda t: part(t[0], t[1], t[1] + t[2])),
    min_size=1,
    max_size=6,
)


@given(several_parts, st.data())
def test_tables_name_the_rows_that_were_put_in(taken, data) -> None:
    rows = [(log.checkpoint, row) for log, (start, stop) in taken for row in range(start, stop)]
    stream = Stream.of(taken, origin=False)
    assert len(stream) == len(rows)
    bounds = sorted(data.draw(st.sets(st.integers(0, len(rows)), min_size=2))) if len(rows) > 1 else [0, 1]
    starts, stops = np.array(bounds[:-1]), np.array(bounds[1:])
    episodes, pieces = stream.table(starts, stops)
    for number, (start, stop) in enumerate(zip(starts, stops, strict=True)):
        mine = pieces[pieces["episode"] == number]
        assert [(f, r) for _, f, a, b in mine.itertuples(index=False) for r in range(a, b)] == rows[start:stop]
        assert episodes["return"][number] == sum(row % 5 for _, row in rows[start:stop])
        assert (episodes["first_file"][number], episodes["first_row"][number]) == rows[start]
        assert (episodes["last_file"][number], episodes["last_row"][number]) == rows[stop - 1]


@given(several_parts, st.integers(1, 4))
def test_a_seam_is_crossed_between_a_terminal_and_the_rows_behind_it(taken, count) -> None:
    stream = Stream.of(taken, origin=False)
    seams = set(stream.offsets[1:-1].tolist())
    expected = [any(end + ahead in seams for ahead in range(count)) for end in stream.ends.tolist()]
    assert stream.crosses(stream.ends, count).tolist() == expected
