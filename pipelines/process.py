"""What every process of ours has in common: one code, how it is told to stop, and that it goes with its parent.

Children start as `python -P -m pipelines.process PARENT MODULE ARGUMENTS`, and `MODULE.main()` runs: with the code of
the one who started them, whatever lies in the working directory. PARENT 0 says that there is none: the process has
taken its starter's place.
"""

import importlib
import io
import os
import signal
import sys
import sysconfig
import threading
import time
from collections.abc import Callable
from pathlib import Path
from types import FrameType
from typing import NoReturn

ROOT = Path(__file__).resolve().parents[1]  # the folder that holds assets, pipelines and models

INTERRUPTED = 130  # what shells report for Ctrl-C

LINE = "Interrupted: what is finished stays, the same command goes on from there."

STOPS = (signal.SIGINT, signal.SIGTERM)

WATCH_SECONDS = 0.5

AGAIN_SECONDS = 0.05  # by then a destructor is over, most likely; else it is told once more


def command(module: str, *arguments: str, parent: bool = True) -> list[str]:
    """The command line of a child of this process, or of what takes its place."""
    whose = os.getpid() if parent else 0
    return [sys.executable, "-P", "-m", "pipelines.process", str(whose), module, *arguments]


def become(line: list[str], environment: dict[str, str]) -> NoReturn:
    """Take this process's place with what `command` gave. Told to stop meanwhile, it is told once it can listen."""
    signal.pthread_sigmask(signal.SIG_BLOCK, STOPS)
    os.execve(line[0], line, environment)


def environment() -> dict[str, str]:
    """What a child's environment needs so that it, and all that it starts, run this code and no other.

    Without it Python would look in the working directory first. Where our own code was found on Python's path (and not
    by its installation), the path says so to children too.
    """
    found = {"PYTHONSAFEPATH": "1"}
    if on_path():
        others = [entry for entry in os.environ.get("PYTHONPATH", "").split(os.pathsep) if entry]
        found["PYTHONPATH"] = os.pathsep.join([str(ROOT), *(entry for entry in others if entry != str(ROOT))])
    return found


def on_path() -> bool:
    """Whether our code was found because its folder is on Python's path, and is no installation's."""
    installed = Path(sysconfig.get_path("purelib")).resolve()
    return installed != ROOT and any(Path(entry).resolve() == ROOT for entry in sys.path)


def stoppable(main: Callable[[], int], quiet: bool = False) -> int:
    """Run `main` and return its exit code: 130 where Ctrl-C or SIGTERM ended it, and one line, but for the `quiet`."""

    def interrupt(number: int, frame: FrameType | None) -> None:
        # Ctrl-C reaches a child twice: from the terminal, and from its parent. Of a person, the second ends at once.
        # No SIG_IGN: Python writes a traceback where a signal comes just before that.
        _on_stop(_unheard if quiet else _at_once)
        raise KeyboardInterrupt

    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")  # a terminal without ± shows \\xb1, and nothing fails

    def again(lost: "sys.UnraisableHookArgs") -> None:
        # Told to stop within a destructor or a weak reference's callback, Python drops the interrupt and goes on.
        if issubclass(lost.exc_type, Exception | SystemExit | GeneratorExit):
            before(lost)
            return
        if signal.getsignal(signal.SIGTERM) in (_unheard, _at_once):
            _on_stop(interrupt)
        threading.Timer(AGAIN_SECONDS, os.kill, (os.getpid(), signal.SIGTERM)).start()

    _on_stop(interrupt)
    before, sys.unraisablehook = sys.unraisablehook, again
    try:
        return main()
    except KeyboardInterrupt:
        if not quiet:
            print(LINE, file=sys.stderr, flush=True)
        return INTERRUPTED
    finally:
        sys.unraisablehook = before


def listen(quiet: bool = False) -> None:
    """Until `stoppable` runs: end at once when told to stop, with the line, but for the `quiet`.

    While libraries load there is nothing to end in order, and some of them make another error of an interrupt.
    """
    _on_stop(_at_once if quiet else _at_once_with_a_line)
    signal.pthread_sigmask(signal.SIG_UNBLOCK, STOPS)


class Told:
    """Whether this process was told to stop, even while a library has the signals in hand, and forgets them.

    Python writes the numbers of signals into a pipe as they come, whoever handles them. In the main thread alone.
    """

    def __enter__(self) -> "Told":
        self._read, self._write = os.pipe()
        for end in (self._read, self._write):
            os.set_blocking(end, False)
        self._before = signal.set_wakeup_fd(self._write, warn_on_full_buffer=False)
        return self

    def __exit__(self, *_: object) -> None:
        signal.set_wakeup_fd(self._before)
        os.close(self._read)
        os.close(self._write)

    def __bool__(self) -> bool:
        try:
            return bool(set(os.read(self._read, 4096)) & set(STOPS))
        except BlockingIOError:
            return False


def leave_with(parent: int) -> None:
    """End this process, at once, when `parent` is not or no longer the one that started it: no child outlives its run.

    What was saved stays, as after any kill. Checked every half second.
    """

    def watch() -> None:
        while os.getppid() == parent:
            time.sleep(WATCH_SECONDS)
        os.kill(os.getpid(), signal.SIGKILL)

    threading.Thread(target=watch, name="leave-with-parent", daemon=True).start()


def _on_stop(handler: Callable[[int, FrameType | None], None]) -> None:
    for each in STOPS:
        if signal.getsignal(each) != signal.SIG_IGN:  # as in a shell's background jobs
            signal.signal(each, handler)


def _unheard(number: int, frame: FrameType | None) -> None:
    pass


def _at_once(number: int, frame: FrameType | None) -> None:
    os._exit(INTERRUPTED)


def _at_once_with_a_line(number: int, frame: FrameType | None) -> None:
    os.write(2, f"{LINE}\n".encode())
    os._exit(INTERRUPTED)


def main() -> int:
    """A child, or what took its starter's place; the starter of a child says what there is to say."""
    parent, module, *arguments = sys.argv[1:]
    quiet = parent != "0"
    listen(quiet)
    if quiet:
        leave_with(int(parent))
    sys.argv = [module, *arguments]
    return stoppable(importlib.import_module(module).main, quiet)


if __name__ == "__main__":
    sys.exit(main())
