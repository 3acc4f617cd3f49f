"""Who is let in: own names, own pages, and on other interfaces who has a token."""

from collections.abc import Iterator
from contextlib import contextmanager

import pytest
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response
from starlette.routing import Route, WebSocketRoute
from starlette.testclient import TestClient
from starlette.websockets import WebSocket, WebSocketDisconnect

from pipelines.play.gate import Gate, is_loopback, written


@contextmanager
def door(host: str, url: str) -> Iterator[tuple[TestClient, list[str]]]:
    """A client at `url` of something behind a gate for `host`, port 8765, and the addresses it announced."""

    async def page(request: Request) -> Response:
        return PlainTextResponse("in")

    async def line(socket: WebSocket) -> None:
        await socket.accept()
        await socket.send_text("in")
        await socket.close()

    announced: list[str] = []
    app = Starlette(routes=[Route("/", page), WebSocketRoute("/live", line)])
    with TestClient(Gate(app, host, 8765, announced.append), base_url=url) as client:
        yield client, announced


def enters(client: TestClient, headers: dict[str, str]) -> bool:
    """Whether the page and the line both let it in; they agree."""
    page = client.get("/", headers=headers, follow_redirects=False).status_code
    assert page in (200, 403)
    line = {"host": client.base_url.netloc.decode(), **headers}
    line.setdefault("cookie", "; ".join(f"{name}={value}" for name, value in client.cookies.items()))
    try:
        with client.websocket_connect("/live", headers=line) as socket:
            assert socket.receive_text() == "in"
    except WebSocketDisconnect as error:
        assert error.code == 1008 and page == 403
        return False
    assert page == 200
    return True


HERE = "http://127.0.0.1:8765"
GOOD_HOSTS = ["127.0.0.1:8765", "localhost:8765", "LOCALHOST:8765", "[::1]:8765"]
BAD_HOSTS = [
    "",
    "127.0.0.1",
    "127.0.0.1:80",
    "evil.example:8765",
    "192.168.0.7:8765",
    "a@127.0.0.1:8765",
    "[::1",
    "x:y",
]
BAD_HOSTS += ["127.0.0.1:8765/a", "127.0.0.1:99999", "localhost.evil.example:8765"]


@pytest.mark.parametrize("host", GOOD_HOSTS)
def test_loopback_answers_to_its_names(host: str) -> None:
    with door("127.0.0.1", HERE) as (client, announced):
        assert enters(client, {"host": host, "origin": f"http://{host}"})
        assert enters(client, {"host": host}), "a program tells no Origin"
        assert not announced


@pytest.mark.parametrize("host", BAD_HOSTS)
def test_a_foreign_host_is_refused(host: str) -> None:
    with door("127.0.0.1", HERE) as (client, _):
        assert not enters(client, {"host": host})


@pytest.mark.parametrize(
    "origin",
    ["null", "http://evil.example", "https://127.0.0.1:8765", "http://127.0.0.1:8766", "http://localhost:8765", ""],
)
def test_a_foreign_origin_is_refused(origin: str) -> None:
    with door("127.0.0.1", HERE) as (client, _):
        assert not enters(client, {"origin": origin})


def test_every_answer_forbids_foreign_scripts_and_frames() -> None:
    with door("127.0.0.1", HERE) as (client, _):
        answers = [
            client.get("/"),
            client.get("/nothing"),
            client.post("/"),
            client.get("/", headers={"origin": "null"}),
        ]
    assert [each.status_code for each in answers] == [200, 404, 405, 403]
    for each in answers:
        policy = each.headers["content-security-policy"]
        assert policy.startswith("default-src 'self'") and "frame-ancestors 'none'" in policy
        assert each.headers["x-content-type-options"] == "nosniff" and each.headers["cache-control"] == "no-store"


@pytest.mark.parametrize("host", ["0.0.0.0", "192.168.0.7"])
def test_other_interfaces_let_each_token_in_once(host: str) -> None:
    with door(host, "http://192.168.0.7:8765") as (client, announced):
        assert not enters(client, {})
        assert client.get("/?token=", follow_redirects=False).status_code == 403
        assert client.get("/?token=%ff%00wrong", follow_redirects=False).status_code == 403
        [address] = announced
        let_in = client.get(address, follow_redirects=False)
        assert let_in.status_code == 303 and let_in.headers["location"] == "/"
        cookie = let_in.headers["set-cookie"].lower()
        assert "httponly" in cookie and "samesite=strict" in cookie
        assert enters(client, {}), "by the cookie, again and again"
        assert enters(client, {})
        assert not enters(client, {"origin": "http://evil.example"}), "whose cookies a browser might send along"
        client.cookies.clear()
        assert client.get(address, follow_redirects=False).status_code == 403, "it is spent"
        assert not enters(client, {"cookie": "worldline-play-8765=wrong"})
        assert not enters(client, {"cookie": 'worldline-play-8765="; bad'})
        assert len(announced) == 2 and announced[1] != address
        assert client.get(announced[1], follow_redirects=False).status_code == 303


def test_a_wildcard_takes_addresses_in_figures_and_no_name_of_strangers() -> None:
    with door("0.0.0.0", "http://10.1.2.3:8765") as (client, announced):
        client.get(announced[0])
        assert enters(client, {})
        cookie = "; ".join(f"{name}={value}" for name, value in client.cookies.items())
        assert not enters(client, {"host": "evil.example:8765", "cookie": cookie})


def test_loopback_is_told_from_the_rest() -> None:
    assert all(map(is_loopback, ("127.0.0.1", "localhost", "::1", "127.1.2.3", "[::1]")))
    assert not any(map(is_loopback, ("0.0.0.0", "::", "192.168.0.7", "example.org", "")))
    assert (written("::1"), written("127.0.0.1")) == ("[::1]", "127.0.0.1")
