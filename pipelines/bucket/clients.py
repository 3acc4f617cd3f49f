"""Clients of the kinds of buckets. They differ in how they are opened, and in how a range of one version is read.

Reads from Google name the generation, reads from S3 demand the etag. All others, local files included, cannot be
pinned to a version; it is compared when an object has been read. A new kind of bucket is one class here.
"""

import copy
import functools
import importlib
import inspect
import logging
import os
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from pipelines.bucket.credentials import GOOGLE, NO_S3, S3, google_token
from pipelines.bucket.retry import reason, with_retries
from pipelines.errors import UsageError, WorldlineError, unknown
from pipelines.redact import SECRET_NAME, redact_logs, remember
from pipelines.store.profile import NO_SECRETS

TIMEOUT = 60.0  # seconds for one request, unless the profile's options say otherwise

LOCAL = (None, "file", "local")


@dataclass(frozen=True)
class Client:
    """An open file system and the path of the bucket's root in it."""

    filesystem: Any
    path: str
    pins = False

    def read(self, path: str, start: int, stop: int, version: str | None) -> bytes:
        """Bytes start..stop-1 of the object at `path`, of that version where the kind can pin one."""
        return self.filesystem.cat_file(path, start=start, end=stop)

    def md5_is_etag(self, path: str) -> bool:
        """Whether an etag that looks like an md5 is one."""
        return True


class GoogleClient(Client):
    """gs://. Reading a generation that no longer exists gives 404."""

    pins = True

    def read(self, path: str, start: int, stop: int, version: str | None) -> bytes:
        return self.filesystem.cat_file(path, start=start, end=stop, generation=version)


class S3Client(Client):
    """s3://. Reading an etag that no longer exists gives 412."""

    pins = True

    def read(self, path: str, start: int, stop: int, version: str | None) -> bytes:
        bucket, key, _ = self.filesystem.split_path(path)
        pin = {} if version is None else {"IfMatch": f'"{version}"'}
        response = self.filesystem.call_s3(
            "get_object", Bucket=bucket, Key=key, Range=f"bytes={start}-{stop - 1}", **pin
        )
        try:
            import fsspec.asyn

            return fsspec.asyn.sync(self.filesystem.loop, response["Body"].read, timeout=TIMEOUT)
        finally:
            response["Body"].close()

    def md5_is_etag(self, path: str) -> bool:
        """Under a customer's key the etag is 32 hex digits too, and no md5."""
        bucket, key, _ = self.filesystem.split_path(path)
        head = self.filesystem.call_s3("head_object", Bucket=bucket, Key=key)
        return not str(head.get("ServerSideEncryption", "")).startswith("aws:kms") and not head.get(
            "SSECustomerAlgorithm"
        )


def protocol(url: str) -> str | None:
    """`gs`, `s3`, `file`, ...; None for a plain path."""
    import fsspec.core

    return fsspec.core.split_protocol(url)[0]


def connect(url: str, options: Mapping[str, Any]) -> Client:
    """The client for a bucket's root. fsspec opens one per process and set of options, and keeps it safe over forks.

    Raises UsageError for a URL of no known kind, a client that is not installed, options that it does not know, and
    credentials that are missing or cannot be read; BucketError where logging in needs a network that does not answer.
    """
    redact_logs()
    _remember(options)
    kind = protocol(url)
    _require_kind(url, kind)
    try:
        return with_retries(url, lambda: _open(url, kind, options))
    except WorldlineError:
        raise
    except Exception as error:
        given = f" with options {', '.join(sorted(options))}" if options else ""
        raise UsageError(
            f"'{url}' cannot be opened{given} ({reason(error)}): correct the options of the storage profile, or log in "
            "as they say"
        ) from error


def _open(url: str, kind: str | None, options: Mapping[str, Any]) -> Client:
    """The client of one kind. Proxies are those of the environment: HTTPS_PROXY, HTTP_PROXY, NO_PROXY."""
    import fsspec.core

    given: dict[str, Any] = copy.deepcopy(dict(options))  # botocore writes into what it gets
    if kind in GOOGLE:
        given = {"token": "anon", "requests_timeout": TIMEOUT, "use_listings_cache": False, **given}
        given["token"] = google_token(given["token"])
        given["session_kwargs"] = {"trust_env": True, **(given.get("session_kwargs") or {})}
        for option in sorted(given.keys() - _google_options()):
            raise unknown("option of gs://", option, _google_options(), "they are gcsfs.GCSFileSystem's")
        filesystem = _google()(**given)
        return GoogleClient(filesystem, filesystem._strip_protocol(url))
    if kind in S3:
        config = {"connect_timeout": TIMEOUT, "read_timeout": TIMEOUT, "retries": {"total_max_attempts": 1}}
        given["config_kwargs"] = config | dict(given.get("config_kwargs") or {})
        filesystem, path = fsspec.core.url_to_fs(url, **({"use_listings_cache": False} | given))
        filesystem.retries = 1
        _log_in_to_s3(filesystem)
        return S3Client(filesystem, path)
    if kind in ("http", "https"):
        given["client_kwargs"] = {"trust_env": True, **(given.get("client_kwargs") or {})}
    return Client(*fsspec.core.url_to_fs(url, **given))


def _require_kind(url: str, kind: str | None) -> None:
    """Raises UsageError where fsspec knows no such kind of URL, or its client is not installed."""
    import fsspec

    if "::" in url:
        raise UsageError(f"'{url}' is a chain of URLs, which no bucket is: unpack it and give the URL of its folder")
    try:
        _ = _google() if kind in GOOGLE else fsspec.get_filesystem_class(kind or "file")
    except ImportError as error:
        extra = "pip install 'worldline[s3]'" if kind in S3 else f"install what fsspec asks for ({error})"
        raise UsageError(f"'{url}' needs a client that is not installed: {extra}") from error
    except ValueError as error:
        raise UsageError(f"'{url}' is no bucket URL ({error}): write gs://..., s3://... or file:///...") from error


def _remember(options: Mapping[str, Any]) -> None:
    """Keep the secrets among options out of messages, in a process too that got them without a storage profile."""
    for key, value in options.items():
        if isinstance(value, Mapping):
            _remember(value)
        elif isinstance(value, str) and SECRET_NAME.search(key) and value not in NO_SECRETS:
            remember(value, key, f"<{key}>")


def _log_in_to_s3(filesystem: Any) -> None:
    """Open the connection, which makes no request, so that a wrong option is told here and not at the first read.

    Raises UsageError where nobody is logged in.
    """
    import fsspec.asyn

    if filesystem._s3 is not None:
        return
    filesystem.connect()
    given = filesystem.anon or filesystem.key or "aws_access_key_id" in filesystem.client_kwargs
    if not given and fsspec.asyn.sync(filesystem.loop, filesystem.session.get_credentials) is None:
        filesystem._s3 = None  # fsspec keeps it: the next who asks must be told too
        raise UsageError(NO_S3)


@functools.cache
def _google_options() -> frozenset[str]:
    """What gcsfs and fsspec take; they would ignore any other."""
    listings = importlib.import_module("fsspec.dircache").DirCache
    known = {name for kind in (*_google().__mro__, listings) for name in inspect.signature(kind.__init__).parameters}
    return frozenset(known - {"self", "args", "kwargs", "storage_options"})


@functools.cache
def _google() -> Any:
    """The class of gcsfs with one try per request.

    Before its import, gcsfs must be told to leave its control plane alone: where there is none, the first request of
    every kind would wait for a minute.
    """
    os.environ.setdefault("GCSFS_EXPERIMENTAL_ZB_HNS_SUPPORT", "false")
    base = importlib.import_module("gcsfs").GCSFileSystem
    logging.getLogger("gcsfs").setLevel(logging.CRITICAL)  # it logs a traceback for every error that it raises
    once = getattr(base._request, "__wrapped__", base._request)
    return type("GoogleFileSystem", (base,), {"_request": once})
