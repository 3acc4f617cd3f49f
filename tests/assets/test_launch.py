"""The launcher refuses bad requests in one line, with the exit code that says whose fault it is."""

import resource
import signal
import socket
import subprocess
import sys
from pathlib import Path

import pytest

from assets.launch import choose, main
from pipelines.errors import UsageError
from pipelines.graph.experiment import register
from pipelines.graph.plan import Plan
from pipelines.home import home
from pipelines.recipes.registry import recipe


@pytest.fixture(autouse=True)
def _home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WORLDLINE_HOME", str(tmp_path / "home"))
    monkeypatch.setenv("DAGSTER_HOME", "set by open_instance")
    monkeypatch.delenv("WORLDLINE_STORAGE", raising=False)


def _steps(*arguments: object) -> list[str]:
    return [str(step) for step in choose(Plan(recipe("demo")), *arguments)]  # type: ignore[arg-type]


def test_scores_bring_the_leaderboard() -> None:
    assert _steps("scores")[-3:] == ["scores/Boxing", "scores/Freeway", "leaderboard"]
    assert _steps("leaderboard") == _steps("scores")
    assert _steps("world_action_model")[-1] == "world_action_model"


def test_one_stage_and_some_games() -> None:
    assert _steps("scores", "tokens") == ["tokens/Boxing", "tokens/Freeway"]
    assert _steps("segments", "replay", ["Freeway"]) == ["replay/Freeway/1", "replay/Freeway/2"]
    assert _steps("scores", "leaderboard") == ["leaderboard"]


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("score",), "Unknown stage 'score': did you mean 'scores'?"),
        (("scores", "token"), "Unknown stage 'token': did you mean 'tokens'?"),
        (("scores", None, ["Pong"]), "Unknown game of this experiment 'Pong'"),
        (("segments", "tokens"), "stage 'tokens' does not come before 'segments'"),
    ],
    ids=str,
)
def test_what_cannot_be_chosen(arguments: tuple[object, ...], said: str) -> None:
    with pytest.raises(UsageError, match=said.replace("?", r"\?")):
        _steps(*arguments)


def test_errors_are_one_line_and_exit_with_their_code(capsys: pytest.CaptureFixture[str]) -> None:
    for arguments, said in [
        (["materialize", "--experiment", "demo"], "Unknown experiment 'demo'"),
        (["backfill", "--recipe", "dem", "--games", "Pong"], "Unknown recipe 'dem'"),
        (["backfill", "--games", "MsPackman"], "Unknown game 'MsPackman': did you mean 'MsPacman'?"),
        (["backfill", "--games", "Pong", "--until", "tokens"], "Unknown data stage 'tokens'"),
        (["backfill", "--games", "Pong", "--set", "seed"], "'seed' is no override"),
    ]:
        assert main(arguments) == 2, arguments
        out, err = capsys.readouterr()
        assert err.startswith(said)
        assert err.count("\n") == 1
        assert not out


def test_a_failure_is_one_line(capfd: pytest.CaptureFixture[str]) -> None:
    experiment = register(home() / "experiments", "mini", recipe("mini"))
    assert main(["materialize", "--experiment", experiment.key, "--until", "segments", "--only", "segments"]) == 1
    out, err = capfd.readouterr()
    assert err.startswith("segments/Pong failed: trajectories/Pong/")
    assert "is not in the store" in err
    assert err.count("\n") == 1, "nothing of Dagster's own log"
    assert out.splitlines() == ["[1/1] segments/Pong failed", "0 made, 0 already there."]


def test_a_game_that_fails_stops_those_steps_alone_that_are_made_from_it(capfd: pytest.CaptureFixture[str]) -> None:
    (home() / "store").mkdir(parents=True)
    (home() / "store" / "collected_replay").mkdir()
    (home() / "store" / "collected_replay" / "Enduro").write_text("in the way")
    small = ["--set", "collect.steps=400", "--set", "collect.capacity=100", "--set", "downsample.transitions=50"]
    arguments = ["backfill", "--recipe", "mini", "--games", "enduro, BREAKOUT", "--until", "segments", *small]
    assert main(arguments) == 1
    out, err = capfd.readouterr()
    assert err.startswith("collected_replay/Enduro failed: ") and err.count("\n") == 1
    assert "[1/8] collected_replay/Enduro failed" in out and "[8/8] segments/Breakout" in out
    assert out.splitlines()[-1] == "4 made, 0 already there, 3 wait for what failed."


def test_without_a_score_the_leaderboard_waits(capfd: pytest.CaptureFixture[str]) -> None:
    (home() / "store").mkdir(parents=True)
    (home() / "store" / "collected_replay").write_text("in the way")
    experiment = register(home() / "experiments", "mini", recipe("mini"))
    assert main(["materialize", "--experiment", experiment.key]) == 1
    out, err = capfd.readouterr()
    assert err.startswith("collected_replay/Pong failed: ") and err.count("\n") == 1
    assert out.splitlines()[-1] == "0 made, 0 already there, 8 wait for what failed."


def test_a_taken_port_is_one_line(capsys: pytest.CaptureFixture[str]) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        assert main(["ui", "--port", str(taken.getsockname()[1])]) == 2
    assert "cannot be used" in capsys.readouterr().err
    assert main(["ui", "--port", "99999"]) == 2


def test_a_full_disk_under_dagsters_history_is_one_line() -> None:
    def full_disk() -> None:
        signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
        resource.setrlimit(resource.RLIMIT_FSIZE, (20_000, 20_000))

    done = subprocess.run(
        [sys.executable, "-m", "assets.launch", "init"], preexec_fn=full_disk, capture_output=True, text=True
    )
    assert done.returncode == 1
    assert done.stderr.startswith("Dagster's history in ")
    assert done.stderr.count("\n") == 1
    assert main(["init"]) == 0, "the half-made home must not be in the way"
