"""What is known of an object; any cut into chunks gives its bytes; its copy is found for exactly that object."""

import errno
import hashlib
import threading
from dataclasses import replace
from pathlib import Path

import google_crc32c
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipelines.bucket import bucket_object
from pipelines.bucket import bucket_object as rate
from pipelines.bucket.bucket import Bucket
from pipelines.bucket.bucket_object import (
    BucketObject,
    Mirror,
    Reader,
    Throughput,
    entry_fields,
    range_chunks,
    throughput,
)
from pipelines.errors import MayPass, WorldlineError
from pipelines.store.profile import Profile
from pipelines.store.store import Store

MD5 = "25f9e794323b453885f5181f1b624d0b"  # of "123456789"
ITEM = BucketObject("gs://b/Pong/1/replay_logs/x.gz", "Pong/1/replay_logs/x.gz", 9, "e3069283", "17")
DATA = b"123456789" * 50


@pytest.mark.parametrize(
    ("entry", "crc32c", "version", "md5"),
    [
        ({"crc32c": "4waSgw==", "generation": "17", "md5Hash": "JfnnlDI7RTiF9RgfG2JNCw=="}, "e3069283", "17", MD5),
        ({"crc32c": "not base64!", "generation": "17"}, None, "17", None),
        ({"crc32c": "JfnnlDI7RTiF9RgfG2JNCw=="}, None, None, None),
        ({"ETag": f'"{MD5}"'}, None, MD5, MD5),
        ({"ETag": f'"{MD5}-3"'}, None, f"{MD5}-3", None),  # uploaded in three parts: no md5
        ({"etag": MD5}, None, MD5, None),  # not S3's
        ({"mtime": 12.5}, None, "12.5", None),
        ({}, None, None, None),
    ],
)
def test_checksums_and_versions(entry, crc32c, version, md5) -> None:
    assert entry_fields({"size": "9"} | entry) == {"bytes": 9, "crc32c": crc32c, "version": version, "md5": md5}


def test_same_as_compares_what_both_know() -> None:
    one = BucketObject("u", "n", 9, "e3069283", "17")
    assert one.same_as(one) and one.same_as(replace(one, md5=MD5)) and one.same_as(replace(one, version=None))
    for other in (replace(one, bytes=8), replace(one, version="18"), replace(one, crc32c="00000000")):
        assert not one.same_as(other) and not other.same_as(one)


# ---- the meter counts time in which something is read once, however many threads read ----
def test_overlapping_reads_share_their_time(monkeypatch) -> None:
    clock = [0.0]
    monkeypatch.setattr(rate.time, "monotonic", lambda: clock[0])
    one = Throughput()
    assert one.rate() is None
    with one.reading(100):
        clock[0] = 1.0
        with one.reading(300):
            clock[0] = 3.0
        clock[0] = 4.0
    clock[0] = 100.0  # nothing is read meanwhile
    assert one.rate() == 100.0
    with pytest.raises(ConnectionResetError), one.reading(1000):
        clock[0] = 104.0
        raise ConnectionResetError
    assert one.rate() == 50.0  # lost time counts, lost bytes do not


def test_a_bucket_has_one_meter() -> None:
    assert throughput("gs://a") is throughput("gs://a") and throughput("gs://a") is not throughput("gs://b")


@pytest.fixture
def mirror(tmp_path) -> Mirror:
    return Mirror(tmp_path / "mirror" / "b")


def kept(mirror: Mirror, item: BucketObject = ITEM, content: bytes = b"123456789"):
    path = mirror.path(item)
    path.parent.mkdir(parents=True, exist_ok=True)
    part = path.with_name("part")
    part.write_bytes(content)
    return mirror.commit(item, part)


def test_the_copy_is_found_and_its_folder_is_a_bucket(mirror) -> None:
    assert mirror.find(ITEM) is None
    path = kept(mirror)
    assert mirror.find(ITEM) == path == mirror.folder / ITEM.name
    assert Bucket.of(f"file://{mirror.folder}").stat(ITEM.name).bytes == 9
    mirror.remove(ITEM)
    assert mirror.find(ITEM) is None and not any(file.is_file() for file in mirror.folder.rglob("*"))


@pytest.mark.parametrize(
    "other",
    [
        replace(ITEM, version="18"),
        replace(ITEM, bytes=8),
        replace(ITEM, crc32c="00000000"),
        replace(ITEM, name="Pong/1/replay_logs/y.gz"),
    ],
)
def test_another_object_is_not_found(mirror, other) -> None:
    kept(mirror)
    assert mirror.find(other) is None


@pytest.mark.parametrize("spoil", ["longer", "no sidecar", "no json", "list", "foreign key"])
def test_a_spoiled_copy_is_not_found(mirror, spoil) -> None:
    path = kept(mirror)
    sidecar = path.with_name(f".{path.name}.json")
    match spoil:
        case "longer":
            path.write_bytes(b"1234567890")
        case "no sidecar":
            sidecar.unlink()
        case "no json":
            sidecar.write_bytes(b"\xff{")
        case "list":
            sidecar.write_text("[]")
        case _:
            sidecar.write_text(sidecar.read_text().replace('"name"', '"nome"'))
    assert mirror.find(ITEM) is None


def test_a_copy_that_a_disk_does_not_give_now_is_not_taken_for_absent(mirror, monkeypatch) -> None:
    path = kept(mirror)

    def fail(*_, **__):
        raise OSError(errno.EIO, "Input/output error")

    with monkeypatch.context() as patch, pytest.raises(MayPass, match=r"cannot be read now .*Input/output error"):
        patch.setattr(Path, "read_text", fail)
        mirror.find(ITEM)
    assert mirror.find(ITEM) == path


@pytest.mark.parametrize("name", ["../x", "/etc/x", "a/../../x", "", "a\0b"])
def test_no_name_leaves_the_folder(mirror, name) -> None:
    with pytest.raises(WorldlineError, match="leads out of the mirror"):
        mirror.path(replace(ITEM, name=name))


def test_the_limit_counts_all_mirrors_and_not_what_is_there(mirror) -> None:
    kept(mirror)
    used = sum(file.stat().st_size for file in mirror.folder.rglob("*") if file.is_file())
    beside = Mirror(mirror.folder.with_name("c"), limit=used + 9)
    beside.require_room([ITEM])
    with pytest.raises(WorldlineError, match=rf"exceeds cache_bytes {used + 9:,}: raise cache_bytes") as caught:
        beside.require_room([ITEM, replace(ITEM, name="more")])
    assert "\n" not in str(caught.value)
    replace(mirror, limit=used).require_room([ITEM])
    with pytest.raises(WorldlineError, match="exceeds cache_bytes 0"):
        Mirror(mirror.folder.parent.parent / "empty" / "b", limit=0).require_room([ITEM])


def test_the_folder_follows_profile_and_url(tmp_path) -> None:
    store = Store(tmp_path / "home" / "store")
    one, two = Mirror.of("gs://b/dqn/", store), Mirror.of("gs://b-dqn", store)
    assert one is not None and two is not None and one.folder != two.folder
    assert one.folder.parent == tmp_path / "home" / "mirror" and one.folder.name.startswith("gs-b-dqn-")
    assert Mirror.of("gs://b/dqn", store) == one and one.limit is None
    profile = Profile("p", scratch=str(tmp_path / "fast"), cache_bytes=7)
    other = Mirror.of("s3://b", Store(tmp_path / "store", profile=profile))
    assert other is not None and other.folder.parent == tmp_path / "fast" / "mirror" and other.limit == 7
    assert Mirror.of("file:///b", store) is None and Mirror.of("/b", store) is None


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
    monkeypatch.setattr(bucket_object, "CHUNK", 10)
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
    monkeypatch.setattr(bucket_object, "CHUNK", 10)
    before = threading.active_count()
    stream = Reader(item(DATA), range_chunks(lambda start, stop: DATA[start:stop], 450), raise_for, False)
    assert stream.read(3) == b"123"
    stream.close()
    for thread in threading.enumerate():
        if thread.name.startswith("read-ahead"):
            thread.join(5)
    assert threading.active_count() <= before
