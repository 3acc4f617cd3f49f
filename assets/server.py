"""`worldline ui`: Dagster's web server and daemon, one of each for a home, and nothing of them left behind.

This process holds a lock and becomes `dagster dev`. A guard beside it ends what is left once it is gone, whatever ended
it: Dagster's servers do not notice that, and wait for runs that nobody sees any more.
"""

import fcntl
import json
import os
import socket
import subprocess
import sys
import uuid
from pathlib import Path
from typing import NoReturn

import yaml

from assets.guard import MARK
from assets.instance import open_instance
from assets.runner import Runner
from pipelines import process
from pipelines.errors import UsageError, WorldlineError
from pipelines.home import UI_LOCK, dagster_home, server

WORKSPACE = "workspace.yaml"


def serve(port: int) -> NoReturn:
    """Become Dagster's server on 127.0.0.1. Raises UsageError for a port that is taken.

    Raises WorldlineError where this home has a server already.
    """
    url = f"http://127.0.0.1:{port}"
    with open_instance() as instance:
        held = lock(url)
        try:
            _try(port)
            Runner.register_all(instance)
        except BaseException:
            os.close(held)
            raise
    mark = uuid.uuid4().hex
    environment = os.environ | process.environment() | {MARK: mark}
    # In a session of its own: what ends all of our process group must not end the one that clears up behind it.
    guard = [sys.executable, "-P", "-m", "assets.guard", str(os.getpid()), mark]
    subprocess.Popen(guard, env=environment, start_new_session=True)
    print(f"Dagster's UI: {url} (Ctrl-C ends it)", flush=True)
    # Dagster advertises `dg dev`, which is not installed here.
    command = [sys.executable, "-W", "ignore:Function `dev_command`", "-P", "-m", "dagster", "dev"]
    command += ["-w", str(workspace()), "-h", "127.0.0.1", "-p", str(port), "--log-level", "warning"]
    os.execve(sys.executable, command, environment)


def lock(url: str) -> int:
    """Hold this home's lock for as long as this process lives, whatever it becomes, and write there where it serves.

    Returns the handle that holds it. Raises WorldlineError where another process holds it, with its address.
    """
    handle = os.open(dagster_home() / UI_LOCK, os.O_RDWR | os.O_CREAT, 0o644)
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        os.close(handle)
        raise WorldlineError(
            f"The UI of {dagster_home()} is there already, {server()}: use that, or end it first; with a second daemon "
            "every run would start twice"
        ) from None
    os.set_inheritable(handle, True)  # through exec; what Dagster starts does not inherit it
    os.ftruncate(handle, 0)
    os.write(handle, json.dumps({"url": url, "process": os.getpid()}).encode())
    return handle


def workspace() -> Path:
    """The file that tells Dagster which code to load: what runs here, and nothing from the working directory."""
    path = dagster_home() / WORKSPACE
    # Dagster looks in this folder first. Where our code lies on Python's path, it must be that one.
    first = process.ROOT if process.on_path() else dagster_home()
    module = {"module_name": "assets.definitions", "location_name": "worldline", "working_directory": str(first)}
    path.write_text(yaml.safe_dump({"load_from": [{"python_module": module}]}), encoding="utf-8")
    return path


def _try(port: int) -> None:
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)  # a server that just ended blocks nobody
        try:
            probe.bind(("127.0.0.1", port))
        except (OSError, OverflowError) as error:
            raise UsageError(f"Port {port} cannot be used ({error}): choose another with --port") from error
