"""Shards of a bucket are fetched once for all processes, checked, bounded on the disk; bad weather is survived."""

import hashlib
import multiprocessing
from collections.abc import Iterator
from pathlib import Path

import pytest

from pipelines.batches.segments import Segmentation
from pipelines.batches.shard_cache import Ahead, ShardCache
from pipelines.batches.shards import ShardSet
from pipelines.bucket import retry
from pipelines.episodes.trajectories import FILE_NAME, Trajectories
from pipelines.errors import WorldlineError
from pipelines.store.store import Store
from pipelines.tools.exports.export import export
from pipelines.tools.exports.webdataset import Webdataset
from tests.buckets.faults import Fault, FaultProxy
from tests.buckets.servers import FOLDER, EmulatedBucket
from tests.fakes import flip_byte
from tests.pipelines.episodes.made_episodes import put_episodes


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Freeway as 6 shards of 3 segments; tests only read them."""
    where = tmp_path_factory.mktemp("shards")
    artefact = put_episodes(Store(where / "store"))
    data = Trajectories(artefact.path(FILE_NAME))
    export(artefact, Webdataset(data, Segmentation(data.episode_starts, 8, 4, "right"), per_shard=3), where)
    return where / "Freeway.webdataset"


@pytest.fixture
def proxy(gcs_bucket: EmulatedBucket, monkeypatch: pytest.MonkeyPatch) -> Iterator[FaultProxy]:
    monkeypatch.setattr(retry, "FIRST_WAIT", 0.01)
    with FaultProxy(gcs_bucket.server.endpoint) as running:
        yield running


@pytest.fixture
def far(folder: Path, gcs_bucket: EmulatedBucket, proxy: FaultProxy) -> ShardSet:
    """The same in a bucket behind the proxy."""
    gcs_bucket.put_folder(folder)
    return ShardSet(gcs_bucket.root_url, gcs_bucket.profile(proxy.endpoint))


def sent(proxy: FaultProxy, shard: int) -> int:
    """How often a shard's bytes were asked for."""
    return sum(each.data and each.name.endswith(f"segments-{shard:06}.tar") for each in proxy.log)


def test_a_shard_of_a_disk_is_read_where_it_lies(folder: Path, tmp_path: Path) -> None:
    near = ShardSet(folder)
    assert ShardCache(tmp_path / "kept", 1 << 20).read(near, 2) == (folder / "segments-000002.tar").read_bytes()
    assert not (tmp_path / "kept").exists()


def test_a_shard_is_fetched_once_for_all_processes(
    folder: Path, far: ShardSet, proxy: FaultProxy, tmp_path: Path
) -> None:
    cache = ShardCache(tmp_path, 1 << 30)

    def read() -> None:
        raw = cache.read(far, 1)
        (tmp_path / f"{multiprocessing.current_process().pid}.said").write_text(hashlib.sha256(raw).hexdigest())

    processes = [multiprocessing.get_context("fork").Process(target=read) for _ in range(3)]
    for each in processes:
        each.start()
    for each in processes:
        each.join(60)
    assert {path.read_text() for path in tmp_path.glob("*.said")} == {far.shards[1].sha256}
    assert len(list(tmp_path.glob("*.said"))) == 3
    assert sent(proxy, 1) == 1


def test_a_kept_shard_that_is_damaged_is_fetched_again(far: ShardSet, proxy: FaultProxy, tmp_path: Path) -> None:
    cache = ShardCache(tmp_path, 1 << 30)
    whole = cache.read(far, 0)
    (kept,) = tmp_path.glob("*.tar")
    flip_byte(kept, at=1000)
    assert cache.read(far, 0) == whole == kept.read_bytes()
    assert sent(proxy, 0) == 2


def test_what_is_kept_is_bounded_and_what_was_read_last_stays(far: ShardSet, proxy: FaultProxy, tmp_path: Path) -> None:
    most = max(shard.bytes for shard in far.shards)
    cache = ShardCache(tmp_path, 2 * most)
    for shard in (0, 1, 0, 2, 0):
        cache.read(far, shard)
        assert sum(path.stat().st_size for path in tmp_path.glob("*.tar")) <= 2 * most
    assert {path.stem for path in tmp_path.glob("*.tar")} == {far.shards[shard].sha256 for shard in (0, 2)}
    assert [sent(proxy, shard) for shard in (0, 1, 2)] == [1, 1, 1]


@pytest.mark.parametrize("kind", ["cut", "reset", "short", "status", "stall", "flip"])
def test_a_slow_or_cut_bucket_is_asked_again(
    folder: Path, far: ShardSet, proxy: FaultProxy, tmp_path: Path, kind: str
) -> None:
    times = 1 if kind == "flip" else 2
    proxy.add(Fault(kind, "segments-000003", times=times, seconds=0.2))
    assert ShardCache(tmp_path, 1 << 30).read(far, 3) == (folder / "segments-000003.tar").read_bytes()
    assert proxy.struck() == times and sent(proxy, 3) == times + 1


def test_bytes_that_are_another_shards_are_one_line_and_not_kept(
    far: ShardSet, gcs_bucket: EmulatedBucket, folder: Path, tmp_path: Path
) -> None:
    raw = bytearray((folder / "segments-000003.tar").read_bytes())
    raw[900] ^= 1
    gcs_bucket.put("segments-000003.tar", bytes(raw))
    with pytest.raises(
        WorldlineError, match=r"segments-000003\.tar is not the shard that shards\.json lists"
    ) as caught:
        ShardCache(tmp_path, 1 << 30).read(far, 3)
    assert "\n" not in str(caught.value) and not list(tmp_path.glob("*.tar"))


def test_shards_are_fetched_ahead_and_faults_there_are_met_later(
    far: ShardSet, gcs_bucket: EmulatedBucket, proxy: FaultProxy, tmp_path: Path
) -> None:
    cache = ShardCache(tmp_path, 1 << 30)
    ahead = Ahead(cache)
    ahead.fetch(far, [2, 4])
    ahead._thread.join(60)
    assert [sent(proxy, shard) for shard in (2, 4)] == [1, 1]
    cache.read(far, 2)
    assert sent(proxy, 2) == 1
    gcs_bucket.remove("segments-000005.tar")
    ahead.fetch(far, [5, 1])
    ahead._thread.join(60)
    assert sent(proxy, 1) == 0
    with pytest.raises(WorldlineError, match="does not exist"):
        cache.read(far, 5)
    ahead.close()


def test_closing_ends_the_thread_before_its_next_shard(far: ShardSet, proxy: FaultProxy, tmp_path: Path) -> None:
    proxy.delay(0.2)
    ahead = Ahead(ShardCache(tmp_path, 1 << 30))
    ahead.fetch(far, list(range(6)))
    ahead.close()
    assert not ahead._thread.is_alive()
    assert len(list(tmp_path.glob("*.tar"))) < 6


def test_shards_are_looked_for_before_they_are_needed_even_where_listing_is_refused(
    far: ShardSet, gcs_bucket: EmulatedBucket, proxy: FaultProxy
) -> None:
    far.require_shards()
    gcs_bucket.remove("segments-000005.tar")
    with pytest.raises(WorldlineError, match=r"segments-000005\.tar is missing, shards\.json says .*: copy it again"):
        far.require_shards()
    refused = Fault("status", f"{FOLDER}/", times=1000, status=403, listings=True)
    proxy.add(refused)
    far.require_shards()
    assert proxy.struck()
    proxy.clear()
    gcs_bucket.put("segments-000000.tar", b"short")
    with pytest.raises(WorldlineError, match=r"segments-000000\.tar has 5 bytes"):
        far.require_shards()
