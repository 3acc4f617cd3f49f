"""Decodes the frames of episodes: PNGs of 84 x 84 pixels, 8 bit, grey, not interlaced. Nothing else is ever inflated.

Letters: N frames of 84 x 84 pixels. A row of a PNG is the number of a filter and 84 bytes; a filter predicts a pixel
from those to its left and above. isal, where it is installed, inflates each frame; then Pillow undoes the filters of
many frames in one call. To it they are one tall image that is stored without compression, with a row of zeros before
each frame, which is what the filters of a first row are to see. Other threads go on meanwhile.
The checksum of the inflated bytes is compared; those of the chunks are not, as a record has a better one.
"""

import struct
import zlib
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from pipelines.errors import WorldlineError
from pipelines.sources.frame_extraction import FRAME
from pipelines.sources.inflate import DAMAGE, decompressobj, one_line
from pipelines.sources.rlu.tfrecord import REPAIR

LARGEST = 1 << 14  # bytes of a PNG; the pixels alone, without any compression, are 7,056

SIGNATURE = b"\x89PNG\r\n\x1a\n"

SIZES = struct.Struct(">IIBBBBB")  # width, height, bits, colour type, compression, filter method, interlaced

CHUNK = struct.Struct(">I4s")  # length and name, before a chunk's data; a checksum of 4 bytes is behind it

START = SIGNATURE + CHUNK.pack(SIZES.size, b"IHDR") + SIZES.pack(84, 84, 8, 0, 0, 0, 0)

ROW = bytes(85)

BLOCK = 256  # frames; 1.8 MB of rows

Data = bytes | memoryview

RULE = "a frame is 84 x 84, 8 bit, grey, not interlaced"


class _FaultError(Exception):
    """What is wrong with a PNG."""


def decode_png(data: Data) -> NDArray[np.uint8]:
    """One frame (84, 84). Raises WorldlineError for what is no PNG of a frame, or a damaged one."""
    return decode_frames([data])[0]


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
        frames[first : first + len(part)] = _unfilter(b"".join(rows), len(part))[:, 1:]
    return frames


def _inflate(data: Data) -> bytes:
    """The 84 filtered rows (84 * 85 bytes) of a PNG."""
    if len(data) > LARGEST:
        raise _FaultError(f"has {len(data):,} bytes, more than the {LARGEST:,} of a frame's PNG")
    if data[: len(START)] != START:
        raise _FaultError(_what(bytes(data[: len(START)])))
    try:
        inflater = decompressobj()
        rows = inflater.decompress(_pixels(data), 84 * len(ROW) + 1)
    except DAMAGE as error:
        raise _FaultError(f"is a damaged PNG ({one_line(error)})") from error
    if len(rows) != 84 * len(ROW) or not inflater.eof:
        count = "more" if len(rows) > 84 * len(ROW) else f"{len(rows):,}"
        raise _FaultError(f"is a damaged PNG ({count} of 7,140 bytes inflated)")
    if max(rows[:: len(ROW)]) > 4:
        raise _FaultError(f"is a damaged PNG (filter {max(rows[:: len(ROW)])}, there are 0 to 4)")
    return rows


def _pixels(data: Data) -> Data:
    """The compressed pixels, which may lie in several chunks."""
    at, found = len(START) + 4, []
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


def _unfilter(rows: bytes, count: int) -> NDArray[np.uint8]:
    """The pixels (N, 85, 84) of frames with a row of zeros before each."""
    height = count * len(ROW)
    image = Image.frombytes("L", (FRAME[1], height), zlib.compress(rows, 0), "zip", "L", 0)
    return np.asarray(image).reshape(count, len(ROW), FRAME[1])
