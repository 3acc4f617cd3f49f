"""A server of fakes in this process, on a free port, and a Python page of its line."""

import json
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import numpy as np
import uvicorn
from websockets.sync.client import ClientConnection, connect

from pipelines.play.mode import Mode
from pipelines.play.protocol import LONGEST, parts
from pipelines.play.server import Port, application
from pipelines.play.session import START, Session
from pipelines.play.source import Start
from pipelines.play.viewers import Viewers
from tests.pipelines.play.fakes import NAMES, FakeMode, FakeRecording, open_fake

SOON = 20.0  # seconds


@dataclass
class Served:
    """A running server, and what it shows now."""

    port: Port
    session: Session
    opened: list[Mode]
    log: list[str] = field(default_factory=list)  # of recordings

    @property
    def address(self) -> str:
        return f"ws://127.0.0.1:{self.port.port}/live"


@contextmanager
def serving(opened: Callable[..., Mode] = open_fake) -> Iterator[Served]:
    """Serve, on a free port, until the context ends."""
    viewers, port, log = Viewers("fake · Pong", NAMES), Port(port=0), []
    first = opened("dream")
    modes = [first]

    def open_and_keep(name: str, start: Start) -> Mode:
        modes.append(opened(name, start))
        return modes[-1]

    viewers.session = Session(first, open_and_keep, partial(FakeRecording, log=log), viewers.spread)
    app = application(viewers, port)
    settings = {"ws": "websockets-sansio", "ws_max_size": LONGEST, "log_level": "critical"}
    server = uvicorn.Server(uvicorn.Config(app, timeout_graceful_shutdown=1, **settings))
    thread = threading.Thread(target=server.run, kwargs={"sockets": [port.socket]}, daemon=True)
    thread.start()
    try:
        yield Served(port, viewers.session, modes, log)
    finally:
        server.should_exit = True
        thread.join(SOON)
        viewers.session.stop()
        assert not thread.is_alive()


class PythonPage:
    """What the page in a browser does: reads, and says what it has seen, unless it is `slow`."""

    def __init__(self, line: ClientConnection, slow: bool = False) -> None:
        self._line, self._slow = line, slow
        self.state: dict[str, Any] = {}
        self.head: dict[str, Any] = {}
        self.shown: list[np.ndarray] = []
        self.notes: list[str] = []
        self.pictures = 0

    def send(self, do: str, **fields: Any) -> None:
        self._line.send(json.dumps({"do": do, **fields}))

    def read(self, timeout: float = SOON) -> None:
        """Take one message."""
        message = self._line.recv(timeout)
        if isinstance(message, bytes):
            self.head, self.shown = parts(message)
            self.pictures += 1
            if not self._slow:
                self.send("seen", number=self.head["number"])
        elif (found := json.loads(message))["is"] == "state":
            self.state = found
        else:
            self.notes.append(found["text"])

    def until(self, condition: Callable[[], object]) -> None:
        """Read until it holds."""
        end = time.monotonic() + SOON
        while not condition():
            assert time.monotonic() < end, (self.state, self.head, self.notes)
            self.read()

    def drain(self, seconds: float) -> None:
        """Read all that comes in that time."""
        end = time.monotonic() + seconds
        with suppress(TimeoutError):
            while (left := end - time.monotonic()) > 0:
                self.read(left)


@contextmanager
def page(served: Served, slow: bool = False, **how: Any) -> Iterator[PythonPage]:
    """One more viewer."""
    with connect(served.address, proxy=None, **how) as line:
        found = PythonPage(line, slow)
        found.until(lambda: found.state)
        yield found


def slow_mode(name: str, start: Start = START) -> FakeMode:
    """A model that takes a fifth of a second a step."""
    return FakeMode(name, takes=0.2)
