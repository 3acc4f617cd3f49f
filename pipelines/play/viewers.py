"""Who watches one session: every open page with a line of its own, one of them playing.

A page says which pictures it has drawn. It is sent the newest one, and at most IN_FLIGHT that it has not drawn yet:
a slow tab sees fewer pictures, and neither the model nor another page waits for it.
"""

import asyncio
import json
import time
from collections import deque
from contextlib import suppress
from dataclasses import asdict

from starlette.websockets import WebSocket, WebSocketDisconnect

from pipelines.play.protocol import BadOrder, Order, read
from pipelines.play.session import Published, Session, State

IN_FLIGHT = 2

MOST = 16  # pages at once

RATE, BURST = 200.0, 400.0  # orders a second that one page may send, and how many at once

PATIENCE = 20  # orders that make no sense, before the line is closed

REFUSED, TOO_MANY = 1008, 1013  # codes of RFC 6455


class Viewer:
    """One page: what waits to be sent to it, and what it has not drawn yet."""

    def __init__(self, line: WebSocket) -> None:
        self.line = line
        self._texts: deque[str] = deque(maxlen=32)
        self._state, self._picture, self._number = "", b"", 0
        self._flying: deque[int] = deque()
        self._wake = asyncio.Event()
        self._left, self._since, self._wild = BURST, time.monotonic(), 0

    def tell(self, state: str = "", note: str = "", picture: bytes = b"", number: int = 0) -> None:
        """Send it soon; a picture or state that still waits is dropped for the newer one."""
        self._state = state or self._state
        if note:
            self._texts.append(note)
        if picture:
            self._picture, self._number = picture, number
        self._wake.set()

    def seen(self, number: int) -> None:
        """Up to this picture all are drawn."""
        while self._flying and self._flying[0] <= number:
            self._flying.popleft()
        self._wake.set()

    async def send(self) -> None:
        """Send what waits, for as long as the page is there."""
        while True:
            await self._wake.wait()
            self._wake.clear()
            if self._state:
                state, self._state = self._state, ""
                await self.line.send_text(state)
            while self._texts:
                await self.line.send_text(self._texts.popleft())
            if self._picture and len(self._flying) < IN_FLIGHT:
                picture, self._picture = self._picture, b""
                self._flying.append(self._number)
                await self.line.send_bytes(picture)

    async def next(self) -> Order | None:
        """The page's next order; None for one that made no sense. Raises WebSocketDisconnect when it is over."""
        message = await self.line.receive()
        if message["type"] == "websocket.disconnect":
            raise WebSocketDisconnect(message.get("code", 1000))
        now = time.monotonic()
        self._left = min(BURST, self._left + RATE * (now - self._since)) - 1
        self._since = now
        if self._left < 0:
            await self._refuse(f"more than {RATE:.0f} orders a second")
        try:
            return read(message.get("text") or "")
        except BadOrder as error:
            self._wild += 1
            if self._wild >= PATIENCE:
                await self._refuse(f"{PATIENCE} orders made no sense")
            self.tell(note=note_of(f"Refused: {error}"))
            return None

    async def _refuse(self, why: str) -> None:
        with suppress(RuntimeError):
            await self.line.close(REFUSED, why)
        raise WebSocketDisconnect(REFUSED, why)


class Viewers:
    """All pages of `session`, in the server's event loop; `spread` is what the session's thread calls."""

    def __init__(self, title: str, modes: tuple[str, ...]) -> None:
        self._title, self._modes = title, modes
        self.session: Session | None = None
        self._pages: list[Viewer] = []
        self._player: Viewer | None = None
        self._state: State | None = None
        self._picture, self._number = b"", 0
        self._loop: asyncio.AbstractEventLoop | None = None

    def here(self) -> None:
        """This event loop is the server's."""
        self._loop = asyncio.get_running_loop()

    def spread(self, what: Published) -> None:
        """From any thread: tell every page, soon."""
        with suppress(RuntimeError):  # the loop is closed: nobody is there to be told
            if self._loop is not None:
                self._loop.call_soon_threadsafe(self._spread, what)

    async def serve(self, line: WebSocket) -> None:
        """One page, from its first word to its last."""
        if len(self._pages) >= MOST:
            await line.accept()
            await line.close(TOO_MANY, f"{MOST} pages watch already")
            return
        await line.accept()
        viewer = Viewer(line)
        self._pages.append(viewer)
        self._player = self._player or viewer
        viewer.tell(picture=self._picture, number=self._number)
        self._changed()
        sending = asyncio.create_task(viewer.send())
        try:
            while True:
                if (order := await viewer.next()) is not None:
                    self._obey(viewer, order)
        except WebSocketDisconnect:
            pass
        finally:
            sending.cancel()
            with suppress(asyncio.CancelledError, Exception):  # a line that broke while it was sent to
                await sending
            self._leave(viewer)

    def _obey(self, viewer: Viewer, order: Order) -> None:
        if order.do == "seen":
            viewer.seen(order["number"])
        elif order.do == "take":
            self._player = viewer
            self._release()
            self._changed()
        elif viewer is not self._player:
            viewer.tell(note=note_of("Another page plays: take the controls first"))
        elif order.do == "mode" and order["name"] not in self._modes:
            viewer.tell(note=note_of(f"Unknown mode '{order['name']}': choose one of {', '.join(self._modes)}"))
        elif self.session is not None:
            self.session.order(order)

    def _leave(self, viewer: Viewer) -> None:
        self._pages.remove(viewer)
        if viewer is self._player:
            self._player = None  # whoever comes back first, or asks, plays
            self._release()
        self._changed()

    def _release(self) -> None:
        if self.session is not None:
            self.session.release()

    def _changed(self) -> None:
        """Pages came, went or play: the session learns how many watch, and each page its part."""
        if self.session is not None:
            self.session.watched(len(self._pages))
        for each in self._pages:
            each.tell(state=self._state_for(each))

    def _spread(self, what: Published) -> None:
        if what.state is not None:
            self._state = what.state
        if what.picture:
            self._picture, self._number = what.picture, what.number
        for each in self._pages:
            each.tell(
                state=self._state_for(each) if what.state is not None else "",
                note=note_of(what.note) if what.note else "",
                picture=what.picture,
                number=what.number,
            )

    def _state_for(self, viewer: Viewer) -> str:
        if self._state is None:
            return ""
        plays = "you" if viewer is self._player else "another" if self._player is not None else "nobody"
        about = {"title": self._title, "modes": self._modes, "viewers": len(self._pages), "plays": plays}
        return json.dumps({"is": "state", **about, **asdict(self._state)})


def note_of(line: str) -> str:
    """A line for people, as the page reads it."""
    return json.dumps({"is": "note", "text": line})
