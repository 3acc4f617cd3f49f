"""Reads TFRecord files and the `tf.train.Example`s in them, without TensorFlow.

A record is its length (uint64, little endian), the masked crc32c of those 8 bytes, the payload, and the masked crc32c
of that. An `Example` is a protocol buffer: a map from a feature's name to a list of bytes, floats or integers. It is
read as protobuf reads it: features in any order, lists packed or not, unknown fields skipped, of a name that comes
twice the last one. Nothing grows with what a file claims, only with what it holds and with the caller's limits.
"""

import struct
from collections.abc import Iterable, Iterator, Mapping
from typing import Any, Literal, Protocol

import google_crc32c
import numpy as np
from numpy.typing import NDArray

from pipelines.errors import WorldlineError

Kind = Literal["bytes", "floats", "integers"]
Values = list[memoryview] | NDArray[np.float32] | NDArray[np.int64]
Span = tuple[int, int]  # start and stop in the payload

HEAD, TAIL = struct.Struct("<QI"), struct.Struct("<I")

REPAIR = "fetch that file again, and if it comes back the same take it from another copy"

VARINT, FIXED64, LENGTH, FIXED32 = 0, 1, 2, 5  # wire types of protobuf

INNER = 1 << 3 | LENGTH  # the tag of field 1 where that is a message, a string or a packed list

KINDS: dict[int, Kind] = {1 << 3 | LENGTH: "bytes", 2 << 3 | LENGTH: "floats", 3 << 3 | LENGTH: "integers"}

ALONE = {"floats": 1 << 3 | FIXED32, "integers": 1 << 3 | VARINT}  # the tag of a value outside a packed list


class Source(Protocol):
    """Bytes in order, such as an opened gzip file. Asked for more than it has, it must not take memory for that."""

    def read(self, size: int, /) -> bytes:
        """Up to `size` bytes, none at the end."""


class _MalformedError(Exception):
    """What is wrong with a protocol buffer."""


def masked_crc32c(data: bytes) -> int:
    """The checksum as TFRecord stores it: rotated by 15 bits, plus a constant."""
    crc = google_crc32c.value(data)
    return ((crc >> 15 | crc << 17) + 0xA282EAD8) & 0xFFFFFFFF


def iter_records(stream: Source, limit: int, name: str = "The file") -> Iterator[bytes]:
    """The payload of each record, in order, none longer than `limit` bytes; `name` is what errors call the file.

    Raises WorldlineError for a record that is cut, too long, or that its checksum contradicts.
    """
    number = 0
    while head := _read(stream, HEAD.size):
        record = f"{name}: record {number}"
        if len(head) < HEAD.size:
            raise WorldlineError(f"{record} is cut, {len(head)} of the {HEAD.size} bytes before it are there: {REPAIR}")
        length, crc = HEAD.unpack(head)
        _compare(head[:8], crc, f"{record}, its length")
        if length > limit:
            raise WorldlineError(
                f"{record} claims {length:,} bytes, an episode has at most {limit:,}: it is another kind of file, put "
                "the right one there"
            )
        payload = _read(stream, length)
        tail = _read(stream, TAIL.size)
        if len(tail) < TAIL.size:
            found, whole = len(payload) + len(tail), length + TAIL.size
            raise WorldlineError(f"{record} is cut, {found:,} of its {whole:,} bytes are there: {REPAIR}")
        _compare(payload, TAIL.unpack(tail)[0], record)
        yield payload
        del payload  # before the next one is read
        number += 1


def _compare(data: bytes, crc: int, what: str) -> None:
    if (found := masked_crc32c(data)) != crc:
        raise WorldlineError(f"{what}: has the checksum {found:08x}, the file says {crc:08x}: {REPAIR}")


def _read(stream: Source, size: int) -> bytes:
    """`size` bytes, fewer at the end. They are asked for at once, so that a record is not copied from its parts."""
    found = stream.read(size)
    if len(found) in (0, size):
        return found
    parts, left = [found], size - len(found)
    while parts[-1] and left:
        parts.append(stream.read(left))
        left -= len(parts[-1])
    return b"".join(parts)


def parse_example(payload: bytes, fields: Mapping[str, Kind], most: int, name: str = "The record") -> dict[str, Any]:
    """The wanted features of an `Example`, by name: bytes as views of the payload, numbers as arrays (values,).

    fields: the kind of each wanted feature; others are skipped. most: values that a list may have.
    Raises WorldlineError for what is no `Example`, lacks a feature, or has one of another kind or too long.
    """
    try:
        features = _features(payload, {field.encode(): field for field in fields}, most)
        return {field: _values(payload, field, features.get(field), kind, most) for field, kind in fields.items()}
    except _MalformedError as error:
        raise WorldlineError(f"{name} {error}: {REPAIR}") from error


def _features(data: bytes, wanted: Mapping[bytes, str], most: int) -> dict[str, list[Span]]:
    """Where each wanted feature lies. A message that comes in several parts is all of them, one after another."""
    found = {}
    for start, stop in _parts(data, INNER, [(0, len(data))]):
        for entry in _parts(data, INNER, [(start, stop)]):
            key, value = b"", list[Span]()
            for tag, low, high in _walk(data, [entry]):
                if tag == INNER:
                    key = data[low:high]
                elif tag == 2 << 3 | LENGTH:
                    _append(value, low, high, most)
            if key in wanted:
                found[wanted[key]] = value
    return found


def _values(data: bytes, field: str, feature: list[Span] | None, kind: Kind, most: int) -> Values:
    """The list of one feature, whose message lies at the spans; of several lists the last one counts."""
    found, parts = None, list[Span]()
    for tag, start, stop in _walk(data, feature or ()):
        if tag in KINDS:
            if KINDS[tag] != found:
                found, parts = KINDS[tag], []
            _append(parts, start, stop, most)
    if found is None:
        raise _MalformedError(f"has no field '{field}', every episode has one of {kind}")
    if found != kind:
        raise _MalformedError(f"has {found} in its field '{field}', an episode has {kind} there")
    try:
        if kind == "bytes":
            return _bytes(data, parts, most)
        spans = list[Span]()
        for tag, start, stop in _walk(data, parts):
            if tag in (INNER, ALONE[kind]):
                _append(spans, start, stop, most)
        numbers = _floats(data, spans) if kind == "floats" else _integers(data, spans, most)
    except _MalformedError as error:
        raise _MalformedError(f"has a field '{field}' that {error}") from error
    if len(numbers) > most:
        raise _MalformedError(f"has {len(numbers):,} values in its field '{field}', at most {most:,} are possible")
    return numbers


def _bytes(data: bytes, parts: Iterable[Span], most: int) -> list[memoryview]:
    view, found = memoryview(data), list[memoryview]()
    for start, stop in _parts(data, INNER, parts):
        found.append(view[start:stop])
        if len(found) > most:
            raise _MalformedError(f"has more than the {most:,} values that are possible")
    return found


def _floats(data: bytes, spans: Iterable[Span]) -> NDArray[np.float32]:
    if any((stop - start) % 4 for start, stop in spans):
        raise _MalformedError("ends within a number")
    return np.frombuffer(b"".join([data[start:stop] for start, stop in spans]), "<f4")


def _integers(data: bytes, spans: Iterable[Span], most: int) -> NDArray[np.int64]:
    """Varints: 7 bits a byte, the lowest first; all bytes but the last have their highest bit set."""
    if any(stop > start and data[stop - 1] > 127 for start, stop in spans):
        raise _MalformedError("ends within a number")
    raw = np.frombuffer(b"".join([data[start:stop] for start, stop in spans]), np.uint8)
    if len(raw) > 10 * most:
        raise _MalformedError(f"has more than the {most:,} values that are possible")
    stops = np.flatnonzero(raw < 128) + 1
    starts = np.concatenate([[0], stops])[:-1]
    sizes = stops - starts
    if (sizes > 10).any():
        raise _MalformedError("has a number of more than 10 bytes")
    values = np.zeros(len(stops), np.uint64)
    for place in range(sizes.max(initial=0)):
        there = sizes > place
        values[there] |= (raw[starts[there] + place].astype(np.uint64) & 127) << np.uint64(7 * place)
    return values.view(np.int64)


def _append(spans: list[Span], start: int, stop: int, most: int) -> None:
    if len(spans) == most:
        raise _MalformedError(f"comes in more than the {most:,} parts that are possible")
    spans.append((start, stop))


def _parts(data: bytes, wanted: int, spans: Iterable[Span]) -> Iterator[Span]:
    """The fields with that tag in a message."""
    return ((start, stop) for tag, start, stop in _walk(data, spans) if tag == wanted)


def _walk(data: bytes, spans: Iterable[Span]) -> Iterator[tuple[int, int, int]]:
    """Tag, start and stop of every field of the message that lies at the spans."""
    for at, end in spans:
        while at < end:
            tag, at = _varint(data, at, end)
            wire, start = tag & 7, at
            if wire == LENGTH:
                size, start = _varint(data, at, end)
                at = start + size
            elif wire == VARINT:
                _, at = _varint(data, at, end)
            elif wire in (FIXED32, FIXED64):
                at += 4 if wire == FIXED32 else 8
            else:
                raise _MalformedError(f"is no Example (wire type {wire} at byte {start:,})")
            if at > end or tag < 8:
                raise _MalformedError(f"is no Example (a field at byte {start:,} has number 0 or no end)")
            yield tag, start, at


def _varint(data: bytes, at: int, end: int) -> tuple[int, int]:
    """The number at a place, and the place behind it."""
    value = 0
    for place, byte in enumerate(data[at : min(at + 10, end)]):
        value |= (byte & 127) << (7 * place)
        if byte < 128:
            return value & 0xFFFFFFFFFFFFFFFF, at + place + 1
    raise _MalformedError(f"is no Example (a number at byte {at:,} has no end)")
