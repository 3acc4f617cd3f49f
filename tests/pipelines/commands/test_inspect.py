"""Commands that look and tidy: unfinished runs, and one damaged artefact or name that stops no other."""

import os
import re
from pathlib import Path

import pytest

from pipelines.cli import run
from tests.pipelines.conftest import TinyRun


def test_gc_lists_unfinished_runs_and_drops_them_on_request(
    tmp_path: Path, capsys: pytest.CaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    house = tmp_path / "home"
    monkeypatch.setenv("WORLDLINE_HOME", str(house))
    monkeypatch.delenv("WORLDLINE_STORAGE", raising=False)
    left = house / "store" / ".scratch" / "scores@Pong@0123456789abcdef"
    left.mkdir(parents=True)
    (left / "episodes.jsonl").write_text("{}\n")
    os.utime(left / "episodes.jsonl", (1e9, 1e9))
    os.utime(left, (1e9, 1e9))
    assert run(["gc", "--yes"]) == 0
    assert re.fullmatch(
        r"scores/Pong/0123456789abcdef: not finished, 0.0 kB, last written \d{4} days ago\n"
        r"1 unfinished runs, 0.0 kB, stay: the same commands go on from them \('worldline gc --unfinished' drops them\)"
        r"\n0 artefacts, 0 leftovers, 0.0 kB removed\n",
        capsys.readouterr().out,
    )
    assert run(["gc", "--unfinished"]) == 0 and left.is_dir()
    assert "0 artefacts, 0 leftovers, 1 unfinished runs, 0.0 kB would be removed (add --yes)" in capsys.readouterr().out
    assert run(["gc", "--unfinished", "--yes"]) == 0 and not left.exists()


def test_what_is_damaged_stops_no_other_and_is_told_at_the_end(
    tiny_copy: TinyRun, capsys: pytest.CaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("WORLDLINE_HOME", str(tiny_copy.home))
    monkeypatch.delenv("WORLDLINE_STORAGE", raising=False)
    scores, store = tiny_copy.made["scores"], tiny_copy.store
    store.point("scores/other-00000000/Breakout", scores.ref)
    damaged = scores.folder.with_name("0" * 16)
    damaged.mkdir()
    (damaged / "manifest.json").write_text("{")
    store.pointer_path("scores/other-00000000/Breakout").write_text("")
    for command in ("list", "games", "gc", "report"):
        assert run([command]) == 1, command
        out, err = capsys.readouterr()
        last = err.splitlines()[-1]
        assert "scores/other-00000000/Breakout failed: " in err or "is not a readable pointer" in last, command
        assert out.count("\n") >= 2 or command == "gc", command
        if command in ("list", "gc"):
            assert f"scores/Breakout/{damaged.name} failed: " in err
