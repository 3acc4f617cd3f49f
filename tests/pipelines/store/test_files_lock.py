"""Locks across real processes."""

from pathlib import Path

from pipelines.store.files import locked, locked_now
from tests import fakes

HOLD = """
import sys, time
from pathlib import Path
from pipelines.store.files import locked
with locked(Path(sys.argv[1]), shared=sys.argv[2] == "shared"):
    print("held", flush=True)
    time.sleep(60)
"""


def test_alone_excludes_everyone_until_the_holder_is_killed(tmp_path: Path) -> None:
    path = tmp_path / "deep" / "lock"
    holder = fakes.start(HOLD, path, "alone")
    assert holder.stdout is not None and holder.stdout.readline() == "held\n"
    with locked_now(path) as free:
        assert not free
    waited: list[bool] = []

    def on_wait() -> None:
        waited.append(True)
        holder.kill()

    with locked(path, on_wait=on_wait):
        assert waited == [True]
    fakes.finish(holder)


def test_sharers_do_not_wait_for_each_other_but_keep_the_lonely_out(tmp_path: Path) -> None:
    path = tmp_path / "lock"
    holder = fakes.start(HOLD, path, "shared")
    assert holder.stdout is not None and holder.stdout.readline() == "held\n"
    with locked(path, shared=True):
        pass
    with locked_now(path) as free:
        assert not free
    holder.kill()
    fakes.finish(holder)
    with locked_now(path) as free:
        assert free
