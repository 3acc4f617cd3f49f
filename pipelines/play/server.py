"""The server of play: one page, its script and style, and a websocket; on 127.0.0.1 unless told otherwise.

`Port` takes the address before a model is loaded; `serve` then answers until Ctrl-C, SIGTERM or a kill. The server has
the main thread, the model one of its own (`session.py`). Nothing is written, no child is started.
"""

import contextlib
import os
import socket
import sys
import threading
import webbrowser
from collections.abc import AsyncIterator, Callable
from importlib.resources import files
from typing import Any

import uvicorn
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route, WebSocketRoute
from starlette.types import ASGIApp

from pipelines.errors import UsageError
from pipelines.play.gate import Gate, is_loopback, written
from pipelines.play.mode import Mode
from pipelines.play.protocol import LONGEST
from pipelines.play.session import START, Record, Session
from pipelines.play.source import Start
from pipelines.play.viewers import Viewers

HOST, PORT = "127.0.0.1", 8765

PAGES = {
    "/": ("index.html", "text/html"),
    "/play.js": ("play.js", "text/javascript"),
    "/keys.js": ("keys.js", "text/javascript"),
    "/pictures.js": ("pictures.js", "text/javascript"),
    "/play.css": ("play.css", "text/css"),
    "/icon.svg": ("icon.svg", "image/svg+xml"),
}

LINE = "/live"  # where the websocket is

CONNECTIONS = 64  # at once

GRACE = 2  # seconds in which open lines are closed at the end


class Port:
    """A bound address: `host` as given, `port` as it is (0 finds a free one)."""

    def __init__(self, host: str = HOST, port: int = PORT) -> None:
        """Raises UsageError where it cannot be had."""
        try:
            if not 0 <= port < 2**16:
                raise OverflowError("a port is 0 to 65535")
            family, _, _, _, where = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)[0]
            self.socket = socket.socket(family)
            self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)  # a server that just ended blocks nobody
            self.socket.bind(where)
            self.socket.listen()  # who comes while the model is loaded waits
        except (OSError, OverflowError, UnicodeError) as error:
            raise UsageError(
                f"{written(host)}:{port} cannot be used ({error}): choose another with --host and --port, "
                "or --port 0 for a free one"
            ) from error
        self.host, self.port = host, self.socket.getsockname()[1]

    def url(self, path: str = "/") -> str:
        """An address under which a browser on this machine, or the one that others name, reaches it."""
        host = {"0.0.0.0": socket.gethostname(), "::": socket.gethostname()}.get(self.host, self.host)
        return f"http://{written(host)}:{self.port}{path}"


def application(viewers: Viewers, port: Port, announce: Callable[[str], None] = print) -> ASGIApp:
    """Pages and line, behind the gate, which `announce` tells the addresses with a token in them."""

    @contextlib.asynccontextmanager
    async def life(app: Starlette) -> AsyncIterator[None]:
        viewers.here()
        if viewers.session is not None:
            viewers.session.start()
        yield

    routes: list[Any] = [Route(path, _page, methods=["GET"]) for path in PAGES]
    routes.append(WebSocketRoute(LINE, viewers.serve))
    return Gate(Starlette(routes=routes, lifespan=life), port.host, port.port, lambda path: announce(port.url(path)))


async def _page(request: Request) -> Response:
    name, kind = PAGES[request.url.path]
    return Response(files("pipelines.play").joinpath("page", name).read_bytes(), media_type=kind)


def serve(
    port: Port,
    title: str,
    modes: tuple[str, ...],
    mode: Mode,
    open_mode: Callable[[str, Start], Mode],
    record: Record,
    start: Start = START,
    browser: bool = True,
) -> None:
    """Serve until told to stop, which ends it as every command: KeyboardInterrupt, and 130.

    `mode` is shown first, from `start` on; `open_mode` gives another of `modes` that begins where it is told; `record`
    begins a recording of one. `title` names experiment and game. With `browser` one is opened, where there is one.
    """
    viewers = Viewers(title, modes)
    viewers.session = session = Session(mode, open_mode, record, viewers.spread, start)
    addresses: list[str] = []

    def announce(address: str) -> None:
        addresses.append(address)
        if len(addresses) > 1:
            print(f"For one browser more: {address}", flush=True)

    app = application(viewers, port, announce)
    address = addresses[0] if addresses else port.url()
    config = uvicorn.Config(
        app,
        ws="websockets-sansio",
        ws_max_size=LONGEST,
        ws_max_queue=16,
        ws_per_message_deflate=False,  # pixels on loopback: packing them costs more than sending
        limit_concurrency=CONNECTIONS,
        timeout_graceful_shutdown=GRACE,
        log_level="critical",
        access_log=False,
        server_header=False,
        date_header=False,
    )
    try:
        _Server(config, lambda: _welcome(title, address, port, browser)).run(sockets=[port.socket])
    finally:
        session.stop()


class _Server(uvicorn.Server):
    """Says where it is once it answers."""

    def __init__(self, config: uvicorn.Config, welcome: Callable[[], None]) -> None:
        super().__init__(config)
        self._welcome = welcome

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        """As uvicorn's own."""
        await super().startup(sockets)
        self._welcome()


def _welcome(title: str, address: str, port: Port, browser: bool) -> None:
    print(f"{title}: {address} (Ctrl-C ends it)", flush=True)
    if not is_loopback(port.host):
        print("Whoever has that address can play and watch; it is not encrypted, so use it in a network you trust.")
    if browser:
        threading.Thread(target=_open_browser, args=(address,), name="browser", daemon=True).start()


def _open_browser(address: str) -> None:
    """Open the address, or say that nobody here can: on a server a text browser would take the terminal."""
    screen = sys.platform in ("darwin", "win32") or any(map(os.environ.get, ("DISPLAY", "WAYLAND_DISPLAY", "BROWSER")))
    try:
        opened = bool(screen) and webbrowser.open(address)
    except (webbrowser.Error, OSError):
        opened = False
    if not opened:
        print("No browser is here to open it: open that address yourself, or leave --no-browser there.", flush=True)
