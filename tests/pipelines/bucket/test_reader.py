"""Any cut into chunks gives the same bytes and checksum; what differs from the listing is told to `raise_for`."""

import hashlib
import threading

import google_crc32c
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipelines.bucket import reader
from pipelines.bucket.bucket_object import BucketObject
from pipelines.bucket.reader import Reader, range_chunks
from pipelines.errors import WorldlineError

DATA = b"123456789" * 50


def item(data: bytes, **changes) -> BucketObject:
    crc32c = f"{google_crc32c.value(data):08x}"
    return BucketObject(**{"url": "u", "name": "n", "bytes": len(data), "crc32c": crc32c, "version": "1"} | changes)


def raise_for(fault: str | None) -> None:
    if fault:
        raise WorldlineError(fault)


@given(st.lists(st.binary(min_size=1, max_size=9)), st.lists(st.integers(1, 7), min_size=1))
def test_reads_of_any_size_give_all_bytes(chunks, sizes) -> None:
    data, found = b"".join(chunks), b""
    stream = Reader(item(data), (chunk for chunk in chunks), raise_for, False)
    for size in sizes:
        found += stream.read(size) or b""
    assert data.startswith(found) and len(found) == min(len(data), len(found))
    assert stream.verify() == f"{google_crc32c.value(data):08x}"


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"bytes": 451}, "holds 450 bytes, the object list says 451"),
        ({"bytes": 449}, "holds 450 bytes, the object list says 449"),
        ({"crc32c": "00000000"}, "has crc32c .*, the object list says 00000000"),
        ({"crc32c": None, "md5": "0" * 32}, "has md5 .*, the object list says 0000"),
    ],
)
def test_faults_are_told(changes, words) -> None:
    with pytest.raises(WorldlineError, match=words):
        Reader(item(DATA, **changes), (chunk for chunk in [DATA]), raise_for, False).verify()


def test_md5_counts_only_where_there_is_no_crc32c() -> None:
    md5 = hashlib.md5(DATA).hexdigest()
    Reader(item(DATA, crc32c=None, md5=md5), (chunk for chunk in [DATA]), raise_for, False).verify()
    Reader(item(DATA, md5="0" * 32), (chunk for chunk in [DATA]), raise_for, False).verify()


@pytest.mark.parametrize("size", [0, 1, 9, 10, 11, 30, 95])
def test_ranges_cover_the_object_once_and_one_is_read_ahead(monkeypatch, size) -> None:
    monkeypatch.setattr(reader, "CHUNK", 10)
    asked: list[tuple[int, int]] = []
    second = threading.Event()

    def read(start: int, stop: int) -> bytes:
        asked.append((start, stop))
        if start == 10:
            second.set()
        return DATA[start:stop]

    chunks = range_chunks(read, size)
    first = next(chunks)
    if size > 10:
        assert second.wait(5)  # on its way before anyone asked for it
    assert first + b"".join(chunks) == DATA[:size]
    assert asked == [(start, min(start + 10, size)) for start in range(0, max(size, 1), 10)]


def test_an_abandoned_reader_lets_go(monkeypatch) -> None:
    monkeypatch.setattr(reader, "CHUNK", 10)
    before = threading.active_count()
    stream = Reader(item(DATA), range_chunks(lambda start, stop: DATA[start:stop], 450), raise_for, False)
    assert stream.read(3) == b"123"
    stream.close()
    for thread in threading.enumerate():
        if thread.name.startswith("read-ahead"):
            thread.join(5)
    assert threading.active_count() <= before
