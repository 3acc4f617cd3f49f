"""Runs of parts: where their rows come from, and episodes cut at every seam."""

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from pipelines.sources.dqn_replay.ring_log import RingLog
from pipelines.sources.dqn_replay.stream import Part, Stream


def part(file: int, start: int, stop: int) -> Part:
    rows = np.arange(40)
    return RingLog(file, 40, rows, (rows % 5).astype(np.float32), (rows % 7 == 6).astype(np.uint8)), (start, stop)


parts = st.lists(
    st.tuples(st.integers(0, 9), st.integers(0, 30), st.integers(1, 10)).map(lambda t: part(t[0], t[1], t[1] + t[2])),
    min_size=1,
    max_size=6,
)


@given(parts, st.data())
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


@given(parts, st.integers(1, 4))
def test_a_seam_is_crossed_between_a_terminal_and_the_rows_behind_it(taken, count) -> None:
    stream = Stream.of(taken, origin=False)
    seams = set(stream.offsets[1:-1].tolist())
    expected = [any(end + ahead in seams for ahead in range(count)) for end in stream.ends.tolist()]
    assert stream.crosses(stream.ends, count).tolist() == expected
