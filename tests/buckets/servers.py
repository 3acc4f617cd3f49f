"""Real buckets on loopback: gcp-storage-emulator behind gs://, moto behind s3://. Free ports, in memory, a thread each.

Use the fixtures `gcs_bucket` and `s3_bucket` (tests/buckets/fixtures.py): each test gets a fresh bucket.

    write_replay(tmp_path / "toy", [13] * 8); gcs_bucket.put_folder(tmp_path / "toy")
    objects = list_objects(Bucket.of(gcs_bucket.root_url, gcs_bucket.profile()), "Freeway", 1)

Cost: the first gs:// bucket of a session takes 0.2 s, the first s3:// one 1.5 s (moto's import).
"""

import itertools
import json
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from http.client import HTTPConnection
from http.server import ThreadingHTTPServer
from pathlib import Path
from threading import Lock, Thread
from typing import Any
from urllib.parse import parse_qs, quote, unquote, urlsplit

from pipelines.store.profile import Profile

# Before any test imports gcsfs itself: an emulator has no control plane, and each first request waits a minute for it.
os.environ.setdefault("GCSFS_EXPERIMENTAL_ZB_HNS_SUPPORT", "false")

KEY, SECRET = "loopback", "loopback-only"  # moto accepts anything; these open nothing
FOLDER = "dqn"  # the replay lies below it, as in gs://atari-replay-datasets/dqn
SIGNED = {"Authorization": f"AWS4-HMAC-SHA256 Credential={KEY}/20260101/us-east-1/s3/aws4_request"}  # unchecked
_numbers = itertools.count(1)


@dataclass(frozen=True)
class EmulatedServer:
    """One running emulator: `kind` is gs or s3, `endpoint` its http://127.0.0.1:PORT."""

    kind: str
    endpoint: str

    def bucket(self) -> "EmulatedBucket":
        """A new, empty bucket."""
        made = EmulatedBucket(self, f"replay-{next(_numbers)}")
        if self.kind == "gs":
            body = json.dumps({"name": made.name}).encode()
            _request(self.endpoint, "POST", "/storage/v1/b", body, {"Content-Type": "application/json"})
        else:
            _request(self.endpoint, "PUT", f"/{made.name}")
        return made


@dataclass(frozen=True)
class EmulatedBucket:
    """A bucket of one test. Object names are relative to `root_url`."""

    server: EmulatedServer
    name: str

    @property
    def root_url(self) -> str:
        """What a person would write as replay_root."""
        return f"{self.server.kind}://{self.name}/{FOLDER}"

    def put(self, name: str, content: bytes) -> None:
        """Write one object; writing it again gives it a new generation (gs) or etag (s3)."""
        path = f"/{self.name}/{quote(f'{FOLDER}/{name}')}"
        _request(self.server.endpoint, "PUT", path, content, {"Content-Type": "application/octet-stream"})

    def put_folder(self, folder: Path) -> dict[str, int]:
        """Write every file below `folder` under its relative name; returns their sizes."""
        files = {path.relative_to(folder).as_posix(): path for path in sorted(folder.rglob("*")) if path.is_file()}
        for name, path in files.items():
            self.put(name, path.read_bytes())
        return {name: path.stat().st_size for name, path in files.items()}

    def remove(self, name: str) -> None:
        """Delete one object."""
        key = quote(f"{FOLDER}/{name}", safe="" if self.server.kind == "gs" else "/")
        prefix = f"/storage/v1/b/{self.name}/o/" if self.server.kind == "gs" else f"/{self.name}/"
        _request(self.server.endpoint, "DELETE", prefix + key)

    def options(self, endpoint: str | None = None, timeout: float = 5.0) -> dict[str, Any]:
        """fsspec options that reach this bucket, at `endpoint` (a fault proxy) where given."""
        endpoint = endpoint or self.server.endpoint
        if self.server.kind == "gs":
            return {"token": "anon", "endpoint_url": endpoint, "requests_timeout": timeout}
        config = {"read_timeout": timeout, "connect_timeout": timeout}
        return {"key": KEY, "secret": SECRET, "endpoint_url": endpoint, "config_kwargs": config}

    def profile(self, endpoint: str | None = None, timeout: float = 5.0, **keys: Any) -> Profile:
        """A storage profile whose replay_root is this bucket."""
        options = self.options(endpoint, timeout)
        return Profile("emulated", replay_root=self.root_url, options=options, **keys)

    def write_profile(
        self, path: Path, endpoint: str | None = None, timeout: float = 5.0, **keys: Any
    ) -> dict[str, str]:
        """The same as a file for `--storage`, with other `keys`; returns the environment that holds its secrets."""
        options = self.options(endpoint, timeout)
        secrets = {f"EMULATED_{name.upper()}": options.pop(name) for name in ("key", "secret") if name in options}
        options |= {name.removeprefix("EMULATED_").lower(): f"${{{name}}}" for name in secrets}
        path.write_text(json.dumps({"replay_root": self.root_url, "options": options} | keys))  # JSON is YAML
        return secrets


@contextmanager
def gcs_server() -> Iterator[EmulatedServer]:
    """The GCS emulator, with two more rules of the real one: a generation that is no longer current is not found, and
    a write or a removal may name the one that it expects (`ifGenerationMatch`; 0: none)."""
    from gcp_storage_emulator.server import RequestHandler
    from gcp_storage_emulator.storage import Storage

    one_at_a_time = Lock()

    class Pinned(RequestHandler):  # type: ignore[misc]
        def do_GET(self) -> None:  # noqa: N802
            url = urlsplit(self.path)
            asked = parse_qs(url.query).get("generation")
            if asked and asked[0] != _generation(self.storage, url.path):
                self.send_error(404, "No such object generation")
            else:
                super().do_GET()

        def do_POST(self) -> None:  # noqa: N802
            self._if_matched(super().do_POST)

        def do_DELETE(self) -> None:  # noqa: N802
            self._if_matched(super().do_DELETE)

        def _if_matched(self, act: Callable[[], None]) -> None:
            url = urlsplit(self.path)
            asked = parse_qs(url.query)
            name = asked.get("name", [""])[0]
            with one_at_a_time:
                now = _generation(self.storage, f"{url.path}/{quote(name, safe='')}" if name else url.path)
                if asked.get("ifGenerationMatch", [now or "0"])[0] == (now or "0"):
                    act()
                else:
                    self.rfile.read(int(self.headers.get("Content-Length", 0)))
                    self.send_error(412, "conditionNotMet")

    storage = Storage(use_memory_fs=True)
    server = ThreadingHTTPServer(("127.0.0.1", 0), partial(Pinned, storage))
    Thread(target=server.serve_forever, args=(0.05,), daemon=True).start()
    try:
        yield EmulatedServer("gs", f"http://127.0.0.1:{server.server_port}")
    finally:
        server.shutdown()
        server.server_close()


@contextmanager
def s3_server() -> Iterator[EmulatedServer]:
    """moto's S3."""
    from moto.server import ThreadedMotoServer

    server = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    server.start()
    try:
        yield EmulatedServer("s3", f"http://127.0.0.1:{server.get_host_and_port()[1]}")
    finally:
        server.stop()


def _generation(storage: Any, path: str) -> str | None:
    """The current generation of the object in a path `.../b/BUCKET/o/NAME`."""
    bucket, _, name = path.partition("/b/")[2].partition("/o/")
    found = storage.objects.get(bucket, {}).get(unquote(name))
    return None if found is None else str(found["generation"])


def _request(
    endpoint: str, method: str, path: str, body: bytes | None = None, headers: dict[str, str] | None = None
) -> bytes:
    connection = HTTPConnection(urlsplit(endpoint).netloc, timeout=10)
    try:
        connection.request(method, path, body, SIGNED | (headers or {}))
        answer = connection.getresponse()
        content = answer.read()
    finally:
        connection.close()
    assert answer.status < 300, f"{method} {path}: {answer.status} {content[:200]!r}"
    return content
