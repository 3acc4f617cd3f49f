"""Good files come back whole, in blocks or at once; every kind of damage is one line that names the file."""

import gzip
import io
import os
import re
import tracemalloc
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pipelines.bucket.bucket import Bucket
from pipelines.bucket.bucket_object import BucketObject
from pipelines.errors import WorldlineError
from pipelines.sources import inflate
from pipelines.sources.dqn_replay.log_reader import iter_blocks, read_array, read_header
from tests import fakes


def packed(array: np.ndarray) -> bytes:
    raw = io.BytesIO()
    np.save(raw, array, allow_pickle=False)
    return gzip.compress(raw.getvalue(), 6, mtime=0)


def saved(folder, content: bytes, name: str = "$store$_observation_ckpt.0.gz") -> str:
    (folder / name).write_bytes(content)
    return f"file://{folder / name}"


def listed(url: str, crc32c: str | None = None) -> tuple[BucketObject, Bucket]:
    """The object as a listing with a published checksum would show it."""
    root, _, name = url.rpartition("/")
    bucket = Bucket.of(root)
    return replace(bucket.stat(name), crc32c=crc32c), bucket


def crc32c_of(url: str) -> str | None:
    item, bucket = listed(url)
    return bucket.pinned(item).crc32c


@pytest.fixture(params=["isal", "standard library"])
def inflater(request, monkeypatch) -> str:
    if request.param == "standard library":
        monkeypatch.setattr(inflate, "open_gzip", gzip.GzipFile)
    return request.param


FRAMES = np.random.default_rng(0).integers(0, 255, (700, 6, 5), dtype=np.uint8)


@pytest.mark.parametrize("rows_per_block", [1, 7, 512, 700, 10_000])
def test_blocks_are_the_array(tmp_path, inflater, rows_per_block) -> None:
    url = saved(tmp_path, packed(FRAMES))
    blocks = [block.copy() for block in iter_blocks(url, rows_per_block=rows_per_block)]
    assert all(len(block) == rows_per_block for block in blocks[:-1])
    np.testing.assert_array_equal(np.concatenate(blocks), FRAMES)
    assert read_header(url).shape == (700, 6, 5) and read_header(url).dtype == np.uint8


@pytest.mark.parametrize("array", [np.arange(9, dtype=np.int32), np.array(7, np.int64), np.zeros(0, np.float32)])
def test_small_arrays_come_back(tmp_path, inflater, array) -> None:
    url = saved(tmp_path, packed(array))
    found = read_array(url)
    assert found.dtype == array.dtype and found.shape == array.shape
    np.testing.assert_array_equal(found, array)


def test_checksum_is_of_the_packed_bytes(tmp_path, inflater) -> None:
    url = saved(tmp_path, packed(FRAMES))
    right = fakes.crc32c_of(tmp_path / "$store$_observation_ckpt.0.gz")
    assert crc32c_of(url) == right
    assert read_array(*listed(url, right)).shape == FRAMES.shape
    with pytest.raises(WorldlineError, match=r"crc32c .* the object list says 00000000"):
        list(iter_blocks(*listed(url, "00000000")))


@settings(max_examples=60, deadline=None)
@given(data=st.data(), both=st.booleans())
def test_any_flipped_bit_or_cut_is_noticed(tmp_path_factory, data, both) -> None:
    """With the checksum nothing passes at all; without it only bits of the gzip header that carry nothing may."""
    content = packed(FRAMES[:40])
    place = data.draw(st.integers(0, len(content) - 1))
    spoiled = bytearray(content)
    if data.draw(st.booleans()):
        spoiled[place] ^= 1 << data.draw(st.integers(0, 7))
    else:
        del spoiled[place:]
    url = saved(tmp_path_factory.mktemp("flip"), bytes(spoiled))
    right = crc32c_of(saved(tmp_path_factory.mktemp("right"), content))
    with pytest.raises(WorldlineError) as caught:
        for _ in iter_blocks(*listed(url, right), 16):
            pass
    assert url in str(caught.value) and "\n" not in str(caught.value)
    if place >= 10:
        with pytest.raises(WorldlineError):
            read_array(url) if both else list(iter_blocks(url, rows_per_block=16))


def npy(header: bytes, payload: bytes = b"", version: bytes = b"\x01\x00") -> bytes:
    text = header + b" " * (-(len(header) + 11) % 64) + b"\n"
    size = len(text).to_bytes(2 if version[0] == 1 else 4, "little")
    return gzip.compress(b"\x93NUMPY" + version + size + text + payload, mtime=0)


HUGE = b"{'descr': '|u1', 'fortran_order': False, 'shape': (1000000000, 84, 84), }"


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (b"", "is empty"),
        (gzip.compress(b"no array", mtime=0), "holds no .npy array"),
        (gzip.compress(b"", mtime=0), "holds no .npy array"),
        (npy(HUGE, b"abc"), "fewer than its header claims|claims"),
        (npy(b"{'descr': '|u1', 'fortran_order': False, 'shape': (1, 9999999999), }", b"abc"), "claims"),
        (npy(b"{'descr': '|O', 'fortran_order': False, 'shape': (1,), }"), "pickled objects"),
        (npy(b"{'descr': '|u1', 'fortran_order': True, 'shape': (2, 2), }", b"abcd"), "C order"),
        (npy(b"{'descr': '|u1', 'fortran_order': False, 'shape': (-2, 2), }", b"abcd"), "negative"),
        (npy(b"__import__('os').abort()"), "holds no .npy array"),
        (npy(b"{'descr': '|u1', 'fortran_order': False, 'shape': (1,), }", b"a", b"\x09\x00"), "holds no .npy array"),
    ],
)
def test_hostile_files_are_one_line(tmp_path, inflater, content, words) -> None:
    url = saved(tmp_path, content)
    for read in (lambda: read_array(url), lambda: list(iter_blocks(url))):
        with pytest.raises(WorldlineError, match=words) as caught:
            read()
        assert url in str(caught.value) and "\n" not in str(caught.value)


RAW = gzip.decompress(packed(FRAMES))

HALVES = [gzip.compress(RAW[:9000], mtime=0), gzip.compress(RAW[9000:], mtime=0)]


def flipped(content: bytes, place: int) -> bytes:
    return content[:place] + bytes([content[place] ^ 1]) + content[place:][1:]


@pytest.mark.parametrize(
    ("content", "words", "again"),
    [
        (packed(FRAMES)[:-4], "truncated", True),
        (packed(FRAMES)[: len(packed(FRAMES)) // 2], "truncated", True),
        (packed(FRAMES)[:30], "truncated", True),
        (HALVES[0], "fewer than its header claims", False),
        (HALVES[0] + HALVES[1][:-30], "truncated", True),
        (flipped(packed(FRAMES), len(packed(FRAMES)) - 6), "damaged gzip", True),
        (flipped(packed(FRAMES), len(packed(FRAMES)) - 2), "damaged gzip", True),
        (HALVES[0] + flipped(HALVES[1], len(HALVES[1]) - 6), "damaged gzip", True),
        (b"<html>404</html>", "no gzip file", False),
        (RAW, "not packed", False),
        (packed(FRAMES) + gzip.compress(b"x", mtime=0), "bytes after the array", False),
        (gzip.compress(RAW + b"more", mtime=0), "bytes after the array", False),
        (gzip.compress(packed(FRAMES), mtime=0), "holds no .npy array", False),
    ],
)
def test_the_repair_fits_the_cause(tmp_path, inflater, content, words, again) -> None:
    """What was cut or changed on its way is fetched again; what is whole and was written so never is."""
    url = saved(tmp_path, content)
    for read in (read_array, lambda url: list(iter_blocks(url))):
        with pytest.raises(WorldlineError, match=words) as caught:
            read(url)
        assert ("fetch that file again" in str(caught.value)) is again


@pytest.mark.parametrize("behind", [b"m", b"more", b"\0" * 40 + b"x", packed(FRAMES)[:50]])
def test_bytes_behind_a_whole_file_are_counted_and_can_be_cut(tmp_path, inflater, behind) -> None:
    url = saved(tmp_path, packed(FRAMES) + behind)
    with pytest.raises(WorldlineError, match=rf" {len(behind.lstrip(bytes(1)))} bytes of something else") as caught:
        list(iter_blocks(url))
    size = int(re.search(r"truncate -s (\d+) FILE", str(caught.value))[1])
    os.truncate(url.removeprefix("file://"), size)
    np.testing.assert_array_equal(read_array(url), FRAMES)


@pytest.mark.parametrize(
    "content",
    [
        b"".join(HALVES),
        packed(FRAMES) + b"\0" * 512,
        b"".join(gzip.compress(RAW[start : start + 50], mtime=0) for start in range(0, len(RAW), 50)),
        packed(FRAMES[..., None]),
        packed(FRAMES[..., None, None]),
    ],
)
def test_what_can_mean_one_thing_only_is_read(tmp_path, inflater, content) -> None:
    """Several gzip members, zeros that pad the file, trailing dimensions of 1."""
    url = saved(tmp_path, content)
    np.testing.assert_array_equal(read_array(url), FRAMES)
    np.testing.assert_array_equal(np.concatenate([block.copy() for block in iter_blocks(url)]), FRAMES)
    assert read_header(url).shape == FRAMES.shape


@pytest.mark.parametrize(
    ("content", "words"),
    [(packed(FRAMES)[:25], "truncated"), (b"<html>", "no gzip"), (RAW, "not packed"), (b"", "is empty")],
)
def test_a_header_alone_tells_the_same_causes(tmp_path, content, words) -> None:
    with pytest.raises(WorldlineError, match=words):
        read_header(saved(tmp_path, content))


def test_missing_file_is_one_line(tmp_path) -> None:
    with pytest.raises(WorldlineError, match="does not exist"):
        read_array(f"file://{tmp_path}/nothing.gz")


def test_a_folder_in_a_files_place_is_one_line(tmp_path) -> None:
    (tmp_path / "folder.gz").mkdir()
    with pytest.raises(WorldlineError, match="cannot be read"):
        read_array(f"file://{tmp_path}/folder.gz")


def test_many_rows_need_little_memory(tmp_path) -> None:
    """70 MB of frames pass through 512-row blocks within a few MB."""
    url = saved(tmp_path, packed(np.zeros((10_000, 84, 84), np.uint8)))
    tracemalloc.start()
    rows = sum(len(block) for block in iter_blocks(url))
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert rows == 10_000 and peak < 24 << 20
