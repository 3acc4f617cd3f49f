"""Decodes the frames of episodes: PNGs of 84 x 84 pixels, 8 bit, grey, not interlaced. Nothing else is ever inflated.

Letters: N frames of 84 x 84 pixels. A row of a PNG is the number of a filter and 84 bytes; a filter predicts a pixel
from those to its left and above. isal, where it is installed, inflates each frame; then Pillow undoes the filters of
many frames in one call. To it they are one tall image that is stored without compression, with a row of zeros before
each frame, which is what the filters of a first row are to see. Other threads go on meanwhile.
The checksum of the inflated bytes is compared; those of the chunks are not, as a record has a better one.
"""

import struct
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from pipelines.errors import WorldlineError
from pipelines.sources.frame_extraction import FRAME
from pipelines.sources.inflate import DAMAGE, fast_zlib, one_line
from pipelines.sources.rlu.tfrecord import REPAIR

LARGEST = 1 << 14  # bytes of a PNG; the pixels alone, without any compression, are 7,056; it inflates to 17 MB at most

SIGNATURE = b"\x89PNG\r\n\x1a\n"

SIZES = struct.Struct(">IIBBBBB")  # width, height, bits, colour type, compression, filter method, interlaced

CHUNK = struct.Struct(">I4s")  # length and name, before a chunk's data; a checksum of 4 bytes is behind it

START = SIGNATURE + CHUNK.pack(SIZES.size, b"IHDR") + SIZES.pack(84, 84, 8, 0, 0, 0, 0)

ROW = bytes(85)

INFLATED = 84 * len(ROW)

BLOCK = 9  # frames whose rows fit into one stored block of zlib, 65,535 bytes; small ones stay in the cache

Data = bytes | memoryview

RULE = "a frame is 84 x 84, 8 bit, grey, not interlaced"


class _FaultError(Exception):
    """What is wrong with a PNG."""


def decode_frames(pngs: Sequence[Data], name: str = "The episode") -> NDArray[np.uint8]:
    """The frames (N, 84, 84); `name` is what errors call the episode.

    Raises WorldlineError for what is no PNG of a frame, or a damaged one.
    """
    frames = np.empty((len(pngs), *FRAME), np.uint8)
    for first in range(0, len(pngs), BLOCK):
        part = pngs[first : first + BLOCK]
        rows = []
        for number, data in enumerate(part, first):
            try:
                rows += [ROW, _inflate(data)]
            except _FaultError as error:
                raise WorldlineError(f"{name}: frame {number} {error}: {REPAIR}") from error
        tall = b"".join(rows)
        filters = np.frombuffer(tall, np.uint8).reshape(len(part), len(ROW), len(ROW))[:, :, 0].max(axis=1)
        if (wrong := np.flatnonzero(filters > 4)).size:
            what = f"frame {first + wrong[0]} is a damaged PNG (filter {filters[wrong[0]]}, there are 0 to 4)"
            raise WorldlineError(f"{name}: {what}: {REPAIR}")
        image = Image.frombytes("L", (FRAME[1], len(part) * len(ROW)), _stored(tall), "zip", "L", 0)
        frames[first : first + len(part)] = np.asarray(image).reshape(len(part), len(ROW), FRAME[1])[:, 1:]
    return frames


def _inflate(data: Data) -> bytes:
    """The 84 filtered rows (84 * 85 bytes) of a PNG."""
    if len(data) > LARGEST:
        raise _FaultError(f"has {len(data):,} bytes, more than the {LARGEST:,} of a frame's PNG")
    if data[: len(START)] != START:
        raise _FaultError(_what(bytes(data[: len(START)])))
    try:
        rows = fast_zlib.decompress(_pixels(data), 15, INFLATED)
    except DAMAGE as error:
        raise _FaultError(f"is a damaged PNG ({one_line(error)})") from error
    if len(rows) != INFLATED:
        raise _FaultError(f"is a damaged PNG ({len(rows):,} bytes inflated, a frame has {INFLATED:,})")
    return rows


def _pixels(data: Data) -> Data:
    """The compressed pixels, which may lie in several chunks."""
    at, found, kind = len(START) + 4, [], b""
    while at + CHUNK.size <= len(data):
        length, kind = CHUNK.unpack_from(data, at)
        at += CHUNK.size
        if kind == b"IDAT":
            found.append(data[at : at + length])
        if kind == b"IEND" or at + length + 4 > len(data):
            break
        at += length + 4
    if kind != b"IEND":
        raise _FaultError("is a truncated PNG")
    return found[0] if len(found) == 1 else b"".join(found)


def _what(start: bytes) -> str:
    """What a PNG's first bytes say that it is instead of a frame."""
    if start[: len(SIGNATURE)] != SIGNATURE:
        return f"is no PNG, it begins with {start[: len(SIGNATURE)]!r}"
    if len(start) < len(START):
        return "is a truncated PNG"
    width, height, bits, colour, _, _, interlaced = SIZES.unpack(start[-SIZES.size :])
    woven = ", interlaced" * bool(interlaced)
    return f"is a PNG of {width} x {height}, {bits} bit, colour type {colour}{woven}; {RULE}"


def _stored(rows: bytes) -> bytes:
    """A zlib stream of one block that holds the rows as they are."""
    size, check = len(rows), fast_zlib.adler32(rows)
    return b"".join([struct.pack("<HBHH", 0x0178, 1, size, size ^ 0xFFFF), rows, struct.pack(">I", check)])
