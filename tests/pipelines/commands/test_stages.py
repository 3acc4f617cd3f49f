"""The commands of the data stages over a toy bucket; one game that fails stops no other."""

import re
import shutil
from pathlib import Path

import pytest

from pipelines.cli import run
from tests.pipelines.sources.dqn_replay.toy import write_replay


def test_jowas_own_download(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture) -> None:
    """Four kinds of files, no add_count: refused with the way out, which every stage behind takes as well."""
    monkeypatch.setenv("WORLDLINE_HOME", str(tmp_path / "home"))
    write_replay(tmp_path / "whole", [30] * 9, game="Pong", actions=6)
    not_there = shutil.ignore_patterns("add_count*", "invalid_range*", "*.0.gz")
    shutil.copytree(tmp_path / "whole", tmp_path / "bucket", ignore=not_there)
    profile = tmp_path / "mine.yaml"
    profile.write_text(f"replay_root: file://{tmp_path / 'bucket'}\n")
    bucket = ["--recipe", "mini", "--storage", str(profile), "--set", "source=bucket"]
    assert run(["fetch", *bucket]) == 1
    assert re.search(r"add_count_ckpt.1.gz is missing.* \(--set fetch.compat=jowa\)\n$", capsys.readouterr().err)
    for stage in ("fetch", "downsample", "segment"):
        assert run([stage, *bucket, "--set", "fetch.compat=jowa"]) == 0
    assert re.search(r"note: add_count, not there for logs 1, 2, 3", capsys.readouterr().out)
    assert run(["fetch", "--plan", *bucket, "--set", "fetch.compat=jowa"]) == 0


def test_published_scores_are_printed_without_a_store(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture
) -> None:
    monkeypatch.setenv("WORLDLINE_HOME", str(tmp_path / "home"))
    assert run(["report", "--published"]) == 0
    lines = capsys.readouterr().out.splitlines()
    (storm,) = (line for line in lines if "STORM" in line)
    assert " no " in storm and "Median HNS 0.584 published, 0.425 recomputed" in storm
    assert "Reproduced from its raw seeds" in lines[0] and not (tmp_path / "home").exists()


def test_games_that_are_not_there_stop_no_other(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture
) -> None:
    monkeypatch.setenv("WORLDLINE_HOME", str(tmp_path / "home"))
    write_replay(tmp_path / "bucket", [90, 90, 90], capacity=100, game="Pong", actions=6)
    profile = tmp_path / "here.yaml"
    profile.write_text(f"replay_root: file://{tmp_path}/bucket\n")
    bucket = ["--storage", str(profile), "--agents", "1", "--set", "downsample.transitions=100"]
    assert run(["fetch", *bucket, "--games", "enduro, PONG, ALE/Qbert-v5"]) == 1
    printed = capsys.readouterr()
    assert printed.out.startswith("replay/Pong/1/")
    assert [line.split(": ")[0] for line in printed.err.splitlines()] == ["Enduro/1 failed", "Qbert/1 failed"]
    assert run(["downsample", *bucket, "--games", "Enduro,Pong"]) == 1
    printed = capsys.readouterr()
    assert printed.out.startswith("trajectories/Pong/") and printed.err.startswith("Enduro failed: ")
    assert len([*(tmp_path / "home").rglob("manifest.json")]) == 2
