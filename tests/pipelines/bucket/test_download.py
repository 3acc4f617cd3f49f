"""Downloads end as verified copies whatever happens on the way, and go on where a killed one stopped."""

import json
import signal
import subprocess
import sys
import threading
import time
from dataclasses import replace

import numpy as np
import pytest

from pipelines.bucket import download as module
from pipelines.bucket.download import StoppedError, download, in_threads
from pipelines.bucket.retry import BucketError, DamagedInTransit, ObjectReplaced
from pipelines.errors import WorldlineError
from tests.buckets.faults import Fault, Weather

CHUNK = 20_000
pytestmark = pytest.mark.one_bucket
NAMES = [f"Pong/1/replay_logs/$store$_action_ckpt.{n}.gz" for n in range(4)]
DATA = {name: np.random.default_rng(n).bytes(90_000 + n) for n, name in enumerate(NAMES)}


@pytest.fixture(autouse=True)
def _small_chunks(monkeypatch) -> None:
    monkeypatch.setattr(module, "CHUNK", CHUNK)


@pytest.fixture
def items(emulated, reached):
    for name, data in DATA.items():
        emulated.put(name, data)
    return reached.list("Pong/1/replay_logs")


def require_copies(bucket, items, data=DATA) -> None:
    for item in items:
        assert bucket.mirror.find(item).read_bytes() == data[item.name]
    leftover = [path.name for path in bucket.mirror.folder.rglob("*.part")]
    assert leftover == []


def test_all_objects_arrive_and_are_not_asked_for_again(proxy, reached, items) -> None:
    assert download(reached, items, "Mirror") == items
    require_copies(reached, items)
    proxy.clear()
    assert download(reached, items, "Mirror") == items and proxy.sent() == 0


@pytest.mark.parametrize("kind", ["cut", "reset", "short", "status", "flip"])
def test_each_fault_ends_in_right_copies(proxy, reached, items, said, kind) -> None:
    proxy.add(Fault(kind, match="ckpt.2", skip=3))
    assert download(reached, items, "Mirror") == items
    require_copies(reached, items)
    assert proxy.struck() == 1 and len(said) == 1


def test_random_faults_lose_nothing(proxy, reached, items) -> None:
    proxy.weather = Weather(0.15, seed=1, kinds=("cut", "reset", "short", "status"))
    assert download(reached, items, "Mirror") == items
    require_copies(reached, items)
    assert proxy.struck() > 0


def test_an_object_replaced_meanwhile_is_restarted_and_said(emulated, proxy, reached, items, said) -> None:
    newer = DATA | {NAMES[1]: b"newer " * 9_000}
    proxy.add(Fault("pass", match="ckpt.1", skip=2, act=lambda: emulated.put(NAMES[1], newer[NAMES[1]])))
    found = download(reached, items, "Mirror")
    assert found[1] != items[1] and [found[0], *found[2:]] == [items[0], *items[2:]]
    require_copies(reached, found, newer)
    assert any("was replaced" in line and "downloading the newer one" in line for line in said)
    with pytest.raises(ObjectReplaced):
        download(reached, items, "Mirror", pinned=True)


def test_lasting_damage_is_one_line_and_the_rest_stays(proxy, reached, items) -> None:
    proxy.add(Fault("flip", match="ckpt.3", times=99))
    with pytest.raises(DamagedInTransit, match="the object list says") as caught:
        download(reached, items, "Mirror", workers=1)
    assert "\n" not in str(caught.value)
    require = reached.mirror.find
    assert [require(item) is not None for item in items] == [True, True, True, False]


def test_a_broken_download_goes_on_behind_its_bytes(proxy, reached, items) -> None:
    """Three ranges of five arrive before the bucket fails for good; afterwards only two are asked for."""
    proxy.add(Fault("status", skip=3, times=99))
    with pytest.raises(BucketError, match="failed 6 times"):
        download(reached, items[:1], "Mirror")
    proxy.clear()
    download(reached, items[:1], "Mirror")
    require_copies(reached, items[:1])
    assert proxy.sent() == items[0].bytes - 3 * CHUNK


def test_damage_in_the_part_file_costs_one_restart(proxy, reached, items) -> None:
    proxy.add(Fault("status", skip=3, times=99))
    with pytest.raises(BucketError):
        download(reached, items[:1], "Mirror")
    proxy.clear()
    part = next(reached.mirror.folder.rglob("*.part"))
    part.write_bytes(b"?" + part.read_bytes()[1:])
    download(reached, items[:1], "Mirror")
    require_copies(reached, items[:1])


def test_an_older_versions_part_is_never_continued(emulated, proxy, reached, items) -> None:
    proxy.add(Fault("status", skip=3, times=99))
    with pytest.raises(BucketError):
        download(reached, items[:1], "Mirror")
    proxy.clear()
    emulated.put(NAMES[0], b"x" * 90_000)
    download(reached, [reached.stat(NAMES[0])], "Mirror")
    assert proxy.sent() == 90_000
    require_copies(reached, [reached.stat(NAMES[0])], {NAMES[0]: b"x" * 90_000})


def test_two_at_once_share_one_part_file(reached, items) -> None:
    threads = [threading.Thread(target=download, args=(reached, items, "Mirror")) for _ in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    require_copies(reached, items)


CHILD = """
import json, sys
from pathlib import Path
from pipelines.bucket import download as module
from pipelines.bucket.bucket import Bucket
from pipelines.bucket.bucket_object import Mirror
module.CHUNK = int(sys.argv[1])
bucket = Bucket(sys.argv[2], json.loads(sys.argv[3]), Mirror(Path(sys.argv[4])))
module.download(bucket, bucket.list("Pong/1/replay_logs"), "Mirror")
"""


@pytest.mark.parametrize("how", [signal.SIGKILL, signal.SIGINT])
def test_a_killed_process_loses_the_range_in_flight_alone(emulated, proxy, reached, how) -> None:
    data = np.random.default_rng(9).bytes(10 * CHUNK)
    emulated.put(NAMES[0], data)
    proxy.add(Fault("stall", skip=6, seconds=1.5))
    arguments = [
        str(CHUNK),
        reached.root,
        json.dumps(emulated.options(proxy.endpoint, 15.0)),
        str(reached.mirror.folder),
    ]
    child = subprocess.Popen([sys.executable, "-c", CHILD, *arguments], stderr=subprocess.PIPE)
    until = time.monotonic() + 30
    while proxy.struck() == 0 and time.monotonic() < until:
        time.sleep(0.02)
    child.send_signal(how)
    child.communicate(timeout=30)
    proxy.clear()
    items = reached.list("Pong/1/replay_logs")
    download(reached, items, "Mirror")
    require_copies(reached, items, {NAMES[0]: data})
    assert proxy.sent() <= len(data) - 6 * CHUNK


def test_a_full_disk_and_a_foreign_folder_are_one_line(reached, items, monkeypatch) -> None:
    with pytest.raises(WorldlineError, match="exceeds cache_bytes 7"):
        download(replace(reached, mirror=replace(reached.mirror, limit=7)), items, "Mirror")
    monkeypatch.setattr(module.os, "fsync", lambda number: (_ for _ in ()).throw(OSError(28, "No space left")))
    with pytest.raises(WorldlineError, match=r"No space left for the mirror .*run the same command again") as caught:
        download(reached, items, "Mirror")
    assert "\n" not in str(caught.value)
    monkeypatch.undo()
    (reached.mirror.folder.parent / "file").write_text("in the way")
    with pytest.raises(WorldlineError, match="cannot be written"):
        download(
            replace(reached, mirror=replace(reached.mirror, folder=reached.mirror.folder.parent / "file")), items, "M"
        )
    assert (reached.mirror.folder.parent / "file").read_text() == "in the way"


def test_the_first_failure_of_one_thread_stops_the_others_and_is_the_one_raised() -> None:
    stop, begun, ended = threading.Event(), [], []

    def work(number: int) -> int:
        begun.append(number)
        if number == 1:
            raise WorldlineError("the first")
        if not stop.wait(30):
            return number
        ended.append(number)
        raise StoppedError

    with pytest.raises(WorldlineError, match="the first"):
        in_threads(work, range(50), 2, stop, "test")
    assert begun[:2] == [0, 1] and ended == [number for number in begun if number != 1] and len(begun) < 5
    assert in_threads(str, range(5), 2, threading.Event(), "test") == ["0", "1", "2", "3", "4"]
