"""Commands that look and tidy: unfinished runs, and one damaged artefact or name that stops no other."""

import os
import re
from pathlib import Path

import pytest

from pipelines.cli import run
from pipelines.commands.graph import Launch
from pipelines.commands.inspect import gc
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


def test_artefacts_go_by_short_names_too(
    tiny_copy: TinyRun, capsys: pytest.CaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("WORLDLINE_HOME", str(tiny_copy.home))
    monkeypatch.delenv("WORLDLINE_STORAGE", raising=False)
    key, scores = tiny_copy.experiment.key, tiny_copy.made["scores"].ref
    for name in (f"scores/{key}/Breakout", "scores/tiny/Breakout", "scores/tiny/breakout", "/scores/TINY/Breakout/"):
        assert run(["lineage", name, "--json"]) == 0, name
        assert str(scores) in capsys.readouterr().out, name
    assert run(["lineage", str(scores)]) == 0
    assert run(["lineage", "scores/tiny/Breakuot"]) == 1
    assert f"did you mean 'scores/{key}/Breakout'?" in capsys.readouterr().err
    tiny_copy.store.point("scores/other-00000000/Breakout", scores)
    tiny_copy.store.point("scores/other-11111111/Breakout", scores)
    assert run(["lineage", "scores/other/Breakout"]) == 2
    assert "are 2 artefacts: give one of scores/other-00000000/Breakout" in capsys.readouterr().err


def test_list_takes_what_it_shows(
    tiny_copy: TinyRun, capsys: pytest.CaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("WORLDLINE_HOME", str(tiny_copy.home))
    monkeypatch.delenv("WORLDLINE_STORAGE", raising=False)
    for name, stages in (("scores/tiny", {"scores"}), ("tokens", {"tokens"}), ("", {*tiny_copy.made})):
        assert run(["list", *([name] if name else [])]) == 0
        assert {line.split("/")[0] for line in capsys.readouterr().out.splitlines()} == stages
    assert run(["list", "tokns"]) == 2
    assert "Unknown name 'tokns': did you mean 'tokens'?" in capsys.readouterr().err


def test_lineage_goes_out_as_documents(
    tiny: TinyRun, tmp_path: Path, capsys: pytest.CaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("WORLDLINE_HOME", str(tiny.home))
    monkeypatch.delenv("WORLDLINE_STORAGE", raising=False)
    ask = ["lineage", str(tiny.made["tokens"].ref), "--to"]
    for form in ("openlineage", "prov"):
        capsys.readouterr()
        assert run([*ask, form]) == 0
        printed = capsys.readouterr().out
        assert run([*ask, form, "--out", str(tmp_path / form)]) == 0
        assert (tmp_path / form).read_text() == printed and str(tiny.made["trajectories"].ref) in printed
    assert run([*ask, "ro-crate", "--out", str(tmp_path / "crate")]) == 0
    assert (tmp_path / "crate" / "lineage" / str(tiny.made["replay"].ref) / "manifest.json").is_file()
    capsys.readouterr()
    for wrong, said in (
        ([*ask, "ro-crate"], "add --out DIR"),
        ([*ask, "prof"], "did you mean 'prov'"),
        ([*ask, "prov", "--json"], "one at a time"),
        ([*ask[:2], "--json", "--html", str(tmp_path / "page.html")], "page.html draws it: ask for one at a time"),
        ([*ask, "prov", "--out", str(tmp_path / "prov")], "add --overwrite"),
        ([*ask[:2], "--out", "x"], "add --to openlineage"),
    ):
        assert run(wrong) == 2
        err = capsys.readouterr().err
        assert said in err and err.count("\n") == 1
    assert not (tmp_path / "page.html").exists()


def test_old_runs_are_for_the_process_that_knows_dagster() -> None:
    assert gc(runs_older_than=90) == Launch(("forget", "--days", "90"))
    assert gc(runs_older_than=0, yes=True) == Launch(("forget", "--days", "0", "--yes"))
