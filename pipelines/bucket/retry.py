"""Errors between a bucket and its reader: which of them are transient, and how long to wait before trying again.

A wait is twice as long each time, with jitter. Every fsspec client has errors of its own. They are recognised by the
names of their classes, so that no client is imported that is not used. The clients' own retries are switched off
(clients.py), because they multiply with ours and print nothing.
"""

import errno
import random
import time
from collections.abc import Callable, Iterator
from typing import TypeVar

from pipelines.errors import WorldlineError
from pipelines.progress import say
from pipelines.redact import redact


class BucketError(WorldlineError):
    """The bucket did not give the bytes: it is unreachable, forbids it or lacks them. Trying again is useless."""


class Absent(BucketError):  # noqa: N818
    """The bucket was asked and says that it has no such object or folder."""


class Refused(BucketError):  # noqa: N818
    """The bucket was asked and does not allow it. Some say so of what they do not have, too."""


class ObjectReplaced(BucketError):  # noqa: N818
    """Another object lies under that name by now. What was read of the old one is void."""


class DamagedInTransit(BucketError):  # noqa: N818
    """The bytes are not those of the object list, though the object is the same. Another try may help."""


TRIES = 6

FIRST_WAIT = 0.5  # seconds

LONGEST_WAIT = 10.0

GONE = (404, 410, 412, 416)  # the answers to a pinned read when that version no longer exists

_TRANSIENT_NAMES = {
    "aiohttp.ClientError",
    "botocore.ConnectionError",
    "botocore.FlexibleChecksumError",
    "botocore.HTTPClientError",
    "botocore.IncompleteReadError",
    "botocore.ResponseParserError",
    "fsspec.FSTimeoutError",
    "gcsfs.ChecksumError",
    "google.TransportError",
    "json.JSONDecodeError",  # half a listing
    "requests.RequestException",
    "urllib3.HTTPError",
}

_TRANSIENT_NUMBERS = (errno.EBUSY, errno.EREMOTEIO, errno.ECONNRESET, errno.EPIPE, errno.ETIMEDOUT, errno.ENETUNREACH)

T = TypeVar("T")


class ShortRead(OSError):  # noqa: N818
    """A range came with fewer or more bytes than asked for."""


def with_retries(what: str, action: Callable[[], T], halted: Callable[[], bool] = lambda: False) -> T:
    """`action()`, tried up to TRIES times while its errors are transient and `halted()` is false. Each wait is printed.

    Raises BucketError when the last try failed. An error that is not transient is raised as it is, at once.
    """
    for attempt in range(1, TRIES + 1):
        try:
            return action()
        except WorldlineError:
            raise
        except Exception as error:
            if not is_transient(error):
                raise
            if attempt == TRIES or halted():
                raise BucketError(
                    f"{what} failed {attempt} times ({reason(error)}): check the network and run the same command again"
                ) from error
            wait = min(FIRST_WAIT * 2 ** (attempt - 1), LONGEST_WAIT) * random.uniform(0.5, 1.0)
            say(f"{what}: {reason(error)}; try {attempt + 1} of {TRIES} in {wait:.1f} s")
            time.sleep(wait)
    raise AssertionError("unreachable: the last try returns or raises")


def retry_if_damaged(read: Callable[[], T]) -> T:
    """`read()`; when its bytes came damaged in transit, a line says so and it is called once more from its beginning.

    Raises DamagedInTransit when they came damaged again.
    """
    try:
        return read()
    except DamagedInTransit as error:
        say(f"Reading it once more: {error}")
    return read()


def is_transient(error: BaseException) -> bool:
    """Whether waiting may help: after lost connections, time-outs, short reads, 408, 429, 5xx; never after 403, 404."""
    status = status_of(error)
    if status is not None:
        return status in (408, 429) or status >= 500
    if isinstance(error, (FileNotFoundError, PermissionError, FileExistsError, IsADirectoryError)):
        return False
    if isinstance(error, (ConnectionError, TimeoutError, ShortRead)):
        return True
    names = {f"{kind.__module__.partition('.')[0]}.{kind.__name__}" for kind in type(error).__mro__}
    return bool(names & _TRANSIENT_NAMES) or (isinstance(error, OSError) and error.errno in _TRANSIENT_NUMBERS)


def status_of(error: BaseException) -> int | None:
    """The HTTP status behind an error of any client, or None."""
    for cause in _chain(error):
        if type(cause).__module__ == "aiohttp.http_exceptions":
            continue  # a connection that broke off; the 400 in it came from no server
        response = getattr(cause, "response", None)
        metadata = response.get("ResponseMetadata", {}) if isinstance(response, dict) else {}
        for value in (metadata.get("HTTPStatusCode"), getattr(cause, "code", None), getattr(cause, "status", None)):
            if isinstance(value, (int, str)) and str(value).isdecimal() and 100 <= int(value) < 600:
                return int(value)
    return None


def reason(error: BaseException) -> str:
    """An error in a few words."""
    text = redact(str(error) or repr(error)).splitlines()[0][:200]  # half a secret would not be known as one
    return text if isinstance(error, (ShortRead, WorldlineError)) else f"{type(error).__name__}: {text}"


def _chain(error: BaseException | None) -> Iterator[BaseException]:
    for _ in range(8):
        if error is None:
            return
        yield error
        error = error.__cause__
