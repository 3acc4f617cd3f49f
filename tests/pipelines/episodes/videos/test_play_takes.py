"""Takes played side by side: equal for any number of processes, resumed after a kill, and a failed process speaks."""

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from pipelines.episodes.videos import play_takes
from pipelines.episodes.videos.play_takes import play_all
from pipelines.episodes.videos.scripted import ENDING, Play, Studio, takes_of
from pipelines.errors import UsageError, WorldlineError
from tests import fakes
from tests.pipelines.episodes.videos.made_videos import wandering

PLAY = Play("metaworld_fast", after_success=3, limit=4, least=4, made_with="these")
TAKES = takes_of(["reach", "drawer-close"], ["corner"], 2, (0.1, 0.5), 3)


def played(folder: Path, workers: int, advance: Callable[..., None] = lambda *_, **__: None) -> dict[str, bytes]:
    counted: list[int] = []
    play_all(TAKES, PLAY, folder, workers, advance, counted.append)
    assert counted == [4] * len(TAKES)
    return {path.name: path.read_bytes() for path in sorted(folder.glob(f"*{ENDING}"))}


def test_any_number_of_processes_plays_the_same(tmp_path: Path, metaworld_here: str) -> None:
    one, two = played(tmp_path / "one", 1), played(tmp_path / "two", 2)
    assert one == two and len(one) == 4


def test_what_is_finished_is_not_played_again_and_what_is_damaged_is(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    again: list[str] = []

    def play(self: Studio, take: Any) -> Any:
        again.append(take.name)
        return wandering(4, take.episode), {**vars(take), "return": 0.0, "success": False, "succeeded_at": None}

    monkeypatch.setattr(Studio, "play", play)
    before = played(tmp_path, 1)
    (tmp_path / f"{TAKES[1].name}{ENDING}").write_bytes(b"cut")
    (tmp_path / f"{TAKES[2].name}{ENDING}").unlink()
    again.clear()
    told: list[bool] = []
    assert played(tmp_path, 1, lambda amount=1, note="", held=False: told.append(held)) == before
    assert again == [TAKES[1].name, TAKES[2].name] and told == [True, True, False, False]


def test_too_many_frames_end_all_processes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, metaworld_here: str
) -> None:
    started: list[Any] = []
    popen = play_takes.subprocess.Popen
    monkeypatch.setattr(play_takes.subprocess, "Popen", lambda *a, **k: started.append(popen(*a, **k)) or started[-1])

    def refuse(frames: int) -> None:
        raise UsageError("too many")

    with pytest.raises(UsageError, match="too many"):
        play_all(TAKES, PLAY, tmp_path, 2, lambda *_, **__: None, refuse)
    assert len(started) == 2 and all(child.returncode is not None for child in started)


def test_a_process_that_fails_says_why_in_its_own_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("metaworld")
    monkeypatch.setenv("MUJOCO_GL", "nothing")
    with pytest.raises(WorldlineError, match="MuJoCo cannot draw through nothing"):
        play_all(TAKES, PLAY, tmp_path, 2, lambda *_, **__: None, lambda _: None)


PROGRAM = """
import sys
from pathlib import Path
from pipelines.episodes.videos.play_takes import play_all
from pipelines.episodes.videos.scripted import Play, takes_of
takes = takes_of(["reach", "drawer-close"], ["corner"], 2, (0.1, 0.5), 3)
play_all(takes, Play(**__import__("json").loads(sys.argv[2])), Path(sys.argv[1]), 2, lambda *_, **__: None, print)
"""


def test_a_killed_run_leaves_whole_takes_and_no_process(tmp_path: Path, metaworld_here: str) -> None:
    long = replace(PLAY, limit=15, least=15)
    program = fakes.start(PROGRAM, tmp_path / "killed", json.dumps(vars(long)))
    try:
        fakes.wait_for(lambda: any((tmp_path / "killed").glob(f"*{ENDING}")), timeout=150)
    finally:
        program.kill()
        fakes.finish(program)
    left = {path.name: path.stat().st_mtime_ns for path in (tmp_path / "killed").glob(f"*{ENDING}")}
    for folder in ("killed", "whole"):
        play_all(TAKES, long, tmp_path / folder, 1, lambda *_, **__: None, lambda _: None)
    for name in (f"{take.name}{ENDING}" for take in TAKES):
        assert (tmp_path / "killed" / name).read_bytes() == (tmp_path / "whole" / name).read_bytes()
    now = {name: (tmp_path / "killed" / name).stat().st_mtime_ns for name in left}
    assert left == now and left
