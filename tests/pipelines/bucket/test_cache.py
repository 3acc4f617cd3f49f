"""Copies of artefacts here: within their limit, the longest unused goes first, what any process uses never."""

import gc
import os
import signal
from pathlib import Path

import pytest

from pipelines.bucket.bucket_artefact import BucketArtefact
from pipelines.bucket.bucket_store import BucketStore
from pipelines.errors import WorldlineError
from pipelines.store.artefact import Artefact
from pipelines.store.profile import Profile
from tests import fakes
from tests.buckets.faults import Fault, FaultProxy
from tests.buckets.servers import EmulatedBucket

SIZE = 2_000  # bytes of one artefact here: two files of half of it

HOLD = """
import json, sys, time
from pathlib import Path
from pipelines.bucket.bucket_store import BucketStore
from pipelines.store.profile import Profile
from pipelines.store.ref import Ref

url, options, root, ref = sys.argv[1:]
store = BucketStore(url, Path(root), Profile("child", options=json.loads(options), cache_bytes=4500))
held = store.open(Ref.parse(ref))
print("open", flush=True)
time.sleep(60)
"""


@pytest.fixture
def emulated(gcs_bucket: EmulatedBucket) -> EmulatedBucket:
    return gcs_bucket


@pytest.fixture
def made(emulated: EmulatedBucket, tmp_path: Path) -> list[Artefact]:
    """Four artefacts in the bucket."""
    writer = BucketStore(f"{emulated.root_url}/store", tmp_path / "writer", emulated.profile())
    return [fakes.make(writer, "scores", text=str(seed) * (SIZE // 2), seed=seed) for seed in range(4)]


def opened(emulated: EmulatedBucket, tmp_path: Path, limit: int | None, endpoint: str | None = None) -> BucketStore:
    profile = Profile("reader", options=emulated.options(endpoint), cache_bytes=limit)
    return BucketStore(f"{emulated.root_url}/store", tmp_path / "reader", profile)


def there(store: BucketStore, made: list[Artefact]) -> list[int]:
    """Which of the artefacts have a copy."""
    return [number for number, each in enumerate(made) if (store.root / "cache" / each.digest).is_dir()]


def age(store: BucketStore, artefact: Artefact, seconds: float) -> None:
    place = store.root / "cache" / artefact.digest
    os.utime(place, (place.stat().st_mtime - seconds,) * 2)


def test_what_was_used_longest_ago_goes_first(emulated, made, tmp_path: Path) -> None:
    store = opened(emulated, tmp_path, limit=2 * SIZE + 500)
    for number in (0, 1):
        assert store.open(made[number].ref).path("data.bin").read_text()[0] == str(number)
        age(store, made[number], 100 - number)
    store.open(made[0].ref)  # is the younger one now
    store.open(made[2].ref)
    assert there(store, made) == [0, 2]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(BucketArtefact, "_bring", lambda self, entries: None)
        store.find(made[3].ref).path("data.bin")  # naming a path alone takes no room
    assert there(store, made) == [0, 2]


def test_what_is_in_use_stays_and_the_next_is_refused_in_one_line(emulated, made, tmp_path: Path) -> None:
    store = opened(emulated, tmp_path, limit=2 * SIZE + 500)
    held = [store.open(made[0].ref), store.open(made[1].ref)]
    with pytest.raises(
        WorldlineError, match=r"needs 2,000 bytes .* beside 4,000 that are in use, .* 4,500: raise"
    ) as caught:
        _ = store.open(made[2].ref).folder
    assert "\n" not in str(caught.value) and there(store, made) == [0, 1]
    del held[0]
    assert store.open(made[2].ref).path("data.bin").is_file() and there(store, made) == [1, 2]


def test_what_waits_in_a_cycle_of_references_is_not_in_use(emulated, made, tmp_path: Path) -> None:
    store = opened(emulated, tmp_path, limit=2 * SIZE + 500)
    cycle: list[object] = [store.open(made[0].ref), store.open(made[1].ref)]
    cycle.append(cycle)
    gc.disable()
    try:
        del cycle
        assert store.open(made[2].ref).path("data.bin").is_file() and 2 in there(store, made)
    finally:
        gc.enable()


def test_another_processs_use_counts_until_it_dies(emulated, made, tmp_path: Path) -> None:
    import json

    store = opened(emulated, tmp_path, limit=2 * SIZE + 500)
    child = fakes.start(HOLD, store.where, json.dumps(emulated.options()), str(store.root), str(made[0].ref))
    assert child.stdout.readline() == "open\n"
    age(store, made[0], 1000)
    store.open(made[1].ref)
    store.open(made[2].ref)
    assert there(store, made) == [0, 2]
    child.send_signal(signal.SIGKILL)
    fakes.finish(child)
    age(store, made[0], 1000)
    store.open(made[3].ref)
    assert there(store, made) == [2, 3]


def test_an_artefact_larger_than_the_cache_is_one_line_and_its_small_files_are_read(emulated, made, tmp_path) -> None:
    store = opened(emulated, tmp_path, limit=SIZE - 1)
    found = store.open(made[0].ref)
    with pytest.raises(WorldlineError, match=r"needs 2,000 bytes in the cache .*cache_bytes is 1,999: raise") as caught:
        _ = found.folder
    assert "\n" not in str(caught.value)
    assert found.path("data.bin").stat().st_size == SIZE // 2


def test_a_writer_keeps_what_fits(emulated, tmp_path: Path) -> None:
    store = opened(emulated, tmp_path, limit=SIZE)
    small = fakes.make(store, "scores", text="s" * (SIZE // 2))
    large = fakes.make(store, "scores", text="l" * SIZE, seed=1)
    assert there(store, [small, large]) == [0] and not list((store.root / "finished").rglob("*.bin"))
    assert store.find(large.ref) == large


def test_a_download_that_was_killed_leaves_no_file_under_its_name(emulated, made, tmp_path: Path) -> None:
    import json

    with FaultProxy(emulated.server.endpoint) as proxy:
        proxy.add(Fault("stall", match=f"{made[0].digest}/data.bin", seconds=5.0))
        root = tmp_path / "reader"
        child = fakes.start(
            HOLD,
            f"{emulated.root_url}/store",
            json.dumps(emulated.options(proxy.endpoint)),
            str(root),
            str(made[0].ref),
        )
        fakes.wait_for(lambda: proxy.struck("stall") == 1)
        child.send_signal(signal.SIGKILL)
        fakes.finish(child)
    place = root / "cache" / made[0].digest
    assert not (place / "data.bin").exists() and (place / ".data.bin.part").stat().st_size == SIZE // 2
    store = opened(emulated, tmp_path, limit=SIZE)
    assert store.open(made[0].ref).path("data.bin").read_text() == "0" * (SIZE // 2)
    assert sorted(path.name for path in place.rglob("*")) == ["data.bin", "more.bin", "sub"]
