"""A copy is found only for exactly the object it is of; the limit is a limit; no name leaves the folder."""

import errno
from dataclasses import replace
from pathlib import Path

import pytest

from pipelines.bucket.bucket import Bucket
from pipelines.bucket.bucket_object import BucketObject
from pipelines.bucket.mirror import Mirror
from pipelines.errors import MayPass, WorldlineError
from pipelines.store.profile import Profile
from pipelines.store.store import Store

ITEM = BucketObject("gs://b/Pong/1/replay_logs/x.gz", "Pong/1/replay_logs/x.gz", 9, "e3069283", "17")


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
