"""What file systems say of a file becomes size, checksums in hex and a version."""

from dataclasses import replace

import pytest

from pipelines.bucket import bucket_object as rate
from pipelines.bucket.bucket_object import BucketObject, Throughput, entry_fields, throughput

MD5 = "25f9e794323b453885f5181f1b624d0b"  # of "123456789"


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
