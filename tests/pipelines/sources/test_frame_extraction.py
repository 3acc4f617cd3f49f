"""Extracted frames: any split over files gives the same trajectory file, or one line says what is wrong with it."""

import errno
import gzip
import itertools
import subprocess
import sys
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pipelines.bucket.bucket import Bucket
from pipelines.episodes.trajectories import CHUNK, unpack
from pipelines.errors import MayPass, WorldlineError
from pipelines.sources.dqn_replay.source import SOURCE
from pipelines.sources.frame_extraction import (
    ExtractedFrames,
    ExtractionPlan,
    extract_all,
    extract_frames,
    merge_chunks,
)

PIECE = ["start", "stop", "slot"]


def write_frames(path: Path, frames: np.ndarray) -> None:
    with gzip.open(path, "wb", compresslevel=1) as file:
        np.save(file, frames)


def plan_of(root: Path, name: str, pieces: list[tuple[int, int, int]], edges: tuple[int, ...] = ()) -> ExtractionPlan:
    bucket, table = Bucket.of(f"file://{root}"), pd.DataFrame(pieces, columns=PIECE)
    item = bucket.stat(name)
    return ExtractionPlan(item, lambda: SOURCE.blocks(item, bucket, table), table, np.array(sorted(edges), np.int64))


def merged(extracted: list[ExtractedFrames], total: int) -> np.ndarray:
    return np.concatenate([unpack(packed, (84, 84)) for _, packed in merge_chunks(extracted, total)])


def numbered(count: int, first: int = 0) -> np.ndarray:
    """Frames that say in every pixel which they are."""
    numbers = np.arange(first, first + count, dtype=np.uint16)
    frames = np.empty((count, 84, 84), np.uint8)
    frames[:, :42], frames[:, 42:] = (numbers % 251)[:, None, None], (numbers // 251)[:, None, None]
    return frames


@settings(max_examples=25, deadline=None)
@given(data=st.data())
def test_any_pieces_of_any_files_are_put_where_they_belong(tmp_path_factory, data) -> None:
    root = tmp_path_factory.mktemp("bucket")
    rows = data.draw(st.lists(st.integers(1, 700), min_size=1, max_size=3), "rows per file")
    taken = []
    for number, count in enumerate(rows):
        write_frames(root / f"f{number}", numbered(count, 1000 * number))
        cuts = sorted(data.draw(st.sets(st.integers(0, count), min_size=2, max_size=6), "cuts") | {0, count})
        keep = data.draw(st.lists(st.integers(0, 2), min_size=len(cuts) - 1, max_size=len(cuts) - 1), "copies")
        spans = list(itertools.pairwise(cuts))
        taken += [(number, *span) for span, copies in zip(spans, keep, strict=True) for _ in range(copies)]
    taken = data.draw(st.permutations(taken), "slot order") or [(0, 0, 1)]
    wanted, pieces, slot = [], {}, 0
    for number, start, stop in taken:
        wanted.append(numbered(stop - start, 1000 * number + start))
        pieces.setdefault(number, []).append((start, stop, slot))
        slot += stop - start
    edges = (0, slot - 1)
    extracted = [
        extract_frames(plan_of(root, f"f{n}", mine, edges), root / f"s{n}", lambda _: None)
        for n, mine in pieces.items()
    ]
    np.testing.assert_array_equal(merged(extracted, slot)[:slot], np.concatenate(wanted))
    assert {at for found in extracted for at in found.edges["slot"].tolist()} == set(edges)
    assert sum(found.inflated for found in extracted) == sum(rows[n] for n in pieces) * 84 * 84
    backwards = list(merge_chunks(list(reversed(extracted)), slot))
    assert backwards == list(merge_chunks(extracted, slot))
    again = ExtractedFrames.find(extracted[0].path)
    assert again is not None and np.array_equal(again.records, extracted[0].records)


@pytest.fixture
def two(tmp_path) -> list[ExtractedFrames]:
    """Frames 0..19 of one file, 20..39 of another; chunk 1 is shared."""
    for number in (0, 1):
        write_frames(tmp_path / f"f{number}", numbered(20, 20 * number))
    return [
        extract_frames(plan_of(tmp_path, f"f{n}", [(0, 20, 20 * n)]), tmp_path / f"s{n}", lambda _: None)
        for n in (0, 1)
    ]


def test_absent_and_doubled_frames_are_one_line(two) -> None:
    np.testing.assert_array_equal(merged(two, 40)[:40], numbered(40))
    with pytest.raises(WorldlineError, match="1 chunks of drawn frames are absent"):
        list(merge_chunks(two[:1], 40))
    with pytest.raises(WorldlineError, match="chunk 1 are absent"):
        list(merge_chunks(two[:1], 32))
    with pytest.raises(WorldlineError, match="chunk 0 are drawn twice"):
        list(merge_chunks([two[0], two[0], two[1]], 40))


def test_frames_that_changed_on_disk_are_refused_and_extracted_again(two) -> None:
    chunks = two[0].path.with_suffix(".chunks")
    content = bytearray(chunks.read_bytes())
    content[3] ^= 1
    chunks.write_bytes(content)
    with pytest.raises(WorldlineError, match="reads back differently"):
        list(merge_chunks(two, 40))
    assert ExtractedFrames.find(two[0].path) is None and ExtractedFrames.find(two[1].path) is not None


def test_files_of_an_earlier_run_make_no_pace(tmp_path) -> None:
    write_frames(tmp_path / "f0", numbered(20))
    write_frames(tmp_path / "f1", numbered(20, 20))
    plans = [plan_of(tmp_path, f"f{n}", [(0, 20, 20 * n)]) for n in (0, 1)]
    extract_all(plans[:1], tmp_path, 1, lambda count, held=False: None)
    told = []
    extract_all(plans, tmp_path, 1, lambda count, held=False: told.append((count, held)))
    assert told == [(20, True), (20, False)]


def test_frames_without_their_index_or_with_half_of_it_are_none(two) -> None:
    index = two[0].path.with_suffix(".npz")
    index.write_bytes(index.read_bytes()[:100])
    assert ExtractedFrames.find(two[0].path) is None
    index.unlink()
    assert ExtractedFrames.find(two[0].path) is None


def test_frames_whose_index_has_a_damaged_byte_are_read_or_none(two) -> None:
    index = two[0].path.with_suffix(".npz")
    whole = index.read_bytes()
    unread = 0
    for place, byte in enumerate(whole):
        index.write_bytes(whole[:place] + bytes([byte ^ 1]) + whole[place + 1 :])
        unread += ExtractedFrames.find(two[0].path) is None
    assert unread > len(whole) // 2


def test_frames_that_a_disk_does_not_give_now_are_not_extracted_anew(two, monkeypatch) -> None:
    def fail(*_, **__):
        raise OSError(errno.EIO, "Input/output error")

    with monkeypatch.context() as patch, pytest.raises(MayPass, match=r"npz cannot be read now .*stays as it is"):
        patch.setattr(np, "load", fail)
        ExtractedFrames.find(two[0].path)
    assert ExtractedFrames.find(two[0].path) is not None


def test_a_damaged_or_short_file_leaves_no_frames_and_takes_its_progress_back(tmp_path) -> None:
    write_frames(tmp_path / "f", numbered(600))
    advanced = []
    with pytest.raises(WorldlineError, match="has 600 rows, row 699 is needed"):
        extract_frames(plan_of(tmp_path, "f", [(0, 700, 0)]), tmp_path / "s", advanced.append)
    assert sum(advanced) == 0 < max(advanced)
    content = bytearray((tmp_path / "f").read_bytes())
    content[-5] ^= 1
    (tmp_path / "f").write_bytes(content)
    with pytest.raises(WorldlineError, match="damaged gzip"):
        extract_frames(plan_of(tmp_path, "f", [(0, 600, 0)]), tmp_path / "s", advanced.append)
    assert sum(advanced) == 0 and not list(tmp_path.glob("s.*")) and ExtractedFrames.find(tmp_path / "s") is None


PEAK = """
import sys
from pathlib import Path
import numpy as np, pandas as pd
from pipelines.bucket.bucket import Bucket
from pipelines.sources.frame_extraction import ExtractionPlan, extract_frames, merge_chunks
from pipelines.episodes.trajectories import Trajectories, TrajectoryWriter
from pipelines.sources.dqn_replay.source import SOURCE
root, rows, length = Path(sys.argv[1]), int(sys.argv[2]), 1000
bucket = Bucket.of(f"file://{root}")
starts = np.arange(0, rows, length)
pieces = pd.DataFrame({"start": starts, "stop": starts + length, "slot": starts})
item = bucket.stat("frames")
plan = ExtractionPlan(item, lambda: SOURCE.blocks(item, bucket, pieces), pieces, np.array([0, rows - 1]))
made = extract_frames(plan, root / "s", lambda _: None)
with TrajectoryWriter(root / "t.h5", "Freeway", ["NOOP"], [length] * len(starts)) as writer:
    for chunk, packed in merge_chunks([made], rows):
        writer.write_chunk(chunk, packed)
assert len(Trajectories(root / "t.h5")) == rows and made.inflated == rows * 84 * 84
status = Path("/proc/self/status").read_text()  # ru_maxrss would count pytest's own memory, from before the exec
print(status.split("VmHWM:")[1].split()[0])
"""


@pytest.mark.slow
def test_a_log_of_a_million_rows_needs_less_than_400_mb(tmp_path) -> None:
    """7.056 GB of frames, all of them drawn: as large as the original's logs, but quick to pack as most are black."""
    rows, bright = 1_000_000, numbered(CHUNK)
    with gzip.open(tmp_path / "frames", "wb", compresslevel=1) as file:
        np.lib.format.write_array_header_1_0(file, {"descr": "|u1", "fortran_order": False, "shape": (rows, 84, 84)})
    black = gzip.compress(bytes(20_000 * 84 * 84 - bright.nbytes), 1) + gzip.compress(bright.tobytes(), 1)
    with (tmp_path / "frames").open("ab") as file:
        for _ in range(rows // 20_000):  # a gzip file may have several members
            file.write(black)
    peak = subprocess.run([sys.executable, "-c", PEAK, tmp_path, str(rows)], capture_output=True, text=True, check=True)
    assert 50_000 < int(peak.stdout) < 400_000, "kB"
