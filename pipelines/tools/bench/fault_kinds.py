"""The faults: what is done to a command while it makes a stage. Each returns once its command is over.

They raise Missed where the stage was done before they struck, Untried where they cannot be caused here, and Failed
where the command itself took the fault badly. What must hold afterwards is the same for all (fault_home.py).
"""

import importlib
import os
import signal
import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pipelines import process
from pipelines.graph import table
from pipelines.tools.bench import within
from pipelines.tools.bench.fault_daemon import kill_daemon
from pipelines.tools.bench.fault_home import LINGER, Blow, Failed, Home, Missed, Untried, damage

SPARE = 256 << 20  # bytes of a file system that is not full
LONG = "pretrained"  # works long enough for a second run of it to wait
RANKS = {"WORLDLINE_RANKS": "2"}


def nothing(home: Home, blow: Blow) -> None:
    """The control: no fault."""
    home.make().ends_well("the undisturbed run")


def on_two_ranks(home: Home, blow: Blow) -> None:
    """The control of what trains on two ranks."""
    home.make(**RANKS).ends_well("the undisturbed run")


def kill_worker(home: Home, blow: Blow) -> None:
    """kill -9 of the process that runs the stage."""
    command = home.make()
    home.at_work(command, blow.wait())
    command.kill()
    command.end()
    if home.stands():
        raise Missed("it was done already")


def kill_rank(home: Home, blow: Blow) -> None:
    """kill -9 of one of two ranks; the other has to end too, and the command in one line."""
    command = home.make(**RANKS)
    home.at_work(command, blow.wait())
    ranks = [each for each in home.left() if _environ(each).get("LOCAL_RANK") is not None]
    if not ranks:
        raise Missed("its ranks were over already")
    blow.rng.choice(sorted(ranks, key=lambda each: int(each.pid))).kill()
    if command.end() == 0:
        raise Missed("its ranks were done already")
    command.ends_badly(1, saying="failed:")


def terminate(home: Home, blow: Blow) -> None:
    """SIGTERM, as from a person or a cluster: the command ends in order, and soon."""
    command = home.make()
    home.at_work(command, blow.wait())
    command.kill(signal.SIGTERM)
    told = time.monotonic()
    if command.end() == 0:
        raise Missed("it was done already")
    command.ends_badly(process.INTERRUPTED)
    if (taken := time.monotonic() - told) > LINGER:
        raise Failed(f"SIGTERM was obeyed after {taken:.0f} s")


def power_loss(home: Home, blow: Blow) -> None:
    """Everything dies at once; what was written and not synced may be gone, empty, cut or zeros."""
    told, since = home.folder.parent / "synced", time.time()
    told.unlink(missing_ok=True)
    command = home.make(**within.environment(home.folder.parent / "site", **{within.SYNCED: told}))
    home.at_work(command, blow.wait())
    command.kill()
    while found := home.left():
        for each in found:
            each.kill()
    command.end()
    if home.stands():
        raise Missed("it was done already")
    damage(home, blow.rng, within.synced(told), since)


def full_disk(home: Home, blow: Blow) -> None:
    """A file system with room for a part of what the stage writes; then it has more."""
    with mounted(home) as store:
        taken = os.statvfs(store)
        used = (taken.f_blocks - taken.f_bfree) * taken.f_frsize
        _mount("-o", f"remount,size={used + int(blow.rng.random() * blow.share * blow.room)}", str(store))
        command = home.make()
        if command.end() == 0:
            raise Missed("it fitted")
        command.ends_badly(1, saying="No space left")
        _mount("-o", f"remount,size={SPARE}", str(store))
        home.make().ends_well("the rerun")


def read_only(home: Home, blow: Blow) -> None:
    """A store that may only be read when the command begins (a file system that is written to cannot be remounted)."""
    with mounted(home) as store:
        _mount("-o", "remount,ro", str(store))
        home.make().ends_badly(1, saying="not writable")
        _mount("-o", "remount,rw", str(store))
        home.make().ends_well("the rerun")


def offline(home: Home, blow: Blow) -> None:
    """The bucket stops answering after some requests: one line, and the rerun goes on."""
    blow.server.tell(f"offline {blow.rng.randrange(1, 2 + int(blow.share * 30))}")
    command = home.make()
    code = command.end()
    blow.server.tell("calm")
    if code == 0:
        raise Missed("it had read everything")
    command.ends_badly(1)


def throttled(home: Home, blow: Blow) -> None:
    """The bucket refuses every second request for a while (429): the command waits and ends well."""
    blow.server.tell(f"busy {blow.rng.randrange(10, 40)}")
    try:
        home.make().ends_well("the throttled run")
    finally:
        blow.server.tell("calm")


def clock_back(home: Home, blow: Blow) -> None:
    """The wall clock falls back by more than a day in the middle of the work: the command does not care."""
    turned = home.folder.parent / "turned"
    turned.unlink(missing_ok=True)
    command = home.make(**within.environment(home.folder.parent / "site", **{within.CLOCK: turned}))
    home.at_work(command, blow.wait())
    turned.touch()
    command.ends_well("the run whose clock went back")


def two_users(home: Home, blow: Blow) -> None:
    """Two people ask for the same at the same time: one makes it, the other finds it."""
    first = home.make()
    time.sleep(blow.wait() / 10)
    both = [first, home.make()]
    for command in both:
        command.ends_well("one of two users' runs")
    if (made := sum("1 made, 0 already there." in command.said() for command in both)) != 1:
        raise Failed(f"it was made {made} times for two users")


@contextmanager
def mounted(home: Home) -> Iterator[Path]:
    """The home's store on a file system of its own; afterwards what lies there is put back where it was."""
    if os.geteuid() != 0:
        raise Untried("needs root")
    store, aside = home.folder / "store", home.folder.parent / "aside"
    store.rename(aside)
    store.mkdir()
    if _mount("-t", "tmpfs", "-o", f"size={SPARE}", "tmpfs", str(store), may_fail=True):
        store.rmdir()
        aside.rename(store)
        raise Untried("mount is refused here")
    try:
        subprocess.run(["cp", "-a", f"{aside}/.", str(store)], check=True)
        yield store
        subprocess.run(["rm", "-rf", str(aside)], check=True)
        subprocess.run(["cp", "-a", str(store), str(aside)], check=True)
    finally:
        subprocess.run(["umount", str(store)], check=False, capture_output=True)
    store.rmdir()
    aside.rename(store)


def _mount(*arguments: str, may_fail: bool = False) -> int:
    done = subprocess.run(["mount", *arguments], capture_output=True, text=True)
    if done.returncode and not may_fail:
        raise Failed(f"mount refused ({done.stderr.strip()})")
    return done.returncode


def _environ(each: Any) -> dict[str, str]:
    try:
        return dict(each.environ())
    except importlib.import_module("psutil").Error:
        return {}


def trains(stage: str) -> bool:
    """Whether ranks make it."""
    return stage != table.BOARD and table.stage(stage).trains


def reads_bucket(stage: str) -> bool:
    """Whether it reads the profile's bucket."""
    return stage in ("replay", "trajectories")  # logs are read by the one, frames of them by the other


@dataclass(frozen=True)
class Fault:
    """A column: its head, how it strikes, which stages it concerns.

    `rerun`: the struck command ends without what it was to make, so that it has to be run again. `elsewhere` says why
    it was not tried in the other stages, where it would make sense there.
    """

    head: str
    strike: Callable[[Home, Blow], None]
    concerns: Callable[[str], bool] = lambda stage: True
    rerun: bool = False
    ranks: bool = False
    bucket: bool = False
    elsewhere: str = ""


FAULTS = {
    "none": Fault("no fault", nothing),
    "worker": Fault("kill -9, worker", kill_worker, rerun=True),
    "rank": Fault("kill -9, one of 2 ranks", kill_rank, trains, rerun=True, ranks=True),
    "daemon": Fault(
        "kill -9, daemon",
        kill_daemon,
        lambda stage: stage == LONG,
        rerun=True,
        elsewhere=f"takes minutes, {LONG} stands for all",
    ),
    "sigterm": Fault("SIGTERM", terminate, rerun=True),
    "power": Fault("power loss", power_loss, rerun=True),
    "full": Fault("full disk", full_disk),
    "readonly": Fault("read-only store", read_only),
    "offline": Fault("bucket offline", offline, reads_bucket, rerun=True, bucket=True),
    "throttled": Fault("bucket throttling", throttled, reads_bucket, bucket=True),
    "clock": Fault("clock back 26 h", clock_back),
    "users": Fault("two users", two_users),
}
