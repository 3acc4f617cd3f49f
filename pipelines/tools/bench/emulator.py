"""A gs:// bucket on loopback in a process of its own, so that its work is not counted as a reader's."""

import importlib.util
import json
import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from http.client import HTTPConnection
from http.server import ThreadingHTTPServer
from pathlib import Path
from threading import Thread
from typing import Any
from urllib.parse import quote

from pipelines import process
from pipelines.errors import WorldlineError

NAME = "bench"

URL = f"gs://{NAME}/dqn"


@contextmanager
def bucket(folder: Path) -> Iterator[dict[str, Any]]:
    """Serve the files below `folder` at URL; yields the fsspec options that reach it.

    Raises WorldlineError when gcp-storage-emulator is not installed.
    """
    if importlib.util.find_spec("gcp_storage_emulator") is None:
        raise WorldlineError("The row 'bucket' needs gcp-storage-emulator: pip install 'worldline[dev]'")
    with subprocess.Popen(
        process.command(__name__),
        env=os.environ | process.environment(),
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
    ) as server:
        assert server.stdin is not None and server.stdout is not None
        try:
            port = server.stdout.readline()
            if not port:
                raise WorldlineError(f"The emulated bucket did not start: try python -m pipelines.process 0 {__name__}")
            _fill(int(port), folder)
            yield {"token": "anon", "endpoint_url": f"http://127.0.0.1:{int(port)}"}
        finally:
            server.stdin.close()  # which ends it


def _fill(port: int, folder: Path) -> None:
    server = HTTPConnection("127.0.0.1", port, timeout=600)
    server.request("POST", "/storage/v1/b", json.dumps({"name": NAME}), {"Content-Type": "application/json"})
    server.getresponse().read()
    for path in sorted(path for path in folder.rglob("*") if path.is_file()):
        name = quote(f"dqn/{path.relative_to(folder).as_posix()}")
        server.request("PUT", f"/{NAME}/{name}", path.read_bytes(), {"Content-Type": "application/octet-stream"})
        answer = server.getresponse()
        answer.read()
        if answer.status != 200:
            raise WorldlineError(f"The emulated bucket refused {name} with status {answer.status}")
    server.close()


def main() -> int:
    """The server's side: print the port, serve until standard input ends."""
    from gcp_storage_emulator.server import RequestHandler
    from gcp_storage_emulator.storage import Storage

    server = ThreadingHTTPServer(("127.0.0.1", 0), partial(RequestHandler, Storage(use_memory_fs=True)))
    Thread(target=server.serve_forever, daemon=True).start()
    print(server.server_port, flush=True)
    sys.stdin.read()
    return 0
