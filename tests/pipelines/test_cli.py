"""The command line: help for everyone, and every bad input as one line with the right exit code and no artefact."""

import json
import os
import re
import shutil
from pathlib import Path

import pytest
import typer.main

from pipelines.cli import app, run
from pipelines.sources.dqn_replay.listing import file_name, log_folder
from tests import fakes
from tests.pipelines.conftest import TINY, TinyRun
from tests.pipelines.sources.dqn_replay.toy import write_replay

DATA = ["--recipe", "mini", *(part for change in TINY[:4] for part in ("--set", change))]


@pytest.fixture
def house(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty home."""
    monkeypatch.setenv("WORLDLINE_HOME", str(tmp_path / "home"))
    monkeypatch.delenv("WORLDLINE_STORAGE", raising=False)
    return tmp_path / "home"


@pytest.fixture
def made(house: Path, tiny: TinyRun) -> TinyRun:
    """A home with the tiny run in it."""
    return tiny.copy(house)


def artefacts(home: Path) -> list[Path]:
    """Everything that counts as made, or half made."""
    return sorted([*home.rglob("manifest.json"), *home.glob("store/.partial/*")])


def refused(home: Path, capsys: pytest.CaptureFixture, code: int, arguments: list[str], words: str) -> str:
    """Assert that a command fails as promised; returns its one line."""
    before = artefacts(home)
    assert run(arguments) == code
    printed = capsys.readouterr()
    assert printed.err.count("\n") == 1, printed.err
    assert "Traceback" not in printed.err
    assert "fault of Worldline" not in printed.err
    assert re.search(words, printed.err), printed.err
    assert printed.out == ""
    assert artefacts(home) == before
    return printed.err


# ---- help ----


def _commands(command, path: tuple[str, ...] = ()) -> list[tuple[str, ...]]:
    found = [path]
    for name, child in getattr(command, "commands", {}).items():
        found += _commands(child, (*path, name))
    return found


COMMANDS = _commands(typer.main.get_command(app))
GROUPS = ((), ("recipe",), ("experiment",), ("export",), ("import",), ("bench",), ("videos",))


@pytest.mark.parametrize("path", COMMANDS, ids=" ".join)
def test_every_help_exits_0_with_an_example(path: tuple[str, ...], capsys: pytest.CaptureFixture) -> None:
    assert run([*path, "--help"]) == 0
    printed = capsys.readouterr()
    assert printed.err == ""
    if path not in GROUPS:
        assert f"Example: worldline {' '.join(path)}" in " ".join(printed.out.replace("│", " ").split())


def test_help_imports_nothing_heavy() -> None:
    program = """
import json, sys
from pipelines.cli import run
for path in json.loads(sys.argv[1]):
    assert run([*path, "--help"]) == 0
run(["recipe", "show", "demo"])
print(sorted({"torch", "dagster", "pandas", "matplotlib", "zarr", "fsspec"} & set(sys.modules)))
"""
    code, out, err = fakes.finish(fakes.start(program, json.dumps(COMMANDS)))
    assert (code, out.splitlines()[-1], err) == (0, "[]", "")


def test_every_stage_and_verb_has_its_command() -> None:
    assert {path[0] for path in COMMANDS if path} == {
        "demo", "ui", "pools", "materialize", "backfill", "collect", "fetch", "downsample", "segment", "pretrain",
        "tokenize", "train", "import-jowa", "finetune", "evaluate", "reevaluate", "report", "recipe", "experiment",
        "games", "list", "lineage", "doctor", "gc", "parity", "export", "import", "bench", "forecast", "job",
        "diagnose", "learn", "verify", "automate", "play", "videos", "pretrain-videos",
    }  # fmt: skip


# ---- good usage ----


def test_recipes_and_experiments(house: Path, capsys: pytest.CaptureFixture) -> None:
    assert run(["recipe", "list"]) == 0
    assert run(["experiment", "list"]) == 0
    assert "None yet: worldline experiment new" in capsys.readouterr().out
    assert run(["experiment", "new", "one", "--recipe", "mini", "--set", "seed=4"]) == 0
    key = capsys.readouterr().out.split(":")[0]
    assert run(["experiment", "show", key]) == 0
    assert json.loads(capsys.readouterr().out)["seed"] == 4
    assert run(["experiment", "list"]) == 0
    assert capsys.readouterr().out == f"{key:24} recipe mini, seed 4, Pong\n"


def test_stages_find_what_stands(made: TinyRun, capsys: pytest.CaptureFixture) -> None:
    before = artefacts(made.home)
    for stage in ("collect", "fetch", "downsample", "segment"):
        assert run([stage, *DATA]) == 0
    for stage in ("pretrain", "tokenize", "train", "evaluate"):
        assert run([stage, "tiny"]) == 0
    assert run(["report"]) == 0
    lines = [line for line in capsys.readouterr().out.splitlines() if not line.startswith("  note: ")]
    assert len(lines) == 10
    assert all("already" in line or line.startswith("Open ") for line in lines), lines
    assert artefacts(made.home) == before


def test_looking_around(made: TinyRun, capsys: pytest.CaptureFixture) -> None:
    assert run(["list"]) == 0
    listed = capsys.readouterr().out
    assert all(str(artefact.ref) in listed for artefact in made.made.values())
    assert "(no name)" not in listed
    assert run(["games"]) == 0
    out = capsys.readouterr().out
    assert len(out.splitlines()) >= 61
    assert "Breakout" in out
    name = f"scores/{made.experiment.key}/Breakout"
    assert run(["lineage", name, "--verify"]) == 0
    printed = capsys.readouterr()
    assert made.made["collected_replay"].manifest.roots[0]["rom_md5"] in printed.out
    assert "Verified: 8 artefacts" in printed.err
    assert run(["gc"]) == 0
    assert "0 artefacts, 0 leftovers" in capsys.readouterr().out


# ---- bad usage: exit code 2 ----


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (
            ["collect", "--games", "MsPackman"],
            r"Unknown game 'MsPackman': did you mean 'MsPacman'\? \('worldline games",
        ),
        (["collect", "--games", ","], "--games ',' names no game: give some, such as Pong,Freeway, or leave it out"),
        (["fetch", "--games", "Pong", "--agents", ""], "--agents '' names no agent: give some"),
        (["tokenize", "nothing", "--games", "pongg"], "Unknown experiment"),
        (["collect", "--recipe", "demmo"], r"Unknown recipe 'demmo': did you mean 'demo'\?"),
        (["recipe", "show", "big"], r"Unknown recipe 'big': there are \d+ to choose from \('worldline recipe list'"),
        (["collect", "--set", "collect.step=1"], r"Unknown field 'collect.step': did you mean 'collect.steps'\?"),
        (["collect", "--set", "collect.steps"], "'collect.steps' is no override: write field.path=value"),
        (["collect", "--set", "collect.steps=many"], "'collect.steps=many': the field is a whole number"),
        (["collect", "--set", "train.seed=1"], "has no effect, .*: set the recipe's 'seed' instead"),
        (["collect", "--set", "pretrain.model.width=33"], "Width 33 does not divide"),
        (["collect", "--set", "evaluate.epsilon=nan"], "the field is a number"),
        (["downsample", "--set", "downsample.transitions=0"], "downsample.transitions 0 is impossible"),
        (["collect", "--storage", "clowd"], "Unknown storage profile 'clowd': "),
        (["collect", "--storage", "nowhere.yaml"], "Storage profile 'nowhere.yaml' cannot be read"),
        (["fetch", "--recipe", "mini", "--set", "source=bucket"], "names none: set replay_root in it"),
        (["train", "nothing"], "Unknown experiment 'nothing': none is registered"),
        (["tokenize", "nothing", "--games", "Pong"], "Unknown experiment 'nothing'"),
        (["experiment", "show", "nothing"], "Unknown experiment 'nothing'"),
        (["experiment", "new", "../up", "--recipe", "mini"], "'../up' cannot name part of an artefact"),
        (["report"], "A leaderboard of no scores is impossible: evaluate at least one experiment first"),
        (["backfill", "--games", ""], "--games '' names no game: give some"),
        (["backfill", "--games", "all"], "Backfill is for games of your choice: name them"),
        (["lineage", "../../etc/passwd"], "cannot name part of an artefact"),
        (["parity", "nothing.npz"], "nothing.npz is no readable .npz file"),
        (["colect"], r"No such command 'colect'.*\(see 'worldline --help'\)"),
        (["collect", "--colour"], r"No such option: --colour.*\(see 'worldline collect --help'\)"),
        (["train"], r"Missing argument 'EXPERIMENT'.*\(see 'worldline train --help'\)"),
        (["ui", "--port", "none"], "Invalid value for '--port'"),
        (["ui", "--port", "99999"], "Invalid value for '--port'"),
    ],
    ids=lambda value: "_".join(value) if isinstance(value, list) else "",
)
def test_bad_usage(house: Path, capsys: pytest.CaptureFixture, arguments: list[str], words: str) -> None:
    refused(house, capsys, 2, arguments, words)
    assert not (house / "store").exists()


def test_a_game_that_the_experiment_lacks(made: TinyRun, capsys: pytest.CaptureFixture) -> None:
    words = r"Game 'Pong' is not in recipe 'mini': it has Breakout"
    refused(made.home, capsys, 2, ["tokenize", "tiny", "--games", "Pong"], words)


def test_an_experiment_name_taken_by_another_config(made: TinyRun, capsys: pytest.CaptureFixture) -> None:
    arguments = ["experiment", "new", "tiny", "--recipe", "mini"]
    refused(made.home, capsys, 2, arguments, rf"'tiny' is taken by {made.experiment.key}, whose .*: choose another")
    assert len(list((made.home / "experiments").iterdir())) == 1


# ---- failures: exit code 1 ----


@pytest.mark.parametrize(
    ("command", "missing"),
    [("fetch", "collected_replay"), ("downsample", "replay"), ("segment", "trajectories")],
)
def test_a_data_stage_before_its_parent(house: Path, capsys: pytest.CaptureFixture, command: str, missing: str) -> None:
    verb = {"collected_replay": "collect", "replay": "fetch", "trajectories": "downsample"}[missing]
    words = rf"{missing}/\S+ is not in the store .*: make it first \(worldline {verb} with the same games"
    refused(house, capsys, 1, [command, "--recipe", "mini"], words)


@pytest.mark.parametrize(
    ("command", "missing"),
    [("pretrain", "trajectories"), ("tokenize", "pretrained"), ("train", "pretrained"), ("evaluate", "world_action")],
)
def test_a_learning_stage_before_its_parent(
    house: Path, capsys: pytest.CaptureFixture, command: str, missing: str
) -> None:
    assert run(["experiment", "new", "early", "--recipe", "mini"]) == 0
    capsys.readouterr()
    refused(house, capsys, 1, [command, "early"], rf"{missing}\S+ is not in the store .*: make it first")


def test_a_name_that_leads_nowhere(house: Path, capsys: pytest.CaptureFixture) -> None:
    refused(house, capsys, 1, ["lineage", "scores/demo/Pong"], "is called 'scores/demo/Pong': 'worldline list' prints")


def test_a_home_that_cannot_be_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys) -> None:
    (tmp_path / "file").write_text("in the way")
    home = tmp_path / "file" / "home"
    monkeypatch.setenv("WORLDLINE_HOME", str(home))
    refused(tmp_path, capsys, 1, ["collect", *DATA], "is not writable .*: set WORLDLINE_HOME")
    refused(tmp_path, capsys, 1, ["experiment", "new", "one"], "cannot be written to .*: set WORLDLINE_HOME")


def _flip(path: Path) -> None:
    fakes.flip_byte(path, path.stat().st_size // 2)


def _truncate(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-50])


@pytest.mark.parametrize("damage", [_flip, _truncate, Path.unlink])
def test_a_file_damaged_inside_an_artefact(made: TinyRun, capsys: pytest.CaptureFixture, damage) -> None:
    collected = made.made["collected_replay"]
    path = collected.path(f"{log_folder('Breakout', 1)}/{file_name('reward', 0)}")
    damage(path)
    shutil.rmtree(made.made["replay"].folder)
    error = refused(made.home, capsys, 1, ["fetch", *DATA], rf"{collected.ref} is damaged: .*; delete .* and make it")
    assert path.name in error
    name = f"scores/{made.experiment.key}/Breakout"
    assert run(["lineage", name, "--verify"]) == 1
    assert path.name in capsys.readouterr().err


@pytest.fixture
def bucket(tmp_path: Path, house: Path) -> list[str]:
    """A toy bucket of Pong at tmp_path/bucket, and the options that read it."""
    write_replay(tmp_path / "bucket", [30, 30, 30, 30], game="Pong", actions=6)
    profile = tmp_path / "mine.yaml"
    profile.write_text(f"replay_root: file://{tmp_path / 'bucket'}\n")
    return ["--recipe", "mini", "--storage", str(profile), "--set", "source=bucket"]


def log(tmp_path: Path, kind: str, checkpoint: int = 0) -> Path:
    return tmp_path / "bucket" / log_folder("Pong", 1) / file_name(kind, checkpoint)


def test_a_whole_bucket_is_read(tmp_path: Path, bucket: list[str], capsys: pytest.CaptureFixture) -> None:
    for stage in ("fetch", "downsample", "segment"):
        assert run([stage, *bucket]) == 0
    assert capsys.readouterr().out.count(": made in ") == 3


@pytest.mark.parametrize("kind", ["reward", "action", "terminal", "add_count", "invalid_range", "observation"])
@pytest.mark.parametrize("damage", [_flip, _truncate])
def test_a_damaged_bucket(
    tmp_path: Path, house: Path, bucket: list[str], capsys: pytest.CaptureFixture, damage, kind: str
) -> None:
    path = log(tmp_path, kind)
    damage(path)
    stage = "fetch"
    if kind == "observation":  # of which fetch reads the header alone; whoever reads the frames must notice
        assert run(["fetch", *bucket]) == 0
        capsys.readouterr()
        stage = "downsample"
    assert path.name in refused(house, capsys, 1, [stage, *bucket], ":")


def test_a_checkpoint_that_lacks_a_kind(tmp_path: Path, house: Path, bucket: list[str], capsys) -> None:
    log(tmp_path, "terminal").unlink()
    words = "is missing: checkpoint 0 needs all of .*; fetch that file again or remove"
    assert "terminal" in refused(house, capsys, 1, ["fetch", *bucket], words)


def test_rows_that_disagree(tmp_path: Path, house: Path, bucket: list[str], capsys) -> None:
    write_replay(tmp_path / "other", [90, 90], capacity=70, game="Pong", actions=6)
    other = tmp_path / "other" / log_folder("Pong", 1) / file_name("reward", 0)
    shutil.copy(other, log(tmp_path, "reward"))
    assert run(["fetch", *bucket]) == 0
    out = capsys.readouterr().out
    assert re.search(r"note: lengths_agree, left out, as files disagree in rows: .*", out)


def test_a_bucket_without_the_game(tmp_path: Path, house: Path, bucket: list[str], capsys) -> None:
    words = r"Qbert.* does not exist \(.*/bucket holds Pong\): check the bucket URL, game and agent"
    refused(house, capsys, 1, ["fetch", *bucket, "--games", "Qbert"], words)


# ---- as a real process ----


def _process(*arguments: str) -> tuple[int, str, str]:
    program = "import sys; from pipelines.cli import main; sys.argv[0] = 'worldline'; main()"
    return fakes.finish(fakes.start(program, *arguments))


def test_usage_as_a_process(house: Path) -> None:
    code, out, err = _process("collect", "--games", "MsPackman")
    assert (code, out) == (2, "")
    assert err == "Unknown game 'MsPackman': did you mean 'MsPacman'? ('worldline games' lists all 111)\n"


def test_failure_as_a_process(house: Path) -> None:
    code, out, err = _process("downsample", "--recipe", "mini")
    assert (code, out, err.count("\n")) == (1, "", 1)
    assert "is not in the store" in err


def test_bare_command_as_a_process_shows_help() -> None:
    code, out, err = _process()
    assert (code, err) == (2, "")
    assert "Usage: worldline" in out


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["materialize", "tiny", "--until", "token"], r"Unknown stage 'token': did you mean 'tokens'\?"),
        pytest.param(["materialize", "nothing"], "Unknown experiment 'nothing'", marks=pytest.mark.slow),
    ],
)
def test_bad_usage_of_the_graph(
    made: TinyRun, capfd: pytest.CaptureFixture, monkeypatch: pytest.MonkeyPatch, arguments: list[str], words: str
) -> None:
    """The asset graph runs in a process of its own, whose one line and exit code come through."""
    monkeypatch.chdir(fakes.ROOT)
    refused(made.home, capfd, 2, arguments, words)


def test_a_fault_of_ours_is_one_line_and_a_traceback_on_request(
    house: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture
) -> None:
    def break_down(*_: object) -> None:
        raise RuntimeError("two\nlines")

    monkeypatch.setattr("pipelines.commands.stages.make", break_down)
    assert run(["collect"]) == 1
    assert re.fullmatch(r"RuntimeError: two lines - a fault of Worldline, .*\n", capsys.readouterr().err)
    monkeypatch.setenv("WORLDLINE_DEBUG", "1")
    assert run(["collect"]) == 1
    assert capsys.readouterr().err.startswith("Traceback")


def test_an_interrupt_says_that_nothing_is_lost(
    house: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture
) -> None:
    def interrupt(*_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("pipelines.commands.stages.make", interrupt)
    assert run(["collect"]) == 130
    assert capsys.readouterr().err.startswith("Interrupted: what is finished stays")


@pytest.mark.parametrize(
    "buffer", [0, pytest.param(1 << 20, marks=pytest.mark.slow)], ids=["while-writing", "at-the-end"]
)
def test_a_reader_that_goes_away_is_no_failure(house: Path, buffer: int) -> None:
    """Whether the output breaks off while it is written, or when the last of it is flushed."""
    program = """
import sys, time
from pipelines.cli import main
sys.stdout = open(1, "w", buffering=max(int(sys.argv[1]), 1), closefd=False)
sys.argv = ["worldline", "recipe", "show", "demo"]
time.sleep(0.2)
main()
"""
    process = fakes.start(program, buffer)
    assert process.stdout is not None
    os.close(process.stdout.fileno())
    process.stdout = None
    assert fakes.finish(process)[:3:2] == (0, "")
