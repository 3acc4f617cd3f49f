"""Passing errors are tried again and said, others are not; the last try's error is one line."""

import errno

import aiohttp
import gcsfs.retry
import pytest
import requests
from botocore.exceptions import ClientError, EndpointConnectionError, ReadTimeoutError
from fsspec.asyn import FSTimeoutError

from pipelines.bucket import retry
from pipelines.bucket.retry import (
    BucketError,
    DamagedInTransit,
    ObjectReplaced,
    ShortRead,
    is_transient,
    retry_if_damaged,
    status_of,
    with_retries,
)
from pipelines.redact import remember


def boto(status: int) -> OSError:
    """As s3fs raises it: an OSError whose cause is botocore's."""
    answer = {"Error": {"Code": str(status)}, "ResponseMetadata": {"HTTPStatusCode": status}}
    error = OSError(errno.EINVAL, "as the server said")
    error.__cause__ = ClientError(answer, "GetObject")
    return error


@pytest.mark.parametrize(
    ("error", "passing"),
    [
        *[(gcsfs.retry.HttpError({"code": code, "message": "m"}), code >= 500 or code in (408, 429))
          for code in (400, 401, 403, 404, 408, 412, 416, 429, 500, 502, 503, 504)],
        *[(boto(code), code >= 500 or code in (408, 429)) for code in (400, 403, 404, 412, 416, 429, 500, 503)],
        (ConnectionResetError(), True), (TimeoutError(), True), (FSTimeoutError(), True), (ShortRead("short"), True),
        (aiohttp.ClientPayloadError("cut"), True), (aiohttp.ServerDisconnectedError(), True),
        (requests.exceptions.ProxyError(), True),  # what gcsfs makes of 502
        (EndpointConnectionError(endpoint_url="u"), True), (ReadTimeoutError(endpoint_url="u"), True),
        (OSError(errno.EBUSY, "slow down"), True), (OSError(errno.EREMOTEIO, "internal"), True),
        (FileNotFoundError("gone"), False), (PermissionError("no"), False), (OSError("Forbidden: x"), False),
        (FileExistsError("412"), False), (ValueError("bad"), False), (OSError(errno.ENOSPC, "full"), False),
    ],
)  # fmt: skip
def test_what_passes(error, passing) -> None:
    assert is_transient(error) == passing


def test_statuses_are_found_behind_causes() -> None:
    assert status_of(boto(412)) == 412 and status_of(gcsfs.retry.HttpError({"code": "503"})) == 503
    assert status_of(OSError(errno.EBUSY, "x")) is None
    loop = ValueError("a")
    loop.__cause__ = loop
    assert status_of(loop) is None


def test_a_reason_is_cut_behind_its_secrets() -> None:
    remember("hush-hush-hush", "token", "${TOKEN}")
    assert retry.reason(ValueError("x" * 190 + "hush-hush-hush")) == f"ValueError: {'x' * 190}${{TOKEN}}"


def test_each_try_is_said_and_the_last_is_one_line(said) -> None:
    def fail() -> None:
        raise ConnectionResetError("line one\nline two")

    with pytest.raises(
        BucketError, match=r"gs://b/o failed 6 times \(ConnectionResetError: line one\): check"
    ) as caught:
        with_retries("gs://b/o", fail)
    assert len(said) == retry.TRIES - 1 and "try 2 of 6" in said[0] and "\n" not in str(caught.value)


def test_nothing_is_tried_again_once_halted(said) -> None:
    with pytest.raises(BucketError, match="failed 1 times"):
        with_retries("u", lambda: (_ for _ in ()).throw(TimeoutError()), lambda: True)
    assert said == []


def test_success_ends_the_tries_and_other_errors_go_through(said) -> None:
    answers = iter([TimeoutError(), TimeoutError(), 7])

    def ask() -> int:
        answer = next(answers)
        if isinstance(answer, Exception):
            raise answer
        return answer

    assert with_retries("u", ask) == 7 and len(said) == 2
    with pytest.raises(KeyError):
        with_retries("u", lambda: {}["absent"])
    with pytest.raises(ObjectReplaced):
        with_retries("u", lambda: (_ for _ in ()).throw(ObjectReplaced("u")))
    assert len(said) == 2


def test_once_more_is_once(said) -> None:
    passes_made = []

    def damaged() -> None:
        passes_made.append(1)
        raise DamagedInTransit("u has crc32c 1")

    with pytest.raises(DamagedInTransit):
        retry_if_damaged(damaged)
    assert len(passes_made) == 2 and said == ["Reading it once more: u has crc32c 1"]
