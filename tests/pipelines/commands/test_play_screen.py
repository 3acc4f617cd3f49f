"""`worldline play` on a page: the tiny run's checkpoint in every mode, recordings that play again, requests refused."""

import os
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path

import numpy as np
import pytest
from websockets.sync.client import connect

from pipelines.cli import run
from pipelines.store.store import Store
from tests.fakes import ROOT
from tests.pipelines.conftest import TinyRun
from tests.pipelines.play.served import PythonPage

MODES = ("agent", "game", "dream", "dream-agent", "versus", "episodes")


@contextmanager
def screen(ours: TinyRun, *arguments: str) -> Iterator[tuple[subprocess.Popen[str], PythonPage]]:
    """The command as a program of its own, and a page of it."""
    command = [sys.executable, "-m", "pipelines.cli", "play", "tiny", "--port", "0", "--no-browser", *arguments]
    environment = os.environ | {"WORLDLINE_HOME": str(ours.home), "WORLDLINE_STORAGE": ""}
    with subprocess.Popen(command, cwd=ROOT, env=environment, text=True, stdout=subprocess.PIPE) as process:
        try:
            assert process.stdout is not None
            title, *_, address = process.stdout.readline().partition(" (")[0].split()
            assert title == "tiny"
            with connect(address.replace("http", "ws") + "live", proxy=None) as line:
                found = PythonPage(line)
                found.until(lambda: found.state)
                yield process, found
        finally:
            process.kill()


def step(page: PythonPage, action: int) -> None:
    """Press a key, and play one step."""
    shown = page.pictures
    page.send("press", action=action)
    page.send("step")
    page.until(lambda: page.pictures > shown)


@pytest.mark.slow
def test_dreams_that_were_recorded_are_browsed_as_imagined_episodes(
    tiny_copy: TinyRun, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("WORLDLINE_HOME", str(tiny_copy.home))
    assert run(["play", "tiny", "--headless", "--mode", "dream", "--steps", "6", "--seed", "5"]) == 0
    (dream,) = [ref for name, ref in tiny_copy.store.pointers().items() if "/dream-" in name]
    with np.load(tiny_copy.store.open(dream).path("recording.npz")) as kept:
        pictures = kept["pictures_dream"]
    with screen(tiny_copy, "--mode", "episodes") as (_, page):
        assert "imagined" in page.state["sets"]
        page.send("pause", on=True)
        page.send("choose", of="imagined")
        page.until(lambda: page.state["of"] == "imagined" and page.state["paused"])
        page.send("seek", episode=0, step=0)
        page.until(lambda: bool(page.shown) and np.array_equal(page.shown[0], pictures[0]))


@pytest.mark.slow
def test_every_mode_of_a_checkpoint_is_shown_and_what_is_recorded_plays_again(
    tiny_copy: TinyRun, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with screen(tiny_copy) as (process, page):
        assert (page.state["mode"], page.state["modes"]) == ("dream", list(MODES))
        for mode in MODES:
            page.send("mode", name=mode)
            page.until(lambda mode=mode: page.head.get("mode") == mode)
            shown = page.pictures
            page.until(lambda shown=shown: page.pictures > shown + 2)
            assert page.shown and not page.notes
        page.send("seek", episode=0, step=9)
        page.send("pause", on=True)
        page.until(lambda: page.state["paused"])
        page.send("dream", episode=0, step=9)
        page.until(lambda: page.head["mode"] == "dream" and "episode 0, step 9" in page.head["facts"]["from"])
        step(page, 2)
        page.send("record", on=True)
        page.until(lambda: page.state["recording"])
        seen, played = [page.shown[0]], [page.head["action"]]
        for action in (3, 1, 2):
            step(page, action)
            seen.append(page.shown[0])
            played.append(page.head["action"])
        page.send("record", on=False)
        page.until(lambda: page.notes and page.notes[-1].startswith("Kept as "))
        name = page.notes[-1].removeprefix("Kept as ")
        page.send("record", on=True)
        page.send("pause", on=False)
        page.until(lambda: page.state["recording"])
        shown = page.pictures
        page.until(lambda: page.pictures > shown + 3)
        process.send_signal(signal.SIGINT)
        out, _ = process.communicate(timeout=120)
    assert process.returncode == 130 and out.count("Kept as recordings/") == 2
    names = [each for each in tiny_copy.store.pointers() if each.startswith("recordings/")]
    assert len(names) == 2 and name in names, "what was being recorded at the end is kept too"
    kept = tiny_copy.store.open(tiny_copy.store.resolve(name))
    with np.load(kept.path("recording.npz")) as data:
        assert np.array_equal(data["pictures_dream"], np.stack(seen)) and data["actions"].tolist() == [
            -1 if each is None else each for each in played
        ]
    keys = tmp_path / "actions.txt"
    keys.write_bytes(kept.path("actions.txt").read_bytes())
    live = kept.path("recording.npz").read_bytes()
    tiny_copy.store.remove(kept)
    again = ["--mode", "dream", "--episode", "0", "--step", "9", "--steps", "3", "--set"]
    again.append(f"record.skip={kept.manifest.config['skip']}")
    monkeypatch.setenv("WORLDLINE_HOME", str(tiny_copy.home))
    assert run(["play", "tiny", "--headless", *again, "--actions", str(keys), "--out", str(tmp_path / "a.npz")]) == 0
    assert (tmp_path / "a.npz").read_bytes() == live
    assert tiny_copy.store.open(tiny_copy.store.resolve(name)).ref == kept.ref


def test_killed_it_leaves_nothing(tiny_copy: TinyRun) -> None:
    before = sorted(path for path in tiny_copy.home.rglob("*") if path.is_file())
    with screen(tiny_copy) as (process, page):
        page.send("record", on=True)
        page.until(lambda: page.state["recording"] and page.pictures > 5)
        process.kill()
        process.wait(60)
    assert sorted(path for path in tiny_copy.home.rglob("*") if path.is_file()) == before


def test_bad_requests_are_one_line(
    tiny_copy: TinyRun, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("WORLDLINE_HOME", str(tiny_copy.home))
    monkeypatch.delenv("WORLDLINE_STORAGE", raising=False)
    with closing(socket.socket()) as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = str(taken.getsockname()[1])
        for arguments, words in (
            (["--port", port], f"127.0.0.1:{port} cannot be used"),
            (["--host", "203.0.113.7"], "203.0.113.7:8765 cannot be used"),
            (["--out", "film.mp4"], "--out is of play without a screen"),
            (["--actions", "keys.txt"], "--actions is of play without a screen"),
            (["--mode", "drem"], "did you mean 'dream'"),
            (["--port", "0", "--episode", "99"], "Episode 99 is none of the"),
        ):
            assert run(["play", "tiny", "--no-browser", *arguments]) == 2, arguments
            printed = capsys.readouterr()
            assert words in printed.err and printed.err.count("\n") == 1 and not printed.out
    assert Store(tiny_copy.home / "store").pointers()
