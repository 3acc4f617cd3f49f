"""Dagster's history in a real PostgreSQL, started for the test: first starts side by side, runs, refusals in a line."""

import os
import shutil
import socket
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from assets.instance import template
from tests.fakes import ROOT

pytestmark = pytest.mark.slow

PROGRAMS = sorted(Path("/usr/lib/postgresql").glob("*/bin")) or [
    Path(found).resolve().parent for found in [shutil.which("pg_ctl")] if found
]
BLOCK = "# storage:\n#   postgres:\n#     postgres_url:\n#       env: WORLDLINE_POSTGRES\n"


@dataclass
class Server:
    """A running PostgreSQL with the database `dagster`."""

    folder: Path
    port: int

    @property
    def url(self) -> str:
        return f"postgresql+psycopg2://worldline:verysecret@127.0.0.1:{self.port}/dagster"

    def run(self, program: str, *arguments: str) -> None:
        """As the user that owns the folder: PostgreSQL refuses to be root."""
        command = [str(PROGRAMS[-1] / program), *arguments]
        if os.getuid() == 0:
            command = ["setpriv", "--reuid", "postgres", "--regid", "postgres", "--clear-groups", *command]
        done = subprocess.run(command, cwd="/", capture_output=True, text=True, timeout=60)
        assert done.returncode == 0, done.stderr

    def start(self) -> None:
        options = f"-p {self.port} -k {self.folder} -c listen_addresses=127.0.0.1 -c fsync=off"
        # Its output goes to the file: a pipe that the server inherits would never end.
        self.run(
            "pg_ctl", "-D", str(self.folder / "data"), "-w", "-l", str(self.folder / "log"), "-o", options, "start"
        )

    def stop(self) -> None:
        self.run("pg_ctl", "-D", str(self.folder / "data"), "-m", "immediate", "stop")


@pytest.fixture
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    if not PROGRAMS:
        pytest.skip("no PostgreSQL here")
    folder = Path(f"/tmp/worldline-postgres-{os.getpid()}")  # short, for its socket, and for another user to enter
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(mode=0o755)
    if os.getuid() == 0:
        shutil.chown(folder, "postgres", "postgres")
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    found = Server(folder, port)
    try:
        found.run("initdb", "-D", str(folder / "data"), "-U", "worldline", "-A", "trust", "--no-sync")
        found.start()
        found.run("createdb", "-h", "127.0.0.1", "-p", str(port), "-U", "worldline", "dagster")
        yield found
    finally:
        if (folder / "data" / "postmaster.pid").exists():
            found.stop()
        shutil.rmtree(folder, ignore_errors=True)


@pytest.fixture
def home(tmp_path: Path) -> Path:
    """A home whose dagster.yaml has the block of the template switched on."""
    assert BLOCK in template()
    (tmp_path / "dagster").mkdir()
    switched = template().replace(BLOCK, BLOCK.replace("# ", ""))
    (tmp_path / "dagster" / "dagster.yaml").write_text(switched)
    return tmp_path


def worldline(home: Path, url: str, *arguments: str) -> "subprocess.Popen[str]":
    environment = os.environ | {
        "WORLDLINE_HOME": str(home), "WORLDLINE_POSTGRES": url, "WORLDLINE_STORAGE": "", "PYTHONPATH": str(ROOT),
    }  # fmt: skip
    command = [sys.executable, "-m", "pipelines.cli", *arguments]
    return subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


def test_first_starts_side_by_side_then_runs_and_a_server_that_goes_and_returns(server: Server, home: Path) -> None:
    arguments = ("backfill", "--recipe", "mini", "--games", "Pong", "--until", "replay")
    starts = [worldline(home, server.url, "doctor", "--init"), worldline(home, server.url, *arguments)]
    outcomes = [(process.communicate(timeout=120), process.returncode) for process in starts]
    assert outcomes[1][1] == 0, outcomes
    assert not list((home / "dagster").rglob("*.db")), "nothing of the history is in SQLite"

    server.stop()
    _, told = worldline(home, server.url, *arguments).communicate(timeout=120)
    assert len(told.splitlines()) == 1 and "PostgreSQL" in told and "refuses" in told
    assert "verysecret" not in told and "Traceback" not in told

    server.start()
    again = worldline(home, server.url, *arguments)
    printed, _ = again.communicate(timeout=120)
    assert again.returncode == 0 and "Everything was already there" in printed


def test_a_database_that_is_not_there_is_one_line(server: Server, home: Path) -> None:
    _, told = worldline(home, server.url.replace("/dagster", "/elsewhere"), "doctor", "--init").communicate(timeout=120)
    assert len(told.splitlines()) == 1 and 'database "elsewhere" does not exist' in told and "verysecret" not in told
