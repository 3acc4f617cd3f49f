"""The launcher refuses bad requests in one line, with the exit code that says whose fault it is."""

import os
import pty
import re
import resource
import select
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable

import psutil
import pytest

from assets.launch import main
from pipelines import process
from pipelines.errors import UsageError
from pipelines.graph.backfill import choose
from pipelines.graph.config_io import override
from pipelines.graph.experiment import register
from pipelines.graph.plan import Plan
from pipelines.home import dagster_home, home
from pipelines.recipes.registry import recipe
from tests.fakes import ROOT, finish, wait_for
from tests.pipelines.conftest import TinyRun, tiny, tiny_copy  # noqa: F401 -- fixtures

pytestmark = pytest.mark.usefixtures("ready_home")


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
        (
            ("scores", "pretrained", ["Boxing"]),
            "--games Boxing does not narrow pretrained, which is of all games of the experiment at once (Boxing, "
            "Freeway): leave --games out",
        ),
        (("scores", "leaderboard", ["Boxing"]), "--games Boxing does not narrow leaderboard"),
    ],
    ids=str,
)
def test_what_cannot_be_chosen(arguments: tuple[object, ...], said: str) -> None:
    with pytest.raises(UsageError, match=re.escape(said)):
        _steps(*arguments)


def test_errors_are_one_line_and_exit_with_their_code(capsys: pytest.CaptureFixture[str]) -> None:
    until = ["--until", "tokens"]
    for arguments, said in [
        (["materialize", "--experiment", "demo"], "Unknown experiment 'demo'"),
        (["backfill", *until, "--recipe", "dem", "--games", "Pong"], "Unknown recipe 'dem'"),
        (
            ["backfill", *until, "--games", "MsPackman"],
            "Unknown game 'MsPackman': did you mean 'MsPacman'?",
        ),
        (["backfill", "--games", "Pong", "--until", "token"], "Unknown stage 'token': did you mean 'tokens'?"),
        (["backfill", *until, "--experiment", "demo", "--games", "Pong"], "Unknown experiment 'demo'"),
        (["backfill", *until, "--games", "Pong", "--set", "seed"], "'seed' is no override"),
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


@pytest.mark.slow
def test_a_game_that_fails_stops_those_steps_alone_that_are_made_from_it(capfd: pytest.CaptureFixture[str]) -> None:
    (home() / "store").mkdir(parents=True)
    (home() / "store" / "collected_replay").mkdir()
    (home() / "store" / "collected_replay" / "Enduro").write_text("in the way")
    small = ["--set", "collect.steps=400", "--set", "collect.capacity=100", "--set", "downsample.transitions=50"]
    arguments = ["backfill", "--recipe", "mini", "--games", "enduro, BREAKOUT", "--until", "segments", *small]
    assert main(arguments) == 1
    out, err = capfd.readouterr()
    [logs] = (home() / "logs").iterdir()
    assert err.startswith("collected_replay/Enduro failed: ") and err.count("\n") == 1
    assert err.endswith(f"(log: {logs / 'Enduro.log'})\n")
    assert "/8] collected_replay/Enduro failed" in out and "/8] segments/Breakout" in out
    rows = [line.split() for line in out.splitlines() if line.rstrip().endswith(".log")]
    failed, waits = [row for row in rows if row[0] == "Enduro"][:2]
    assert failed[1:3] == ["collected_replay", "failed"]
    assert waits[1:6] == ["replay", "1", "waits", "for", "collected_replay/Enduro"]
    assert sum(row[0] == "Breakout" and "made" in row and row[-1] == "Breakout.log" for row in rows) == 4
    assert out.splitlines()[-1] == "4 made, 0 already there, 3 wait for what failed."
    assert main([*arguments, "--missing-only"]) == 1, "what stands is left out, what failed is tried again"
    assert capfd.readouterr().out.splitlines()[-1] == "0 made, 0 already there, 3 wait for what failed."


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


@pytest.mark.slow
def test_a_disk_that_fills_while_a_step_runs_is_one_line() -> None:
    """Dagster's logger would print the SQL and its values, and the step's failure the stack of all that."""
    asked = [sys.executable, "-m", "assets.launch", "backfill", "--recipe", "mini", "--games", "Pong"]
    asked += ["--until", "collected_replay", "--set", "collect.steps=600"]
    assert main(["init"]) == 0

    def full_disk() -> None:
        signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
        # The index is there already; what the run's own events need is not.
        resource.setrlimit(resource.RLIMIT_FSIZE, (limit, limit))

    limit = max(path.stat().st_size for path in dagster_home().rglob("*.db")) + 6_000
    done = subprocess.run(asked, preexec_fn=full_disk, capture_output=True, text=True)
    assert done.returncode == 1
    assert done.stderr.startswith("collected_replay/Pong failed: Dagster's history in ") and "disk" in done.stderr
    assert done.stderr.count("\n") == 1
    [log] = home().glob("logs/*/Pong.log")  # of the process that made the step
    assert log.read_text().splitlines()[-1].startswith("Dagster's history in ") and "INSERT" not in log.read_text()
    assert main(asked[3:]) == 0, "the same command again"


def test_a_damaged_history_is_one_line(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["init"]) == 0
    (home() / "dagster" / "history" / "runs.db").write_text("no database")
    capsys.readouterr()
    assert main(["backfill", "--recipe", "mini", "--games", "Pong", "--until", "segments"]) == 1
    out, err = capsys.readouterr()
    assert "is damaged (file is not a database): move that folder away, then worldline doctor --rebuild" in err
    assert err.count("\n") == 1 and not out


def test_an_error_that_nobody_foresaw_is_one_line(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def break_down() -> None:
        raise RuntimeError("two\nlines")

    monkeypatch.setattr("assets.launch.open_instance", break_down)
    assert main(["init"]) == 1
    assert capsys.readouterr().err.startswith("RuntimeError: two lines - a fault of Worldline, please report it")
    monkeypatch.setenv("WORLDLINE_DEBUG", "1")
    assert main(["init"]) == 1
    assert capsys.readouterr().err.startswith("Traceback")


@pytest.mark.slow
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


def in_a_terminal(command: list[str], ready: Callable[[], bool]) -> tuple[int, str]:
    """Run a command in a terminal of its own and press Ctrl-C once it is `ready`; its exit code and what it shows."""
    child, terminal = pty.fork()
    if child == 0:
        os.execv(command[0], command)
    shown, pressed, until = b"", False, time.monotonic() + 240
    while time.monotonic() < until:
        if select.select([terminal], [], [], 0.1)[0]:
            try:
                shown += os.read(terminal, 65_536)
            except OSError:  # everybody who could write there is gone
                break
        if not pressed and ready():
            pressed = bool(os.write(terminal, b"\x03"))
    code = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    return code, shown.decode(errors="replace").replace("\r", "")


@pytest.mark.slow
@pytest.mark.timeout(600)
@pytest.mark.parametrize("ranks", [1, 2])
def test_ctrl_c_in_a_terminal_is_one_line(
    tiny_copy: TinyRun,  # noqa: F811
    monkeypatch: pytest.MonkeyPatch,
    ranks: int,
) -> None:
    """The terminal tells every process at once: the launcher, the child that trains, Dagster's helpers."""
    monkeypatch.setenv("WORLDLINE_HOME", str(tiny_copy.home))
    monkeypatch.setenv("WORLDLINE_RANKS", str(ranks))
    monkeypatch.setenv("PYTHONPATH", str(ROOT))
    changed = tiny_copy.experiment.recipe
    for change in ("phases.world_action.steps=4000", "loop.save_seconds=0", "loop.log_every=1"):
        changed = override(changed, f"train.{change}")
    key = register(tiny_copy.home / "experiments", "long", changed).key
    command = [sys.executable, "-m", "pipelines.cli", "materialize", key, "--only", "world_action_model"]
    code, shown = in_a_terminal(command, lambda: bool(list(tiny_copy.home.rglob(".scratch/*/state.pt"))))
    assert code == process.INTERRUPTED, shown
    assert [line.removeprefix("^C") for line in shown.splitlines()] == [process.LINE]


@pytest.mark.slow
@pytest.mark.parametrize("number", process.STOPS)
def test_a_command_of_data_told_to_stop_ends_at_once_with_all_its_helpers(number: signal.Signals) -> None:
    asked = ["backfill", "--recipe", "mini", "--games", "Pong", "--until", "collected_replay"]
    command = process.command("assets.launch", *asked, "--set", "collect.steps=3000000", parent=False)
    started = subprocess.Popen(command, text=True, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    locks = dagster_home() / "processes"
    wait_for(lambda: locks.is_dir() and bool(list(locks.iterdir())), 120)
    helpers = psutil.Process(started.pid).children(recursive=True)
    started.send_signal(number)
    assert finish(started, 120) == (process.INTERRUPTED, "", f"{process.LINE}\n")
    wait_for(lambda: not any(each.is_running() and each.status() != psutil.STATUS_ZOMBIE for each in helpers))
