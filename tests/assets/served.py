"""`worldline ui` as tests have it: real processes on a free port of loopback, asked through Dagster's GraphQL."""

import json
import os
import socket
import subprocess
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from pipelines import process
from pipelines.commands.graph import Launch
from tests.fakes import wait_for

PATIENCE = 600  # seconds; a crowded machine is no failure
REPOSITORY = {"repositoryLocationName": "worldline", "repositoryName": "__repository__"}


def free_port() -> int:
    """One that nobody listens on now."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def launched(log: Path, *arguments: str) -> subprocess.Popen[bytes]:
    """A command of the graph, as `worldline` becomes it, in a process group of its own; what it says goes to `log`."""
    command = process.command("assets.launch", *Launch(arguments).arguments, parent=False)
    with log.open("ab") as out:
        return subprocess.Popen(
            command, env=os.environ | process.environment(), stdout=out, stderr=out, start_new_session=True
        )


@contextmanager
def ui(log: Path, port: int) -> Iterator[subprocess.Popen[bytes]]:
    """`worldline ui`, once it answers; whatever happens, it ends with the test."""
    started = launched(log, "ui", "--port", str(port))
    try:
        wait_for(lambda: answers(port), PATIENCE)
        yield started
    finally:
        started.terminate()
        started.wait(PATIENCE)


def answers(port: int) -> bool:
    """Whether the web server is there."""
    try:
        return bool(ask(port, "{ version }"))
    except OSError:
        return False


def ask(port: int, query: str, **variables: object) -> dict[str, Any]:
    """What the web server answers to a query."""
    body = json.dumps({"query": query, "variables": variables}).encode()
    request = urllib.request.Request(f"http://127.0.0.1:{port}/graphql", body, {"Content-Type": "application/json"})
    with urllib.request.urlopen(request, timeout=60) as answer:
        return json.load(answer)  # type: ignore[no-any-return]
