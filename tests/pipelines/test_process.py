"""Real processes: told to stop they end in one line, with their parent they go, wherever they are they run one code."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import psutil
import pytest

from pipelines import process
from tests import fakes
from tests.fakes import ROOT, finish, wait_for

WAITS = """
import sys, time
from pathlib import Path

def main():
    Path(sys.argv[1]).touch()
    time.sleep(60)
"""
LOADS = "import sys; from pathlib import Path; Path(sys.argv[1]).touch(); import time; time.sleep(60)"
TIDIES = """
import sys, time
from pathlib import Path

def main():
    try:
        Path(sys.argv[1]).touch()
        time.sleep(60)
    finally:
        Path(sys.argv[1]).unlink()
        time.sleep(60)
"""
STARTS = """
import subprocess, sys, time
from pipelines import process
subprocess.Popen(process.command("stage", sys.argv[1]))
time.sleep(60)
"""


@pytest.fixture
def path(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder on the path of children, for modules of theirs."""
    folder = tmp_path / "modules"
    folder.mkdir()
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join([str(ROOT), str(folder)]))
    return folder


def start(folder: Path, program: str, flag: Path, parent: bool = False) -> subprocess.Popen[str]:
    """A process of ours that runs `program`, and has made the file `flag` by now."""
    (folder / "stage.py").write_text(program)
    command = process.command("stage", str(flag), parent=parent)
    started = subprocess.Popen(command, text=True, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    wait_for(flag.exists)
    return started


@pytest.mark.parametrize("program", [WAITS, LOADS], ids=["at-work", "while-libraries-load"])
@pytest.mark.parametrize("number", process.STOPS)
def test_told_to_stop_is_one_line(path: Path, tmp_path: Path, number: signal.Signals, program: str) -> None:
    started = start(path, program, tmp_path / "flag")
    started.send_signal(number)
    assert finish(started) == (process.INTERRUPTED, "", f"{process.LINE}\n")


def test_a_child_leaves_the_line_to_its_parent(path: Path, tmp_path: Path) -> None:
    started = start(path, WAITS, tmp_path / "flag", parent=True)
    started.send_signal(signal.SIGINT)
    assert finish(started) == (process.INTERRUPTED, "", "")


@pytest.mark.parametrize("parent", [False, True], ids=["a-person", "terminal-and-parent"])
def test_told_twice(path: Path, tmp_path: Path, parent: bool) -> None:
    """A person's second Ctrl-C ends at once; a child, which hears each one twice, still tidies up."""
    flag = tmp_path / "flag"
    started = start(path, TIDIES, flag, parent)
    started.send_signal(signal.SIGINT)
    wait_for(lambda: not flag.exists())
    started.send_signal(signal.SIGINT)
    if parent:
        with pytest.raises(subprocess.TimeoutExpired):
            started.wait(0.5)
        started.kill()
    code, out, err = finish(started)
    assert (code, out, err) == (-signal.SIGKILL if parent else process.INTERRUPTED, "", "")


def test_ctrl_c_while_the_command_line_loads_is_one_line(path: Path, tmp_path: Path) -> None:
    """As `worldline`'s script, whose first import is ours; typer and rich take their time on a busy machine."""
    (path / "typer.py").write_text(f"import time; open({str(tmp_path / 'flag')!r}, 'w').close(); time.sleep(60)")
    script = tmp_path / "worldline"
    script.write_text(f"import sys; sys.path.insert(0, {str(path)!r}); from pipelines.cli import main; main()")
    started = subprocess.Popen([sys.executable, script], text=True, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    wait_for((tmp_path / "flag").exists)
    started.send_signal(signal.SIGINT)
    assert finish(started) == (process.INTERRUPTED, "", f"{process.LINE}\n")


def test_told_before_it_can_listen(path: Path, tmp_path: Path) -> None:
    """What takes another's place hears what came while Python started."""
    (path / "stage.py").write_text(WAITS)
    program = "import os, sys; from pipelines import process; "
    program += "process.become(process.command('stage', sys.argv[1], parent=False), dict(os.environ))"
    started = subprocess.Popen(
        [sys.executable, "-c", program, str(tmp_path / "flag")], text=True, stderr=subprocess.PIPE
    )
    taken = psutil.Process(started.pid)
    wait_for(lambda: "pipelines.process" in taken.cmdline())
    started.send_signal(signal.SIGTERM)
    assert finish(started)[::2] == (process.INTERRUPTED, f"{process.LINE}\n")


def test_a_child_goes_with_its_parent(path: Path, tmp_path: Path) -> None:
    (path / "stage.py").write_text(WAITS)
    parent = subprocess.Popen([sys.executable, "-c", STARTS, str(tmp_path / "flag")])
    wait_for((tmp_path / "flag").exists)
    [child] = psutil.Process(parent.pid).children()
    parent.kill()
    parent.wait()
    wait_for(lambda: not child.is_running() or child.status() == psutil.STATUS_ZOMBIE, 10)


def test_a_child_whose_parent_is_gone_already_goes_at_once(path: Path, tmp_path: Path) -> None:
    (path / "stage.py").write_text(WAITS)
    command = process.command("stage", str(tmp_path / "flag"))
    command[command.index(str(os.getpid()))] = str(os.getppid())  # as if its starter had died and left it to us
    assert subprocess.run(command, timeout=30).returncode == -signal.SIGKILL


def test_a_stop_that_a_library_swallows_is_known() -> None:
    before = signal.signal(signal.SIGINT, lambda *_: None)
    try:
        with process.Told() as told:
            assert not told
            os.kill(os.getpid(), signal.SIGINT)
            time.sleep(0)  # the handler runs between two instructions
            assert told
    finally:
        signal.signal(signal.SIGINT, before)


TELLING = """
import subprocess, sys
import yaml
from pipelines import process

def main():
    print(process.ROOT, yaml.__file__.startswith(sys.argv[1]))
    if len(sys.argv) == 3:
        return
    sys.stdout.flush()
    files = "import yaml, pipelines; print(pipelines.__file__, yaml.__file__)"
    subprocess.run([sys.executable, "-c", files], check=True)
    return subprocess.run([*process.command("stage"), sys.argv[1], "no more"]).returncode
"""


def test_what_lies_in_the_working_directory_changes_nothing(
    path: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    here = tmp_path / "here"
    (here / "pipelines").mkdir(parents=True)
    for name in ("yaml.py", "dagster.py", "torch.py", "stage.py", "pipelines/__init__.py"):
        (here / name).write_text("raise SystemExit('a stranger')")
    (path / "stage.py").write_text(TELLING)
    environment = os.environ | process.environment()
    done = subprocess.run(
        process.command("stage", str(here)), cwd=here, env=environment, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    first, second, third = done.stdout.splitlines()
    assert first == third == f"{ROOT} False"
    assert second.startswith(str(ROOT)) and str(here) not in second


def test_a_terminal_that_lacks_a_character_shows_its_code_and_nothing_fails() -> None:
    program = "import sys; from pipelines import process; sys.exit(process.stoppable(lambda: print('21 \\xb1 3')))"
    environment = os.environ | {"PYTHONIOENCODING": "ascii"}
    ran = subprocess.run([sys.executable, "-c", program], cwd=ROOT, env=environment, capture_output=True, text=True)
    assert (ran.returncode, ran.stdout, ran.stderr) == (0, "21 \\xb1 3\n", "")


SWALLOWED = """
import os, signal, sys, time
from pipelines import process

class Late:
    def __del__(self):
        os.kill(os.getpid(), signal.SIGTERM)
        time.sleep(0.01)

def main():
    late = Late()
    del late
    try:
        time.sleep(60)
    finally:
        print("in order")

sys.exit(process.stoppable(main, sys.argv[1] == "quiet"))
"""


@pytest.mark.parametrize("how", ["loud", "quiet"])
def test_an_interrupt_that_python_swallows_in_a_destructor_is_told_again(how: str) -> None:
    code, out, err = finish(fakes.start(SWALLOWED, how), timeout=30)
    assert (code, out) == (process.INTERRUPTED, "in order\n")
    assert err == (f"{process.LINE}\n" if how == "loud" else "")
