"""Frames against Pillow, OpenCV and filters written out in plain Python; and what is no frame is refused unread."""

import struct
import time
import zlib

import cv2
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from pipelines.errors import WorldlineError
from pipelines.sources import inflate
from pipelines.sources.rlu import png
from pipelines.sources.rlu.png import decode_frames
from tests.pipelines.sources.rlu.shards import chunk, play, raw_png
from tests.pipelines.sources.rlu.shards import png as saved

FRAME = play(0, 1).frames[0]
WHOLE = saved(FRAME)
PLAIN = b"".join(b"\0" + row.tobytes() for row in FRAME)


def predicted(kind: int, left: int, above: int, corner: int) -> int:
    """The five filters as the standard of PNG defines them."""
    if kind == 4:
        about = left + above - corner
        return min((left, above, corner), key=lambda near: abs(about - near))
    return (0, left, above, (left + above) // 2)[kind]


def filtered(frame: NDArray[np.uint8], kinds: NDArray[np.int64]) -> bytes:
    """The rows of a PNG with that filter for each."""
    found, padded = bytearray(), np.pad(frame.astype(int), ((1, 0), (1, 0)))
    for y, kind in enumerate(kinds.tolist()):
        above, row = padded[y].tolist(), padded[y + 1].tolist()
        found.append(kind)
        found += bytes((row[x] - predicted(kind, row[x - 1], above[x], above[x - 1])) % 256 for x in range(1, 85))
    return bytes(found)


@settings(max_examples=15, deadline=None)
@given(st.integers(0, 2**32 - 1), st.integers(2, 256))
def test_any_frame_in_any_filters_is_decoded(seed: int, colours: int) -> None:
    random = np.random.default_rng(seed)
    frame = random.integers(0, colours, (84, 84), np.uint8)
    data = raw_png(filtered(frame, random.integers(0, 5, 84)))
    np.testing.assert_array_equal(cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_UNCHANGED), frame)
    np.testing.assert_array_equal(decode_frames([data])[0], frame)


@pytest.mark.parametrize("standard_library", [False, True])
@pytest.mark.parametrize("count", [0, 1, 8, 9, 10, 40])
def test_many_frames_come_in_their_order(count: int, standard_library: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    """Of other writers too, as views, in several chunks, with chunks that say nothing about pixels."""
    if standard_library:
        monkeypatch.setattr(png, "fast_zlib", zlib)
    frames = play(count, count, terminated=False).frames if count else np.zeros((0, 84, 84), np.uint8)
    every = [cv2.IMWRITE_PNG_FILTER, cv2.IMWRITE_PNG_ALL_FILTERS]
    by_opencv = [cv2.imencode(".png", frame, every)[1].tobytes() for frame in frames]
    for pngs in (list(map(saved, frames)), list(map(memoryview, by_opencv)), list(map(_parted, by_opencv))):
        found = decode_frames(pngs)
        assert found.dtype == np.uint8 and found.shape == (count, 84, 84)
        np.testing.assert_array_equal(found, frames)


def _parted(data: bytes) -> bytes:
    """The same PNG with its pixels in chunks of 100 bytes, and a text before them."""
    length = struct.unpack(">I", data[33:37])[0]
    pixels = data[41 : 41 + length]
    parts = [chunk(b"IDAT", pixels[at : at + 100]) for at in range(0, length, 100)]
    return data[:33] + chunk(b"tEXt", b"Title\0frame") + b"".join(parts) + chunk(b"IEND", b"")


@pytest.mark.parametrize(
    "data, what",
    [
        (raw_png(PLAIN, 60_000, 60_000), "is a PNG of 60000 x 60000, 8 bit, colour type 0; a frame is 84 x 84"),
        (raw_png(PLAIN, 84, 85), "is a PNG of 84 x 85"),
        (raw_png(PLAIN, bits=16), "is a PNG of 84 x 84, 16 bit"),
        (raw_png(PLAIN, colour=2), "8 bit, colour type 2; a frame is"),
        (raw_png(PLAIN, colour=3), "8 bit, colour type 3; a frame is"),
        (raw_png(PLAIN, woven=1), "colour type 0, interlaced; a frame is"),
        (raw_png(PLAIN[:-1]), "7,139 bytes inflated, a frame has 7,140"),
        (raw_png(PLAIN + b"\0"), "7,141 bytes inflated"),
        (raw_png(bytes(10**7)), "10,000,000 bytes inflated, a frame has 7,140"),
        (raw_png(b"\5" + PLAIN[1:]), r"filter 5, there are 0 to 4"),
        (WHOLE + bytes(1 << 14), "more than the 16,384 of a frame's PNG"),
        (b"", "is no PNG, it begins with b''"),
        (b"GIF89a" + WHOLE, "is no PNG, it begins with b'GIF89a"),
        (WHOLE[:33], "is a truncated PNG"),
        (WHOLE[:20], "is a truncated PNG"),
        (WHOLE[:-12], "is a truncated PNG"),
        (WHOLE[:37] + b"iDAT" + WHOLE[41:], "is a damaged PNG"),
        (WHOLE[:33] + b"\xff\xff\xff\xff" + WHOLE[37:], "is a truncated PNG"),
    ],
)
def test_what_is_no_frame_is_one_line(data: bytes, what: str) -> None:
    started = time.process_time()
    with pytest.raises(WorldlineError, match=what) as caught:
        decode_frames([WHOLE] * 10 + [data], "shard: record 3")
    text = str(caught.value)
    assert text.startswith("shard: record 3: frame 10 ") and text.endswith(png.REPAIR) and "\n" not in text
    assert time.process_time() - started < 1


@pytest.mark.parametrize("library", ["isal", "zlib"])
def test_every_cut_is_noticed(library: str, monkeypatch: pytest.MonkeyPatch) -> None:
    if library == "zlib":
        monkeypatch.setattr(png, "fast_zlib", zlib)
    assert png.fast_zlib is (zlib if library == "zlib" else inflate.fast_zlib)
    for length in range(len(WHOLE) - 4):  # the checksum of the last chunk is over nothing
        with pytest.raises(WorldlineError, match=r"frame 0 .*(truncated|damaged|no PNG)"):
            decode_frames([WHOLE[:length]])


def test_no_flipped_bit_changes_a_pixel_unseen() -> None:
    """Only what says nothing about pixels may change: checksums of chunks, the last one's length, zlib's header."""
    random, unseen = np.random.default_rng(0), set()
    for place in range(len(WHOLE)):
        flipped = bytearray(WHOLE)
        flipped[place] ^= 1 << random.integers(8)
        try:
            np.testing.assert_array_equal(decode_frames([bytes(flipped)])[0], FRAME)
        except WorldlineError as error:
            assert "\n" not in str(error)
        else:
            unseen.add(place)
    assert {*range(29, 33)} <= unseen and len(unseen) < 30
