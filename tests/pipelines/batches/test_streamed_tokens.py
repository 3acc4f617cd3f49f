"""Tokens that find no room in the cache: the same batches as from a folder, each byte verified, few requests."""

import pickle
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from pipelines.batches import segments
from pipelines.batches.loader import SegmentLoader, SegmentSource
from pipelines.batches.segments import TOKENS_NAME, TokenWriter, open_tokens
from pipelines.batches.streamed_tokens import StreamedTokens
from pipelines.bucket import retry, stream
from pipelines.bucket.bucket_store import BucketStore
from pipelines.errors import WorldlineError
from pipelines.store.artefact import Artefact
from pipelines.store.store import Store
from pipelines.training.device import Device
from pipelines.training.inputs import sources, tensors
from pipelines.training.prefetch import Prefetcher
from tests import fakes
from tests.buckets.faults import Fault, FaultProxy
from tests.buckets.servers import EmulatedBucket
from tests.pipelines.training.toy_game import make_game

ROWS, PER_FRAME = 1_010, 4
CHUNK, SHARD, BLOCK = 8, 256, 500  # frames, frames, bytes: four shards of five blocks


@dataclass(frozen=True)
class Site:
    """Tokens in a bucket, as another machine reads them."""

    bucket: EmulatedBucket
    proxy: FaultProxy
    folder: Path
    values_NK: NDArray[np.uint16]
    made: Artefact

    def artefact(self, name: str = "reader") -> Artefact:
        limit = self.made.manifest.total_bytes - 1
        profile = self.bucket.profile(self.proxy.endpoint, timeout=2.0, cache_bytes=limit)
        return BucketStore(f"{self.bucket.root_url}/store", self.folder / name, profile).open(self.made.ref)

    def tokens(self) -> StreamedTokens:
        (found,) = open_tokens([self.artefact()], self.folder)
        assert isinstance(found, StreamedTokens) and not list(self.folder.rglob("*.npy"))
        self.proxy.clear()
        return found

    def damage(self) -> None:
        """Flip a bit of the second shard."""
        name = f"{TOKENS_NAME}/c/1/0"
        raw = bytearray(self.made.path(name).read_bytes())
        raw[700] ^= 4
        self.bucket.put(f"store/files/{self.made.ref}/{self.made.digest}/{name}", bytes(raw))


@pytest.fixture
def site(gcs_bucket: EmulatedBucket, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Site]:
    monkeypatch.setattr(retry, "FIRST_WAIT", 0.01)
    monkeypatch.setattr(segments, "TOKENS_CHUNK", CHUNK)
    monkeypatch.setattr(segments, "TOKENS_SHARD", SHARD)
    monkeypatch.setattr(stream, "BLOCK", BLOCK)
    monkeypatch.setattr(stream, "_blocks", stream._Kept())
    values = np.random.default_rng(0).integers(0, 1 << 16, (ROWS, PER_FRAME), dtype=np.uint16)
    values[512:768] = 0  # zarr writes no file for a shard of zeros

    def build(draft) -> None:
        writer = TokenWriter(draft.path(TOKENS_NAME), ROWS, PER_FRAME)
        writer.append(values)
        writer.close()

    writer = BucketStore(f"{gcs_bucket.root_url}/store", tmp_path / "writer", gcs_bucket.profile())
    with FaultProxy(gcs_bucket.server.endpoint) as proxy:
        yield Site(gcs_bucket, proxy, tmp_path, values, writer.produce(fakes.spec("tokens"), build).artefact)


def test_any_rows_are_the_same_and_each_block_is_asked_for_once(site: Site) -> None:
    tokens = site.tokens()
    assert tokens.shape == site.values_NK.shape and len(tokens) == ROWS and tokens.nbytes == site.values_NK.nbytes
    rng = np.random.default_rng(1)
    for shape in ((1,), (5, 8), (300, 2)):
        rows = rng.integers(0, ROWS, shape)
        assert np.array_equal(tokens[rows], site.values_NK[rows]) and tokens[rows].dtype == np.uint16
    again = pickle.loads(pickle.dumps(tokens))  # noqa: S301
    assert np.array_equal(again[np.arange(ROWS)], site.values_NK) and np.array_equal(tokens.whole(), site.values_NK)
    shards = [site.made.path(name).read_bytes() for name in site.made.names() if "/c/" in name]
    blocks = {raw[start : start + BLOCK] for raw in shards for start in range(0, len(raw), BLOCK)}
    assert len(shards) == 3 and len(blocks) > 12
    assert len([one for one in site.proxy.log if "/c/" in one.name]) == len(blocks)
    assert site.proxy.sent("/c/") == sum(map(len, blocks))


def test_a_batch_asks_for_the_blocks_of_its_rows_alone(site: Site) -> None:
    tokens = site.tokens()
    tokens[np.arange(CHUNK)]
    assert len(site.proxy.log) <= 3, "the block of the shard's index, and those of one chunk"
    site.proxy.clear()
    tokens[np.arange(CHUNK)]
    assert site.proxy.log == []


def test_they_are_kept_in_memory_where_they_fit(site: Site) -> None:
    artefact = site.artefact()
    (found,) = open_tokens([artefact], site.folder, preload_bytes=site.values_NK.nbytes)
    assert isinstance(found, np.ndarray) and np.array_equal(found, site.values_NK)
    less = open_tokens([artefact, artefact], site.folder, preload_bytes=2 * site.values_NK.nbytes - 1)
    assert all(isinstance(one, StreamedTokens) for one in less)


def test_those_that_find_room_are_mapped(site: Site) -> None:
    store = BucketStore(f"{site.bucket.root_url}/store", site.folder / "roomy", site.bucket.profile())
    (found,) = open_tokens([store.open(site.made.ref)], site.folder)
    assert isinstance(found, np.memmap) and np.array_equal(found, site.values_NK)


def loader(source: SegmentSource, tokens: "NDArray[np.uint16] | StreamedTokens") -> SegmentLoader:
    return SegmentLoader([SegmentSource(source.trajectories, source.segments, tokens)], 6, seed=5, with_frames=False)


@pytest.fixture
def game(store: Store, tmp_path: Path) -> SegmentSource:
    """Of as many rows as there are tokens."""
    data, cut = make_game(store, *[101] * 10)
    return sources([data], [cut], 1, [], tmp_path)[0]


@pytest.mark.parametrize("workers", [pytest.param(0, marks=pytest.mark.slow), 2])
def test_batches_are_those_of_a_folder(site: Site, game: SegmentSource, workers: int) -> None:
    site.proxy.add(Fault("status", match="/c/", skip=2, times=2), Fault("flip", match="/c/1/", skip=1))
    feed = Prefetcher({"all": loader(game, site.tokens())}, Device("cpu", False), workers, stop=8)
    for step in range(8):
        expected, found = tensors(loader(game, site.values_NK).batch(step)), feed.batch(step)["all"]
        assert expected.keys() == found.keys() and "tokens_BTK" in found
        assert all(found[name].equal(tensor) for name, tensor in expected.items())


@pytest.mark.parametrize("workers", [0, pytest.param(2, marks=pytest.mark.slow)])
def test_a_bit_that_flipped_in_the_bucket_is_one_line(site: Site, game: SegmentSource, workers: int) -> None:
    site.damage()
    feed = Prefetcher({"all": loader(game, site.tokens())}, Device("cpu", False), workers, stop=8)
    with pytest.raises(WorldlineError, match=r"c/1/0: bytes 500 to 1,000 are not those .*--remake") as caught:
        for step in range(8):
            feed.batch(step)
    assert "\n" not in str(caught.value)
    feed.close()


@pytest.mark.parametrize("workers", [0, pytest.param(2, marks=pytest.mark.slow)])
def test_a_bucket_that_goes_away_is_one_line_and_a_pause_is_waited_for(site, game, workers: int) -> None:
    feed = Prefetcher({"all": loader(game, site.tokens())}, Device("cpu", False), workers, stop=8)
    site.proxy.add(Fault("reset", match="/c/", times=3))
    feed.batch(0)
    assert site.proxy.struck("reset") == 3
    site.proxy.add(Fault("status", match="/c/", times=10_000))
    with pytest.raises(WorldlineError, match=f"failed {retry.TRIES} times .*check the network") as caught:
        for step in range(1, 8):
            feed.batch(step)
    assert "\n" not in str(caught.value)
    feed.close()
