"""The guard beside the UI: real processes that carry its mark end with the one that it watches, and no others."""

import os
import signal
import subprocess
import sys
from pathlib import Path

import psutil
import pytest

from assets import guard
from tests.fakes import start, wait_for

# A server with a guard, a child in a session of its own, and one of these that is deaf to SIGTERM.
SERVER = """
import os, signal, subprocess, sys, time
subprocess.Popen([sys.executable, "-m", "assets.guard", str(os.getpid()), os.environ["WORLDLINE_UI"]],
                 start_new_session=True)
deaf = "import signal, time; signal.signal(signal.SIGTERM, signal.SIG_IGN); time.sleep(60)"
child = f"import subprocess, sys, time; subprocess.Popen([sys.executable, '-c', {deaf!r}]); time.sleep(60)"
subprocess.Popen([sys.executable, "-c", child], start_new_session=True)
time.sleep(60)
"""


@pytest.mark.slow  # the guard is patient for 20 s with who is deaf to SIGTERM
def test_what_is_marked_ends_with_the_server(monkeypatch: pytest.MonkeyPatch) -> None:
    stranger = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(60)"])
    monkeypatch.setenv(guard.MARK, "some-mark")
    server = start(SERVER)
    try:
        wait_for(lambda: len(guard.family("some-mark")) == 4)
        watching = psutil.Process(server.pid).children()
        os.kill(watching[0].pid, signal.SIGINT)  # as Ctrl-C would, in the same session
        for each in watching[1].children():  # it cannot be had in peace, and the guard is patient
            wait_for(lambda each=each: "SIG_IGN" in " ".join(each.cmdline()))  # type: ignore[misc]
        monkeypatch.setattr(guard, "PATIENCE", 0.5)
        server.kill()
        server.communicate()
        wait_for(lambda: len(guard.family("some-mark")) <= 2)
        guard.end("some-mark")
        assert guard.family("some-mark") == []
        assert stranger.poll() is None
    finally:
        stranger.kill()
        stranger.wait()
        server.kill()


def test_a_guard_whose_server_is_gone_already_ends_what_is_left(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(guard.MARK, "another-mark")
    left = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(60)"])
    gone = subprocess.Popen([sys.executable, "-c", ""])
    gone.wait()
    subprocess.run([sys.executable, "-m", "assets.guard", str(gone.pid), "another-mark"], check=True, timeout=30)
    assert left.wait(10) == -signal.SIGTERM
