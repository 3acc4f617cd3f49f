"""The emulators behave as the stores they stand for, where our reading depends on it."""

import base64
import hashlib
import os

import fsspec
import google_crc32c
import pytest

from pipelines.store import profile
from tests.buckets.servers import EmulatedBucket

NAME = "Pong/1/replay_logs/$store$_action_ckpt.0.gz"


def opened(bucket: EmulatedBucket):
    return fsspec.core.url_to_fs(f"{bucket.root_url}/{NAME}", use_listings_cache=False, **bucket.options())


def test_list_stat_and_ranges(bucket) -> None:
    content = os.urandom(100_000)
    bucket.put(NAME, content)
    bucket.put("Pong/10/replay_logs/other", b"x")
    filesystem, path = opened(bucket)
    (entry,) = filesystem.ls(path.rsplit("/", 1)[0], detail=True)
    assert entry["name"] == path and entry["size"] == len(content)
    assert filesystem.cat_file(path, start=10, end=5_000) == content[10:5_000]
    assert filesystem.cat_file(path) == content
    if bucket.server.kind == "gs":
        assert base64.b64decode(entry["crc32c"]) == google_crc32c.Checksum(content).digest()
        assert base64.b64decode(entry["md5Hash"]) == hashlib.md5(content).digest()
    else:
        assert entry["ETag"].strip('"') == hashlib.md5(content).hexdigest()


def test_a_replaced_object_is_another_version_and_the_old_one_is_gone(bucket) -> None:
    bucket.put(NAME, b"first")
    filesystem, path = opened(bucket)
    first = filesystem.info(path)
    bucket.put(NAME, b"again")
    filesystem.invalidate_cache()
    second = filesystem.info(path)
    if bucket.server.kind == "gs":
        assert first["generation"] != second["generation"]
        assert filesystem.cat_file(path, generation=second["generation"]) == b"again"
        with pytest.raises(FileNotFoundError):
            filesystem.cat_file(path, generation=first["generation"])
    else:
        assert first["ETag"] != second["ETag"]
        where = dict(zip(("Bucket", "Key"), path.split("/", 1), strict=True))
        filesystem.call_s3("get_object", **where, IfMatch=second["ETag"])
        with pytest.raises(OSError, match="pre-conditions"):
            filesystem.call_s3("get_object", **where, IfMatch=first["ETag"])


def test_a_removed_object_is_not_found(bucket) -> None:
    bucket.put(NAME, b"content")
    bucket.remove(NAME)
    filesystem, path = opened(bucket)
    with pytest.raises(FileNotFoundError):
        filesystem.info(path)


def test_a_written_profile_reaches_the_bucket(bucket, tmp_path) -> None:
    secrets = bucket.write_profile(tmp_path / "emulated.yaml")
    found = profile.load(str(tmp_path / "emulated.yaml"), secrets)
    assert found.replay_root == bucket.root_url and found.options == bucket.options()
