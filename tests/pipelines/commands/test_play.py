"""`worldline play --headless`: films of every mode, equal bytes for equal seeds, and bad requests in one line."""

import zipfile
from pathlib import Path

import cv2
import numpy as np
import pytest

from pipelines.cli import run
from tests.pipelines.conftest import TinyRun

SHORT = ("--headless", "--steps", "3")


@pytest.fixture
def ours(tiny_copy: TinyRun, monkeypatch: pytest.MonkeyPatch) -> TinyRun:
    monkeypatch.setenv("WORLDLINE_HOME", str(tiny_copy.home))
    monkeypatch.delenv("WORLDLINE_STORAGE", raising=False)
    return tiny_copy


def test_a_dream_is_a_film_an_artefact_and_has_a_name(ours: TinyRun, capsys: pytest.CaptureFixture) -> None:
    out = ours.home / "films" / "film.mp4"
    assert run(["play", "tiny", *SHORT, "--out", str(out)]) == 0
    assert cv2.VideoCapture(str(out)).get(cv2.CAP_PROP_FRAME_COUNT) == 4
    (name,) = [name for name in ours.store.pointers() if name.startswith("recordings/")]
    assert name.startswith(f"recordings/{ours.experiment.key}/Breakout/dream-")
    manifest = ours.store.open(ours.store.resolve(name)).manifest
    assert [entry.ref for entry in manifest.parents] == [str(ours.made["world_action_model"].ref)]
    assert f"Written      {out}" in capsys.readouterr().out
    assert run(["lineage", name]) == 0 and run(["gc"]) == 0
    assert ours.store.open(ours.store.resolve(name)).manifest == manifest, "its name keeps it"


def test_a_seed_repeats_a_film_to_the_byte(ours: TinyRun) -> None:
    found = {}
    for number, seed in enumerate(["3", "3", "4"]):
        out = ours.home / f"{number}.npz"
        remake = ["--set", "record.max_steps=0"] if number == 0 else ["--set", "record.max_steps=9"]
        asked = ["--episode", "0", "--step", "5", "--sample", "--seed", seed, *remake, "--out", str(out)]
        assert run(["play", "tiny", *SHORT, *asked]) == 0
        found[number] = out.read_bytes()
    assert found[0] == found[1] != found[2], "two artefacts, of which nothing differs that is seen"
    assert zipfile.is_zipfile(ours.home / "0.npz")


def test_settings_come_from_the_recipe_and_from_the_command(ours: TinyRun, tmp_path: Path) -> None:
    keys = tmp_path / "keys.txt"
    keys.write_text("LEFT RIGHT")
    asked = ["--mode", "game", "--actions", str(keys), "--protocol", "machado", "--set", "record.context=1"]
    assert run(["play", "tiny", "--game", "breakout", *SHORT, *asked, "--out", str(tmp_path / "a.npz")]) == 0
    with np.load(tmp_path / "a.npz") as data:
        assert data["actions"].tolist() == [-1, 3, 2, 0]
    (name,) = [name for name in ours.store.pointers() if name.startswith("recordings/")]
    config = ours.store.open(ours.store.resolve(name)).manifest.config
    assert (config["protocol"], config["context"], config["epsilon"]) == ("sticky", 1, 0.001)


def refused(capsys: pytest.CaptureFixture, code: int, words: str, *arguments: str) -> None:
    assert run(["play", *arguments]) == code
    printed = capsys.readouterr()
    assert words in printed.err and printed.err.count("\n") == 1 and "Traceback" not in printed.err
    assert not printed.out


def test_a_file_that_is_there_is_replaced_only_where_that_is_said(
    ours: TinyRun, capsys: pytest.CaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    out, asked = ours.home / "a.npz", ["tiny", *SHORT, "--sample", "--out", str(ours.home / "a.npz")]
    assert run(["play", *asked]) == 0
    first = out.read_bytes()
    assert run(["play", *asked]) == 0 and out.read_bytes() == first, "it is the same recording"
    named = ours.store.pointers()
    capsys.readouterr()
    refused(capsys, 2, "a.npz is there, and not this recording: add --overwrite", *asked, "--seed", "9")
    assert out.read_bytes() == first and ours.store.pointers() == named, "nothing was played"
    assert run(["play", *asked, "--seed", "9", "--overwrite"]) == 0
    assert out.read_bytes() != first
    monkeypatch.setattr("pipelines.evaluation.film.CODEC", "zzzz")
    monkeypatch.setattr("pipelines.evaluation.film.ffmpeg", lambda: "")
    (ours.home / "b.webp").write_bytes(b"mine")
    assert run(["play", "tiny", *SHORT, "--seed", "5", "--out", str(ours.home / "b.mp4")]) == 2
    assert "b.webp is there, and not this recording" in capsys.readouterr().err
    assert (ours.home / "b.webp").read_bytes() == b"mine"


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["nobody", *SHORT], "Unknown experiment 'nobody'"),
        (["tiny", *SHORT, "--game", "Pong"], "Game 'Pong' is not in recipe 'mini': it has Breakout"),
        (["tiny", *SHORT, "--game", "Brakeout"], "did you mean 'Breakout'"),
        (["tiny", *SHORT, "--mode", "drem"], "did you mean 'dream'"),
        (
            ["tiny", *SHORT, "--planner", "actor"],
            "cannot play by actor: choose from greedy, beam, mcts, gumbel, rollouts",
        ),
        (["tiny", *SHORT, "--protocol", "iris"], "sees frames of 84x84 grey, Breakout under 'iris' shows 64x64 RGB"),
        (["tiny", *SHORT, "--episode", "99"], "Episode 99 is none of the 1 recorded ones: give 0 to 0"),
        (["tiny", *SHORT, "--episode", "0", "--step", "9999"], "of recorded episode 0: give 0 to"),
        (["tiny", *SHORT, "--mode", "versus", "--episode", "0"], "No emulator can stand in a recorded episode"),
        (["tiny", *SHORT, "--of", "dreams"], "Unknown kind of episodes 'dreams': choose one of evaluated, recorded"),
        (["tiny", *SHORT, "--actions", "/nowhere"], "/nowhere cannot be read (No such file or directory)"),
        (["tiny", *SHORT, "--set", "record.nix=1"], "nix"),
        (["tiny", *SHORT, "--out", "film.avi"], "film.avi is neither a film.mp4 nor a recording.npz"),
        (["tiny", "--headless", "--steps", "0"], "record.steps"),
        (["tiny", "--set", "record.steps=3"], "--set record.steps is of play without a screen: say --headless"),
        (["tiny", "--steps", "3"], "--steps is of play without a screen: say --headless"),
        (["tiny", *SHORT, "--host", "0.0.0.0"], "--host is of the page, and --headless shows none: leave one of both"),
        (["tiny", *SHORT, "--port", "0"], "--port is of the page"),
        (["tiny", *SHORT, "--no-browser"], "--no-browser is of the page"),
        (["tiny", *SHORT, "--overwrite"], "--overwrite replaces what stands at --out: name it"),
    ],
)
def test_bad_requests_are_one_line(
    ours: TinyRun, capsys: pytest.CaptureFixture, arguments: list[str], words: str
) -> None:
    refused(capsys, 2, words, *arguments)
    assert not [name for name in ours.store.pointers() if name.startswith("recordings/")]


def test_illegal_actions_are_one_line(ours: TinyRun, capsys: pytest.CaptureFixture, tmp_path: Path) -> None:
    keys = tmp_path / "keys.txt"
    keys.write_text("LEFT UP")
    refused(
        capsys, 2, "has 'UP' as action 1, which is none of Breakout's: choose", "tiny", *SHORT, "--actions", str(keys)
    )


def test_without_a_checkpoint_nothing_plays(ours: TinyRun, capsys: pytest.CaptureFixture) -> None:
    assert run(["experiment", "new", "fresh", "--recipe", "mini", "--set", "seed=3"]) == 0
    capsys.readouterr()
    refused(capsys, 1, "Experiment 'fresh' has no checkpoint of Pong yet: make it first", "fresh", *SHORT)


def test_without_an_encoder_the_animation_stands_in_place_of_the_film(
    ours: TinyRun, capsys: pytest.CaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("pipelines.evaluation.film.CODEC", "zzzz")
    monkeypatch.setattr("pipelines.evaluation.film.ffmpeg", lambda: "")
    monkeypatch.delenv("WORLDLINE_QUIET")
    assert run(["play", "tiny", *SHORT, "--out", str(ours.home / "film.mp4")]) == 0
    assert "No encoder of mp4 is here (pip install 'worldline[film]' brings one)" in capsys.readouterr().err
    assert not (ours.home / "film.mp4").exists() and (ours.home / "film.webp").read_bytes()[:4] == b"RIFF"
