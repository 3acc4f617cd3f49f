"""A gs:// bucket on loopback in a process of its own, so that its work is not counted as a reader's.

It can be told to misbehave: to fall silent after some requests, or to refuse every second one.
"""

import importlib.util
import json
import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from http.client import HTTPConnection
from http.server import ThreadingHTTPServer
from pathlib import Path
from threading import Lock, Thread
from typing import IO, Any
from urllib.parse import quote

from pipelines import process
from pipelines.errors import WorldlineError

NAME = "bench"

URL = f"gs://{NAME}/dqn"


@dataclass(frozen=True)
class Served:
    """A bucket at URL: the fsspec options that reach it, and how it is told to misbehave."""

    options: dict[str, Any]
    orders: IO[bytes]

    def tell(self, order: str) -> None:
        """`offline N`: it hangs up on all after N requests; `busy N`: of the next N it refuses every second; `calm`."""
        self.orders.write(f"{order}\n".encode())
        self.orders.flush()


@contextmanager
def bucket(folder: Path) -> Iterator[Served]:
    """Serve the files below `folder` at URL.

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
            yield Served({"token": "anon", "endpoint_url": f"http://127.0.0.1:{int(port)}"}, server.stdin)
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


class Weather:
    """What becomes of requests, by the last order."""

    def __init__(self) -> None:
        self._lock, self._kind, self._number, self._asked = Lock(), "calm", 0, 0

    def order(self, line: str) -> None:
        """Obey a line of `Served.tell`."""
        kind, _, number = line.partition(" ")
        with self._lock:
            self._kind, self._number, self._asked = kind, int(number or 0), 0

    def fate(self) -> str:
        """Of the next request: `served`, `dropped` or `refused`."""
        with self._lock:
            self._asked += 1
            if self._kind == "offline" and self._asked > self._number:
                return "dropped"
            return "refused" if self._kind == "busy" and self._asked <= self._number and self._asked % 2 else "served"


def main() -> int:
    """The server's side: print the port, obey orders and serve until standard input ends."""
    from gcp_storage_emulator.server import RequestHandler
    from gcp_storage_emulator.storage import Storage

    weather = Weather()

    class Handler(RequestHandler):
        def parse_request(self) -> bool:
            if not super().parse_request():
                return False
            fate = weather.fate()
            if fate == "refused":
                self.send_error(429)
            if fate != "served":
                self.close_connection = True
            return fate == "served"

    server = ThreadingHTTPServer(("127.0.0.1", 0), partial(Handler, Storage(use_memory_fs=True)))
    Thread(target=server.serve_forever, daemon=True).start()
    print(server.server_port, flush=True)
    for line in sys.stdin:
        weather.order(line.strip())
    return 0
