"""The server by a Python page of its line, and as a program that is told to stop."""

import json
import os
import signal
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from contextlib import closing, contextmanager, suppress
from functools import partial

import psutil
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from websockets.exceptions import ConnectionClosed, InvalidStatus
from websockets.sync.client import connect

from pipelines.errors import UsageError
from pipelines.play.protocol import LONGEST
from pipelines.play.server import PAGES, Port
from pipelines.play.viewers import BURST, IN_FLIGHT, MOST, PATIENCE
from tests.fakes import ROOT, wait_for
from tests.pipelines.play.fakes import LENGTHS, NAMES, FakeMode
from tests.pipelines.play.served import Served, page, serving, slow_mode


@pytest.fixture(scope="module")
def served() -> Iterator[Served]:
    with serving() as found:
        yield found


def test_the_files_of_the_page_are_served_with_their_kinds(served: Served) -> None:
    kinds = {}
    for path in PAGES:
        with urllib.request.urlopen(served.port.url(path)) as answer:
            kinds[path] = answer.headers["content-type"].split(";")[0]
            assert answer.headers["content-security-policy"].startswith("default-src 'self'")
            assert len(answer.read()) > 100
    assert kinds == {path: kind for path, (_, kind) in PAGES.items()}


@pytest.mark.parametrize("name", NAMES)
def test_every_mode_is_shown(name: str) -> None:
    with serving() as served, page(served) as one:
        one.send("mode", name=name)
        one.until(lambda: one.state["mode"] == name and one.head.get("mode") == name)
        assert one.state["modes"] == list(NAMES) and one.state["title"] == "fake · Pong"
        assert one.state["asks"] == (name in ("dream", "versus", "game"))
        assert one.state["lengths"] == (list(LENGTHS) if name == "episodes" else None)
        shown = one.pictures
        one.until(lambda: one.pictures > shown + 3)


def test_a_key_moves_what_is_seen() -> None:
    with serving() as served, page(served) as one:
        one.send("press", action=2)
        one.until(lambda: one.head.get("action") == 2)
        one.send("hold", action=None)
        one.until(lambda: one.head["action"] == 0)


def test_two_viewers_see_the_same_and_one_plays() -> None:
    with serving() as served, page(served) as one, page(served) as other:
        one.until(lambda: one.state["viewers"] == 2)
        other.until(lambda: other.state["viewers"] == 2)
        assert (one.state["plays"], other.state["plays"]) == ("you", "another")
        other.send("pause", on=True)
        other.until(lambda: other.notes)
        assert other.notes == ["Another page plays: take the controls first"] and not other.state["paused"]
        other.send("take")
        other.until(lambda: other.state["plays"] == "you")
        one.until(lambda: one.state["plays"] == "another")
        other.send("pause", on=True)
        for each in (one, other):
            each.until(lambda each=each: each.state["paused"])
            each.drain(0.3)
        assert one.head["number"] == other.head["number"]


def test_who_played_is_gone_and_comes_back_to_what_is_shown() -> None:
    with serving() as served:
        with page(served) as watches:
            with page(served) as one:
                one.send("take")
                one.until(lambda: one.state["plays"] == "you")
                one.send("press", action=2)
                one.until(lambda: one.head.get("action") == 2)
            watches.until(lambda: watches.state["plays"] == "nobody")
            watches.until(lambda: watches.head["action"] == 0)  # no key stays down
            with page(served) as again:
                again.until(lambda: again.head)
                assert again.state["plays"] == "you"
        time.sleep(0.2)
        with page(served) as last:
            last.until(lambda: last.head)
            assert last.state["viewers"] == 1 and last.state["plays"] == "you"


def test_a_page_that_draws_nothing_holds_up_nobody() -> None:
    """It gets as many pictures as may be in flight; the model and the other page go on at their pace."""
    with serving() as served, page(served) as one, page(served, slow=True) as slow:
        one.send("speed", value=60)
        one.until(lambda: one.pictures > 60)
        slow.drain(0.5)
        assert slow.pictures == IN_FLIGHT
        newest = one.head["number"]
        slow.send("seen", number=2**31)
        slow.until(lambda: slow.pictures > IN_FLIGHT)
        assert slow.head["number"] >= newest, "the newest, none of those between"


def test_a_page_that_reads_nothing_holds_up_nobody() -> None:
    with serving() as served, page(served) as one:
        with socket.create_connection(("127.0.0.1", served.port.port)) as deaf:
            key = "Sec-WebSocket-Key: x3JJHMbDL1EzLkh9GBhXDw==\r\nSec-WebSocket-Version: 13\r\n"
            host = f"Host: 127.0.0.1:{served.port.port}\r\n"
            deaf.sendall(f"GET /live HTTP/1.1\r\n{host}Upgrade: websocket\r\nConnection: Upgrade\r\n{key}\r\n".encode())
            one.until(lambda: one.state["viewers"] == 2)
            one.send("speed", value=60)
            shown = one.pictures
            one.until(lambda: one.pictures > shown + 60)
        one.until(lambda: one.state["viewers"] == 1)


def test_a_slow_model_plays_the_newest_key() -> None:
    with serving(slow_mode) as served, page(served) as one:
        for action in (1, 2, 3, 4, 5):
            one.send("press", action=action)
        one.until(lambda: one.head.get("action") == 5)
        assert served.opened[0].played[-1] == 5  # type: ignore[attr-defined]
        assert 4 not in served.opened[0].played  # type: ignore[attr-defined]


def test_an_unknown_mode_is_one_line(served: Served) -> None:
    with page(served) as one:
        one.send("take")
        one.send("mode", name="flight")
        one.until(lambda: one.notes)
    assert one.notes[0].startswith("Unknown mode 'flight': choose one of agent, dream")


@settings(max_examples=60)
@given(st.lists(st.text(max_size=LONGEST) | st.binary(max_size=LONGEST), max_size=PATIENCE - 1))
def test_wild_messages_never_harm_the_server(served: Served, messages: list[str | bytes]) -> None:
    with suppress(ConnectionClosed), connect(served.address, proxy=None) as line:
        for message in messages:
            line.send(message)
    with page(served) as one:
        assert one.state["mode"]


@settings(max_examples=30)
@given(st.binary(max_size=300))
def test_wild_bytes_in_place_of_a_protocol_never_harm_the_server(served: Served, raw: bytes) -> None:
    with suppress(OSError), socket.create_connection(("127.0.0.1", served.port.port)) as line:
        line.sendall(raw)
    with page(served) as one:
        assert one.state["mode"]


def close_code(served: Served, *messages: str | bytes) -> int | None:
    """With which code the server closes a line on which these messages came."""
    with connect(served.address, proxy=None) as line:
        try:
            for message in messages:
                line.send(message)
            while True:
                line.recv(20)
        except ConnectionClosed as error:
            return error.rcvd.code if error.rcvd else None


def test_long_many_and_senseless_messages_close_the_line(served: Served) -> None:
    assert close_code(served, "x" * (LONGEST + 1)) == 1009
    assert close_code(served, *["{}"] * PATIENCE) == 1008
    assert close_code(served, *[json.dumps({"do": "seen", "number": 1})] * int(BURST * 2)) == 1008


def test_more_pages_than_there_is_room_for_are_refused(served: Served) -> None:
    # Whoever does not read what it is sent waits 10 seconds for its own close, unless any number may wait unread.
    lines = [connect(served.address, proxy=None, max_queue=None) for _ in range(MOST)]
    try:
        assert close_code(served) == 1013
    finally:
        for line in lines:
            line.close()


def test_a_foreign_page_gets_no_line(served: Served) -> None:
    for headers in ({"Origin": "http://evil.example"}, {"Host": "evil.example"}):
        with pytest.raises(InvalidStatus) as refused, connect(served.address, proxy=None, additional_headers=headers):
            pass
        assert refused.value.response.status_code == 403
    with connect(served.address, proxy=None, origin=f"http://127.0.0.1:{served.port.port}") as line:  # type: ignore[arg-type]
        assert line.recv(20)


def test_a_taken_port_and_a_wild_host_are_one_line() -> None:
    with closing(Port(port=0).socket) as taken:
        taken.listen()
        for host, port in (
            ("127.0.0.1", taken.getsockname()[1]),
            ("203.0.113.7", 0),
            ("127.0.0.1", 70_000),
            ("a b", 0),
        ):
            with pytest.raises(UsageError, match=r"cannot be used \(.*choose another with --host and --port"):
                Port(host, port)


@contextmanager
def program(*arguments: str, **environment: str) -> Iterator[tuple[subprocess.Popen[str], str]]:
    """The fakes as a program of its own, and the address that it printed."""
    command = [sys.executable, "-m", "tests.pipelines.play.fakes", "0", *arguments]
    screenless = {
        name: value for name, value in os.environ.items() if name not in ("DISPLAY", "WAYLAND_DISPLAY", "BROWSER")
    }
    with subprocess.Popen(
        command, cwd=ROOT, env=screenless | environment, text=True, stdout=subprocess.PIPE, stderr=subprocess.PIPE
    ) as process:
        try:
            assert process.stdout is not None
            yield process, process.stdout.readline()
        finally:
            process.kill()


@pytest.mark.parametrize(
    "how",
    [
        pytest.param(signal.SIGINT, marks=pytest.mark.slow),
        pytest.param(signal.SIGTERM, marks=pytest.mark.slow),
        signal.SIGKILL,
    ],
)
def test_whatever_ends_it_nothing_stays(how: signal.Signals) -> None:
    with program() as (process, said):
        address = said.split()[3].replace("http", "ws") + "live"
        assert "fake · Pong: http://127.0.0.1:" in said and "(Ctrl-C ends it)" in said
        with connect(address, proxy=None) as line:
            assert line.recv(20)
            family = [psutil.Process(process.pid), *psutil.Process(process.pid).children(recursive=True)]
            listening = [at.laddr for at in family[0].net_connections() if at.status == "LISTEN"]
            assert [at.ip for at in listening] == ["127.0.0.1"] and len(family) == 1
            process.send_signal(how)
            out, err = process.communicate(timeout=30)
        assert process.returncode == (130 if how != signal.SIGKILL else -signal.SIGKILL)
        assert (out, err.count("\n")) == ("", 1 if how != signal.SIGKILL else 0)
        Port(port=listening[0].port).socket.close()  # free again


def test_without_a_browser_it_says_so() -> None:
    with program("127.0.0.1", "--browser") as (process, _):
        assert process.stdout is not None
        assert process.stdout.readline().startswith("No browser is here to open it")


def test_a_browser_is_given_the_address(tmp_path_factory: pytest.TempPathFactory) -> None:
    folder = tmp_path_factory.mktemp("bin")
    told, fake = folder / "told", folder / "my browser"
    fake.write_text(f'#!/bin/sh\necho "$1" > "{told}"\n')
    fake.chmod(0o755)
    with program("127.0.0.1", "--browser", BROWSER=str(fake)) as (_, said):
        wait_for(lambda: told.is_file() and told.read_text())
        assert told.read_text().strip() == said.split()[3]


def test_other_interfaces_print_a_token() -> None:
    with program("0.0.0.0") as (process, said):
        assert "/?token=" in said
        assert process.stdout is not None
        assert "not encrypted" in process.stdout.readline()
        token = said.split()[3].partition("/?")[2]
        port = said.split()[3].partition("/?")[0].rpartition(":")[2]
        opened = partial(urllib.request.urlopen, timeout=20)
        with pytest.raises(urllib.error.HTTPError, match="403"):
            opened(f"http://127.0.0.1:{port}/")
        jar = urllib.request.build_opener(urllib.request.HTTPCookieProcessor())
        assert jar.open(f"http://127.0.0.1:{port}/?{token}").status == 200
        assert process.stdout.readline().startswith("For one browser more: http://")


def test_no_mode_is_left_open() -> None:
    with serving() as served, page(served) as one:
        one.send("mode", name="game")
        one.until(lambda: one.state["mode"] == "game")
        modes = served.opened
    assert len(modes) == 2 and all(isinstance(each, FakeMode) and each.closed for each in modes)
