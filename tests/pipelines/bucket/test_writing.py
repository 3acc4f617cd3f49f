"""Writes to both stores: on a condition, whole and verified, part by part; and what is refused."""

import os
from pathlib import Path

import pytest

from pipelines.bucket import writing
from pipelines.bucket.retry import BucketError, DamagedInTransit, Refused
from pipelines.bucket.writing import WritableBucket
from tests.buckets.faults import Fault, FaultProxy
from tests.buckets.servers import EmulatedBucket


@pytest.fixture
def place(emulated: EmulatedBucket, proxy: FaultProxy) -> WritableBucket:
    return WritableBucket.of(f"{emulated.root_url}/store", emulated.profile(proxy.endpoint, timeout=2.0))


def read(place: WritableBucket, name: str) -> bytes:
    item = place.stat(name)
    return place.read_range(item, 0, item.bytes)


def test_of_two_who_write_on_a_condition_one_succeeds(place: WritableBucket) -> None:
    first = place.replace("refs/a", b"one", None)
    assert first is not None and place.replace("refs/a", b"two", None) is None
    second = place.replace("refs/a", b"two!", first)
    assert second is not None and place.replace("refs/a", b"three", first) is None
    assert read(place, "refs/a") == b"two!" and place.find("refs/a") == second
    assert place.replace("refs/b", b"none is there", first) is None and place.find("refs/b") is None


def test_a_write_whose_answer_was_lost_has_succeeded(place: WritableBucket, proxy: FaultProxy) -> None:
    proxy.add(Fault("reset", match="refs/a", listings=True))
    assert place.replace("refs/a", b"mine", None) is not None
    assert proxy.struck("reset") == 1 and read(place, "refs/a") == b"mine"


def test_an_object_is_removed_where_it_is_the_one_that_is_meant(place: WritableBucket) -> None:
    first = place.put("a", b"one")
    second = place.put("a", b"two")
    assert not place.remove("a", first.version) and read(place, "a") == b"two"
    assert place.remove("a", second.version) and place.find("a") is None
    assert place.remove("a")


@pytest.mark.parametrize("size", [0, 1, 300_000, 11_000_000])
def test_a_file_comes_whole_in_one_part_or_several(place: WritableBucket, tmp_path: Path, monkeypatch, size) -> None:
    if size == 0 and place.root.startswith("gs"):
        pytest.skip("the emulator breaks on an empty body, which the real one takes")
    monkeypatch.setattr(writing, "PART", 1 << 18 if place.root.startswith("gs") else 5 << 20)
    (tmp_path / "file").write_bytes(content := os.urandom(size))
    made = place.upload(tmp_path / "file", "files/deep/file")
    assert made.bytes == size and place.find("files/deep/file") == made
    assert read(place, "files/deep/file") == content
    assert place.below("files") == {"deep/file": made} and place.below("nothing") == {}
    [written] = place.written("files").values()
    assert written.bytes == size and abs(written.at - (tmp_path / "file").stat().st_mtime) < 60


@pytest.mark.parametrize(
    "fault", [Fault("status", listings=True, skip=2, times=2), Fault("reset", listings=True, skip=2)]
)
def test_a_part_that_fails_is_sent_again_alone(place: WritableBucket, proxy, tmp_path, monkeypatch, fault) -> None:
    monkeypatch.setattr(writing, "PART", 5 << 20)  # S3 takes no smaller ones
    (tmp_path / "file").write_bytes(content := os.urandom(12 << 20))
    proxy.add(fault)  # not the first part: of none, the GCS emulator says that one byte came
    place.upload(tmp_path / "file", "file")
    assert read(place, "file") == content and proxy.struck(fault.kind) == fault.times


def test_other_bytes_than_were_sent_are_noticed(place: WritableBucket, tmp_path: Path, monkeypatch) -> None:
    (tmp_path / "file").write_bytes(b"content")
    client = type(place._client)
    real = client.put
    monkeypatch.setattr(client, "put", lambda self, path, content, former: real(self, path, content[::-1], former))
    with pytest.raises(DamagedInTransit, match="store/file came "):
        place.upload(tmp_path / "file", "file")


def test_all_below_a_folder_is_removed_or_what_is_named_of_it(place: WritableBucket) -> None:
    for name in ("a/one", "a/deep/two", "a/three", "b/one"):
        place.put(name, b"content")
    place.remove_all("a", [])
    place.remove_all("a", ["one", "never there"])
    assert set(place.below("a")) == {"deep/two", "three"}
    place.remove_all("a")
    assert place.below("a") == {} and set(place.below("b")) == {"one"}


def test_rights_are_asked_for_by_writing(place: WritableBucket, proxy: FaultProxy) -> None:
    assert abs(place.require_rights()) < 60 and place.below("") == {} == place.below(".probe")
    proxy.add(Fault("status", match=".probe", status=403, listings=True, times=10))
    with pytest.raises(Refused, match="does not let this account store artefacts") as caught:
        place.require_rights()
    assert "\n" not in str(caught.value)


def test_a_bucket_without_conditions_is_refused(place: WritableBucket, monkeypatch) -> None:
    client = type(place._client)
    real = client.put
    monkeypatch.setattr(client, "put", lambda self, path, content, former: real(self, path, content, None))
    with pytest.raises(BucketError, match="heeds no conditions"):
        place.require_rights()
