"""The fault that strikes `worldline ui`: its daemon dies while one run works and another of the same waits for it.

Dagster's server ends when its daemon does, and everything with it; the next `worldline ui` goes on with what waits.
"""

import json
import socket
import time
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from pipelines.graph import table
from pipelines.tools.bench.fault_home import PATIENCE, Blow, Command, Failed, Home, Missed

LAUNCH = "mutation($run: ExecutionParams!) { launchPipelineExecution(executionParams: $run) { __typename } }"
UNFINISHED = (
    "{ runsOrError(filter: {statuses: [QUEUED, NOT_STARTED, STARTING, STARTED, CANCELING]}) "
    "{ ... on Runs { results { runId status } } } }"
)
CALM = 5.0  # seconds without an unfinished run, after which none is to come


def kill_daemon(home: Home, blow: Blow) -> None:
    """kill -9 of the daemon of `worldline ui`, with a run at work and one that waits; a second UI drains the queue."""
    port = _free_port()
    with _ui(home, port) as server:
        for _ in range(2):
            _launch(home, port)
        home.at_work(server, blow.wait())
        daemons = [each for each in home.left() if "dagster._daemon" in each.cmdline()]
        if len(daemons) != 1:
            raise Failed(f"the UI has {len(daemons)} daemons")
        daemons[0].kill()
        server.end()
    until = time.monotonic() + PATIENCE
    while home.left():
        if time.monotonic() > until:
            raise Failed(f"the UI left {len(home.left())} processes when its daemon died")
        time.sleep(0.1)
    if home.stands():
        raise Missed("it was done already")
    with _ui(home, port):
        _drained(port)
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(("127.0.0.1", port))
        except OSError as error:
            raise Failed(f"port {port} is taken still") from error


def _launch(home: Home, port: int) -> None:
    """Have the server queue a run of the stage, as its page does."""
    row, key = table.stage(home.stage), home.experiment.key
    recipe = home.experiment.recipe
    parts = {"experiment": key, "game": recipe.games[0], "agent": str(recipe.agents[0])}
    dimensions = {name: parts[name] for name in row.per.split()}
    tags = {f"dagster/partition/{name}": part for name, part in dimensions.items()} if len(dimensions) > 1 else {}
    if dimensions:
        tags["dagster/partition"] = "|".join(dimensions[name] for name in sorted(dimensions))
    data = {"ops": {row.name: {"config": {"experiment": key}}}} if row.kind == "data" else {}
    run = {
        "selector": {
            "repositoryLocationName": "worldline",
            "repositoryName": "__repository__",
            "jobName": row.job or row.verb,
        },
        "runConfigData": data,
        "mode": "default",
        "executionMetadata": {"tags": [{"key": name, "value": value} for name, value in tags.items()]},
    }
    answer = _ask(port, LAUNCH, run=run)["data"]["launchPipelineExecution"]["__typename"]
    if answer != "LaunchRunSuccess":
        raise Failed(f"the server did not take the run: {answer}")


def _drained(port: int) -> None:
    """Return once no run is unfinished and none comes any more."""
    until, quiet = time.monotonic() + PATIENCE, time.monotonic()
    while time.monotonic() - quiet < CALM:
        if unfinished := _ask(port, UNFINISHED)["data"]["runsOrError"]["results"]:
            quiet = time.monotonic()
        if time.monotonic() > until:
            raise Failed(f"the second UI did not drain the queue: a run stays {unfinished[0]['status']}")
        time.sleep(0.2)


@contextmanager
def _ui(home: Home, port: int) -> Iterator[Command]:
    """`worldline ui`, once it answers; told to stop at the end, and gone."""
    server = home.start("assets.launch", "ui", "--port", str(port))
    try:
        until = time.monotonic() + PATIENCE
        while not _answers(port):
            if server.ended() or time.monotonic() > until:
                raise Failed(f"the UI did not begin: {server.last()}")
            time.sleep(0.2)
        yield server
    finally:
        server.process.terminate()
        server.end()


def _answers(port: int) -> bool:
    try:
        return "data" in _ask(port, "{ version }")
    except OSError:
        return False


def _ask(port: int, query: str, **variables: Any) -> dict[str, Any]:
    body = json.dumps({"query": query, "variables": variables}).encode()
    request = urllib.request.Request(f"http://127.0.0.1:{port}/graphql", body, {"Content-Type": "application/json"})
    with urllib.request.urlopen(request, timeout=60) as answer:
        found: dict[str, Any] = json.load(answer)
        return found


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port
