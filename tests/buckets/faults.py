"""A proxy on loopback between a client and an emulated bucket that misbehaves by rule, or at random from a seed.

    with FaultProxy(bucket.server.endpoint) as proxy:
        proxy.add(Fault("cut", match="observation", times=2))
        client = Bucket.of(bucket.root_url, bucket.profile(proxy.endpoint))
    assert proxy.struck("cut") == 2

Everything is bounded: a rule strikes `times` answers, a delay lasts `seconds` at most, and closing ends all waits.
"""

import random
import socket
import struct
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from http.client import HTTPConnection, HTTPResponse
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Event, Lock, Thread
from types import TracebackType
from urllib.parse import unquote, urlsplit

from tests.buckets.servers import FOLDER

KINDS = (
    "cut",  # the connection is closed in an orderly way after 35 % of the body
    "reset",  # the same by a TCP reset
    "flip",  # one bit of the body differs
    "short",  # the body ends at 35 %, and Content-Length says that this is all
    "status",  # answers with `status` instead: 500, 503, 429, 403
    "slow",  # the body comes in eight pieces over `seconds`
    "stall",  # 35 % of the body, then nothing for `seconds`, then a reset
    "pass",  # nothing but `act`
)
SHARE = 0.35
LONGEST = 20.0  # seconds
PIECE = 1 << 16
DROPPED = {"connection", "transfer-encoding", "content-length", "keep-alive"}


@dataclass(frozen=True)
class Fault:
    """Strikes `times` answers whose object name contains `match`, after letting `skip` of them pass.

    Answers with an object's bytes, or with `listings` those with names and sizes. `act` is called before the request
    goes to the bucket: replace an object there to have it change between two ranges.
    """

    kind: str
    match: str = ""
    times: int = 1
    skip: int = 0
    status: int = 503
    seconds: float = 1.0
    listings: bool = False
    act: Callable[[], None] | None = None

    def __post_init__(self) -> None:
        if self.kind not in KINDS or not 0 < self.seconds <= LONGEST:
            raise ValueError(f"No such fault: {self}")


@dataclass(frozen=True)
class Weather:
    """Random faults: a share of all answers with bytes, at most `most` for any one range of an object.

    Whether an answer is struck depends on seed, object, range and attempt alone, so no thread's speed changes it.
    """

    share: float
    seed: int
    kinds: tuple[str, ...] = ("cut", "reset", "flip", "short", "status")
    most: int = 2

    def strike(self, name: str, range_: str, attempt: int) -> Fault | None:
        """The fault that hits this answer, if any."""
        rng = random.Random(f"{self.seed} {name} {range_} {attempt}")
        if attempt >= self.most or rng.random() >= self.share:
            return None
        return Fault(rng.choice(self.kinds), status=rng.choice((500, 503, 429)), seconds=0.2)


@dataclass
class Exchange:
    """One request as the proxy saw it: how many body bytes were sent, and what was done to it."""

    name: str
    data: bool
    range: str
    fault: str | None
    sent: int = 0


class FaultProxy:
    """See the head of this file. `log` holds every exchange in the order in which requests came."""

    def __init__(self, upstream: str, weather: Weather | None = None) -> None:
        self.upstream = urlsplit(upstream).netloc
        self.weather = weather
        self.log: list[Exchange] = []
        self._calm = Event()  # ends the waits of faults that were struck before it is set
        self._lock = Lock()
        self._rules: list[list] = []  # [fault, matches so far]
        self._attempts: Counter[tuple[str, str]] = Counter()
        self._server = ThreadingHTTPServer(("127.0.0.1", 0), type("Handler", (_Handler,), {"proxy": self}))
        self.endpoint = f"http://127.0.0.1:{self._server.server_port}"

    def __enter__(self) -> "FaultProxy":
        Thread(target=self._server.serve_forever, args=(0.05,), daemon=True).start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.clear()
        self._server.shutdown()
        self._server.server_close()

    def add(self, *faults: Fault) -> None:
        """Let these strike from now on; of several that would strike an answer the first added does."""
        with self._lock:
            self._rules += [[fault, 0] for fault in faults]

    def clear(self) -> None:
        """No faults any more, delayed answers go on at once, and the log is empty."""
        with self._lock:
            self._calm.set()
            self._calm, self._attempts = Event(), Counter()
            self._rules, self.weather, self.log = [], None, []

    def delay(self, seconds: float) -> None:
        """Wait that long, or until the weather clears."""
        self._calm.wait(seconds)

    def struck(self, kind: str | None = None) -> int:
        """How many answers were hit, by this kind of fault or by any."""
        return sum(exchange.fault is not None and kind in (None, exchange.fault) for exchange in self.log)

    def sent(self, match: str = "") -> int:
        """Bytes of objects sent to the client, of names that contain `match`."""
        return sum(exchange.sent for exchange in self.log if exchange.data and match in exchange.name)

    def receive(self, exchange: Exchange) -> Fault | None:
        """Enter a request into the log and say what is to go wrong with it."""
        with self._lock:
            fault = self._rule_for(exchange)
            if fault is None and self.weather and exchange.data:
                key = (exchange.name, exchange.range)
                fault = self.weather.strike(*key, self._attempts[key])
                self._attempts[key] += 1
            exchange.fault = fault.kind if fault else None
            self.log.append(exchange)
            return fault

    def _rule_for(self, exchange: Exchange) -> Fault | None:
        striking = []
        for rule in self._rules:
            fault = rule[0]
            if fault.listings != exchange.data and fault.match in exchange.name:
                rule[1] += 1
                if fault.skip < rule[1] <= fault.skip + fault.times:
                    striking.append(fault)
        return striking[0] if striking else None


class _Handler(BaseHTTPRequestHandler):
    """One client connection."""

    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True  # head and body leave at once: 40 ms saved per answer
    proxy: FaultProxy

    def do_GET(self) -> None:
        size = int(self.headers.get("Content-Length", 0))
        body = self.rfile.read(size)
        if len(body) < size:  # its client was killed: no store takes half a body
            self.close_connection = True
            return None
        exchange = Exchange(*object_of(self.command, self.path), self.headers.get("Range", ""), None)
        fault = self.proxy.receive(exchange)
        if fault and fault.act:
            fault.act()
        if fault and fault.kind == "status":
            content = b'{"error": {"code": %d, "message": "injected"}}' % fault.status
            content = b"" if self.command == "HEAD" else content
            self._head(fault.status, [("Content-Type", "application/json")], len(content))
            return self._send(exchange, content)
        upstream = HTTPConnection(self.proxy.upstream, timeout=LONGEST)
        try:
            headers = {key: value for key, value in self.headers.items() if key.lower() not in DROPPED}
            upstream.request(self.command, self.path, body or None, headers)
            answer = upstream.getresponse()
            return self._answer(exchange, fault, answer, answer.read())
        finally:
            upstream.close()

    do_HEAD = do_PUT = do_POST = do_DELETE = do_GET

    def log_message(self, format: str, *args: object) -> None:
        """Say nothing."""

    def _answer(self, exchange: Exchange, fault: Fault | None, answer: HTTPResponse, content: bytes) -> None:
        kind, few = fault.kind if fault else "pass", int(len(content) * SHARE)
        headers = [(key, value) for key, value in answer.getheaders() if key.lower() not in DROPPED]
        if kind == "flip" and content:
            at = random.Random(f"{exchange.name} {exchange.range}").randrange(len(content))
            content = content[:at] + bytes([content[at] ^ 1 << at % 8]) + content[at + 1 :]
        elif kind == "short":
            content = content[:few]
        size = int(answer.headers.get("Content-Length", 0)) if self.command == "HEAD" else len(content)
        self._head(answer.status, headers, size)
        if kind in ("cut", "reset", "stall"):
            self._send(exchange, content[:few])
            if kind == "stall" and fault:
                self.proxy.delay(fault.seconds)
            if kind != "cut":
                self.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            self.close_connection = True
        elif kind == "slow" and fault:
            step = max(1, -(-len(content) // 8))
            for start in range(0, len(content), step):
                self.proxy.delay(fault.seconds / 8)
                self._send(exchange, content[start : start + step])
        else:
            self._send(exchange, content)

    def _head(self, status: int, headers: list[tuple[str, str]], size: int) -> None:
        self.send_response_only(status)
        for key, value in [*headers, ("Content-Length", str(size))]:
            self.send_header(key, value)
        self.end_headers()

    def _send(self, exchange: Exchange, content: bytes) -> None:
        """Send, and count before the client can know; a client that goes away is no fault of ours."""
        try:
            for start in range(0, len(content), PIECE):
                exchange.sent += len(content[start : start + PIECE])
                self.wfile.write(content[start : start + PIECE])
        except OSError:
            self.close_connection = True


def object_of(method: str, target: str) -> tuple[str, bool]:
    """The object (or listed prefix) that a request is about, and whether the answer holds the object's bytes."""
    url = urlsplit(target)
    if "/b/" in url.path:  # GCS
        name = unquote(url.path.partition("/b/")[2].partition("/o/")[2])
        data = method == "GET" and bool(name) and "alt=media" in url.query
    else:  # S3, path style
        name = unquote(url.path).lstrip("/").partition("/")[2]
        data = method == "GET" and bool(name)
    return (name or unquote(url.query)).removeprefix(f"{FOLDER}/"), data
