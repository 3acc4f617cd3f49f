"""Clients of the kinds of buckets. They differ in how they are opened, and in how they name one version of an object.

Reads from Google name the generation, reads from S3 demand the etag; writes and removals do so too, by
`ifGenerationMatch`, `If-None-Match` and `If-Match`. All others, local files included, cannot be pinned to a version; it
is compared when an object has been read, and nothing is written there. A new kind of bucket is one class here.
"""

import base64
import contextlib
import copy
import functools
import hashlib
import importlib
import inspect
import json
import logging
import os
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any
from urllib.parse import quote

from pipelines.bucket.credentials import GOOGLE, NO_S3, S3, google_token
from pipelines.bucket.retry import reason, with_retries
from pipelines.errors import UsageError, WorldlineError, unknown
from pipelines.redact import SECRET_NAME, redact_logs, remember
from pipelines.store.profile import NO_SECRETS

TIMEOUT = 60.0  # seconds for one request, unless the profile's options say otherwise

LOCAL = (None, "file", "local")

OCTETS = {"Content-Type": "application/octet-stream"}

Entry = Mapping[str, Any]  # what fsspec says of an object
Tried = Callable[[Callable[[], Any]], Any]  # calls what it is given, and again where that may help


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

    def put(self, path: str, content: bytes, former: str | None) -> Entry:
        """Write an object in one request, where it still is of the version `former` ("": none; None: whatever it is).

        Raises what `status_of` calls 412 where it is not; UsageError for a kind of bucket that knows no conditions.
        """
        raise UsageError(
            f"{path} cannot be written: artefacts lie in folders, gs:// or s3://, where a write can depend on what is "
            "there; set artefact_root in the storage profile"
        )

    def upload(self, path: str, size: int, parts: Iterator[bytes], tried: Tried) -> Entry:
        """Write an object of `size` bytes part by part; each is sent by `tried`. It is there when the last one is."""
        return self.put(path, b"".join(parts), None)

    def delete(self, path: str, version: str | None) -> None:
        """Remove an object, if it is of that version (None: whatever it is)."""
        self.filesystem.rm_file(path)


class GoogleClient(Client):
    """gs://. Reading a generation that no longer exists gives 404."""

    pins = True

    def read(self, path: str, start: int, stop: int, version: str | None) -> bytes:
        return self.filesystem.cat_file(path, start=start, end=stop, generation=version)

    def put(self, path: str, content: bytes, former: str | None) -> Entry:
        bucket, key, _ = self.filesystem.split_path(path)
        given = {"uploadType": "media", "name": key, "ifGenerationMatch": "0" if former == "" else former}
        made = self.filesystem.call("POST", self._uploads(bucket), headers=OCTETS, data=content, json_out=True, **given)
        return dict(self.filesystem._process_object(bucket, made))

    def upload(self, path: str, size: int, parts: Iterator[bytes], tried: Tried) -> Entry:
        bucket, key, _ = self.filesystem.split_path(path)

        def begin() -> str:
            given = {"uploadType": "resumable", "name": key}
            headers, _ = self.filesystem.call("POST", self._uploads(bucket), json={"name": key}, **given)
            return str(headers["Location"])

        session, at, answer = tried(begin), 0, b""
        for part in parts:
            answer = tried(_Part(self.filesystem, session, part, at, size).send)
            at += len(part)
        return dict(self.filesystem._process_object(bucket, json.loads(answer)))

    def delete(self, path: str, version: str | None) -> None:
        bucket, key, _ = self.filesystem.split_path(path)
        self.filesystem.call("DELETE", "b/{}/o/{}", bucket, key, ifGenerationMatch=version)

    def _uploads(self, bucket: str) -> str:
        return f"{self.filesystem._location}/upload/storage/v1/b/{quote(bucket)}/o"


@dataclass
class _Part:
    """Bytes at..at+len(content)-1 of an object of `size` bytes, sent into one of Google's resumable sessions."""

    filesystem: Any
    session: str
    content: bytes
    at: int
    size: int
    asked: bool = False

    def send(self) -> bytes:
        """What Google answers. Called again after a failure, it asks first how much came, and sends the rest."""
        done, answer = self._put(b"", f"bytes */{self.size}") if self.asked else (self.at, b"")
        self.asked = True
        while not answer and done < self.at + len(self.content):
            rest = self.content[done - self.at :]
            done, answer = self._put(rest, f"bytes {done}-{done + len(rest) - 1}/{self.size}")
        return answer

    def _put(self, content: bytes, what: str) -> tuple[int, bytes]:
        """How many bytes of the object are there, and once all are, what Google says of it."""
        told = OCTETS | {"Content-Range": what}
        headers, answer = self.filesystem.call("PUT", self.session, headers=told, data=content)
        _, dash, last = headers.get("Range", "").rpartition("-")
        return (int(last) + 1 if dash else 0), answer


class S3Client(Client):
    """s3://. Reading an etag that no longer exists gives 412."""

    pins = True

    def read(self, path: str, start: int, stop: int, version: str | None) -> bytes:
        pin = {} if version is None else {"IfMatch": f'"{version}"'}
        response = self._call("get_object", path, Range=f"bytes={start}-{stop - 1}", **pin)
        try:
            import fsspec.asyn

            return fsspec.asyn.sync(self.filesystem.loop, response["Body"].read, timeout=TIMEOUT)
        finally:
            response["Body"].close()

    def put(self, path: str, content: bytes, former: str | None) -> Entry:
        condition = {} if former is None else {"IfMatch": f'"{former}"'} if former else {"IfNoneMatch": "*"}
        made = self._call("put_object", path, Body=content, ContentMD5=_md5(content), **condition)
        return {"size": len(content), "ETag": made["ETag"]}

    def upload(self, path: str, size: int, parts: Iterator[bytes], tried: Tried) -> Entry:
        begun = tried(lambda: self._call("create_multipart_upload", path))["UploadId"]
        try:
            sent = []
            for number, part in enumerate(parts, 1):
                given = {"UploadId": begun, "PartNumber": number, "Body": part, "ContentMD5": _md5(part)}
                made = tried(functools.partial(self._call, "upload_part", path, **given))
                sent.append({"PartNumber": number, "ETag": made["ETag"]})
            whole = {"UploadId": begun, "MultipartUpload": {"Parts": sent}}
            made = tried(lambda: self._call("complete_multipart_upload", path, **whole))
        except BaseException:
            with contextlib.suppress(Exception):  # what was sent costs money until it is given up
                self._call("abort_multipart_upload", path, UploadId=begun)
            raise
        return {"size": size, "ETag": made["ETag"]}

    def delete(self, path: str, version: str | None) -> None:
        self._call("delete_object", path, **({} if version is None else {"IfMatch": f'"{version}"'}))

    def _call(self, method: str, path: str, **given: Any) -> Any:
        bucket, key, _ = self.filesystem.split_path(path)
        return self.filesystem.call_s3(method, Bucket=bucket, Key=key, **given)

    def md5_is_etag(self, path: str) -> bool:
        """Under a customer's key the etag is 32 hex digits too, and no md5."""
        head = self._call("head_object", path)
        return not str(head.get("ServerSideEncryption", "")).startswith("aws:kms") and not head.get(
            "SSECustomerAlgorithm"
        )


def _md5(content: bytes) -> str:
    """What S3 compares a body with when it comes."""
    return base64.b64encode(hashlib.md5(content, usedforsecurity=False).digest()).decode()


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
