"""Clients of the kinds of buckets. They differ in how they are opened, and in how a range of one version is read.

Reads from Google name the generation, reads from S3 demand the etag. All others, local files included, cannot be
pinned to a version; it is compared when an object has been read. A new kind of bucket is one class here.
"""

import functools
import importlib
import logging
import os
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from pipelines.errors import UsageError

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

    Raises UsageError for a URL of no known kind, a client that is not installed, and options it does not know.
    """
    import fsspec.core

    kind = protocol(url)
    given = dict(options)
    try:
        if kind in ("gs", "gcs"):
            given = {"token": "anon", "requests_timeout": TIMEOUT, "use_listings_cache": False} | given
            filesystem = _google()(**given)
            return GoogleClient(filesystem, filesystem._strip_protocol(url))
        if kind in ("s3", "s3a"):
            config = {"connect_timeout": TIMEOUT, "read_timeout": TIMEOUT, "retries": {"total_max_attempts": 1}}
            given["config_kwargs"] = config | dict(given.get("config_kwargs") or {})
            filesystem, path = fsspec.core.url_to_fs(url, **({"use_listings_cache": False} | given))
            filesystem.retries = 1
            return S3Client(filesystem, path)
        return Client(*fsspec.core.url_to_fs(url, **given))
    except ImportError as error:
        extra = "pip install 'worldline[s3]'" if kind in ("s3", "s3a") else f"install what fsspec asks for ({error})"
        raise UsageError(f"'{url}' needs a client that is not installed: {extra}") from error
    except (ValueError, TypeError, KeyError) as error:
        if given:
            raise UsageError(
                f"'{url}' cannot be opened with options {sorted(given)} ({error}): correct them"
            ) from error
        raise UsageError(f"'{url}' is no bucket URL ({error}): write gs://..., s3://... or file:///...") from error


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
