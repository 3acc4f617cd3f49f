"""Who may talk to the server: pages that it served itself, under a name that is its own, with the key where one is due.

A page of another site must not reach a server on this machine: a browser tells its Origin, and a name that a stranger
made point here (DNS rebinding) is no name of ours. Bound to another interface than loopback, every visitor needs a
token from an address that was printed: it opens the door once, for a cookie, and the next one is printed.
"""

import ipaddress
import secrets
import socket
from collections.abc import Callable
from urllib.parse import parse_qs, urlsplit

from starlette.datastructures import Headers
from starlette.requests import cookie_parser
from starlette.responses import PlainTextResponse, RedirectResponse, Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

HEADERS = {
    "content-security-policy": "default-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'",
    "cross-origin-opener-policy": "same-origin",
    "cross-origin-resource-policy": "same-origin",
    "referrer-policy": "no-referrer",
    "x-content-type-options": "nosniff",
    "cache-control": "no-store",
}


def is_loopback(host: str) -> bool:
    """Whether only this machine reaches what is bound to `host`."""
    try:
        return ipaddress.ip_address(host.strip("[]")).is_loopback
    except ValueError:
        return host == "localhost"


def written(host: str) -> str:
    """A host as it stands in an address: IPv6 in brackets."""
    return f"[{host}]" if ":" in host else host


class Gate:
    """In front of the pages and the line. `announce` is told the path of every new token, `/?token=...`."""

    def __init__(self, app: ASGIApp, host: str, port: int, announce: Callable[[str], None] = print) -> None:
        self._app, self._port, self._announce = app, port, announce
        self._open = is_loopback(host)
        self._anywhere = host in ("0.0.0.0", "::")
        names = {"localhost", "127.0.0.1", "::1", host}
        if not self._open:
            names |= {socket.gethostname(), socket.getfqdn()}
        self._names = {name.lower() for name in names}
        self._key, self._token = secrets.token_urlsafe(24), ""
        self._cookie = f"worldline-play-{port}"  # cookies know no ports
        if not self._open:
            self.invite()

    def invite(self) -> None:
        """Make a token that opens the door once, and tell its address; the one before opens nothing any more."""
        self._token = secrets.token_urlsafe(24)
        self._announce(f"/?token={self._token}")

    @property
    def token(self) -> str:
        """The token that opens the door now; empty where none is needed."""
        return self._token

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer what is refused, hand on the rest; every answer of HTTP carries the headers."""
        if scope["type"] == "lifespan":
            await self._app(scope, receive, send)
            return
        refused = self._refusal(scope)
        if scope["type"] == "websocket":
            if refused is None:
                await self._app(scope, receive, send)
            else:
                await receive()
                await send({"type": "websocket.close", "code": 1008})  # before it is accepted: HTTP 403
            return

        async def send_with_headers(message: Message) -> None:
            if message["type"] == "http.response.start":
                more = [(name.encode(), value.encode()) for name, value in HEADERS.items()]
                message["headers"] = [*message.get("headers", []), *more]
            await send(message)

        await (refused or self._app)(scope, receive, send_with_headers)

    def _refusal(self, scope: Scope) -> Response | None:
        headers = Headers(scope=scope)
        if len(headers.getlist("host")) != 1 or not self._ours(headers["host"]):
            return PlainTextResponse("This server answers to its own address alone.\n", 403)
        ours = f"http://{headers['host'].lower()}"
        if any(origin.lower() != ours for origin in headers.getlist("origin")):  # programs tell none, browsers one
            return PlainTextResponse("Only a page from this server may ask it.\n", 403)
        if self._open or self._has_key(headers.get("cookie", "")):
            return None
        given = parse_qs(scope.get("query_string", b"").decode("latin-1")).get("token", [""])[0]
        if scope["type"] == "http" and secrets.compare_digest(given.encode(), self._token.encode()):
            self.invite()
            inside = RedirectResponse("/", 303)  # the token leaves the address bar, the history, and is spent
            inside.set_cookie(self._cookie, self._key, httponly=True, samesite="strict", path="/")
            return inside
        line = "Open the newest address that 'worldline play' printed: each lets one browser in.\n"
        return PlainTextResponse(line, 403)

    def _ours(self, given: str) -> bool:
        """Whether a Host header names this server. An address in figures cannot be rebound, so a wildcard takes all."""
        try:
            found = urlsplit(f"//{given}")
            host, port = (found.hostname or "").lower(), found.port or 80
        except ValueError:
            return False
        if port != self._port or found.netloc != given or "@" in given:
            return False
        return host in self._names or (self._anywhere and _figures(host))

    def _has_key(self, header: str) -> bool:
        found = cookie_parser(header).get(self._cookie)  # others' cookies on this host may be anything
        return found is not None and secrets.compare_digest(found.encode(), self._key.encode())


def _figures(host: str) -> bool:
    try:
        ipaddress.ip_address(host)
    except ValueError:
        return False
    return True
