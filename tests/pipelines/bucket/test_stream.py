"""Files larger than the cache: read where they lie, block by block, verified, and by the stages that read them."""

import pickle
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from pipelines.bucket import stream
from pipelines.bucket.bucket_store import BucketStore
from pipelines.bucket.stream import BLOCKS_NAME, StreamedFile
from pipelines.episodes.trajectories import FILE_NAME, Trajectories
from pipelines.errors import WorldlineError
from pipelines.stages import segment
from pipelines.store import lineage
from pipelines.store.artefact import Artefact
from tests import fakes
from tests.buckets.faults import Fault, FaultProxy
from tests.buckets.servers import EmulatedBucket
from tests.pipelines.conftest import TinyRun

CONTENT = np.random.default_rng(0).integers(0, 256, 100_000, np.uint8).tobytes()
LIMIT = 50_000


@pytest.fixture
def machine(emulated: EmulatedBucket, proxy: FaultProxy, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """Stores of several machines over one bucket."""
    monkeypatch.setattr(stream, "BLOCK", 4096)

    def opened(name: str, limit: int | None = None) -> BucketStore:
        profile = emulated.profile(proxy.endpoint, timeout=2.0, cache_bytes=limit)
        return BucketStore(f"{emulated.root_url}/store", tmp_path / name, profile)

    return opened


@pytest.fixture
def made(machine) -> Artefact:
    """Of one large file and a small one."""

    def build(draft) -> None:
        draft.path("large").write_bytes(CONTENT)
        draft.path("small").write_bytes(b"small")

    return machine("writer").produce(fakes.spec("trajectories"), build).artefact


def streamed(store: BucketStore, made: Artefact) -> StreamedFile:
    found = store.open(made.ref).source("large")
    assert isinstance(found, StreamedFile)
    return found


def test_any_piece_is_the_same_as_on_disk(machine, made, proxy: FaultProxy) -> None:
    store = machine("reader", LIMIT)
    file = streamed(store, made)
    assert store.open(made.ref).source("small") == store.open(made.ref).path("small")
    proxy.clear()
    with pickle.loads(pickle.dumps(file)).open() as opened:  # noqa: S301 - as worker processes get it
        for start, size in ((0, 10), (4090, 20), (99_990, 100), (50_000, 20_000), (200_000, 5)):
            assert opened.seek(start) == start == opened.tell()
            assert opened.read(size) == CONTENT[start : start + size]
        opened.seek(-5, 2)
        assert opened.readall() == CONTENT[-5:] and opened.seek(0) == 0 and opened.readall() == CONTENT
    assert proxy.sent("/large") == len(CONTENT)  # each block once, as all fit into memory
    assert not (store.root / "cache" / made.digest / "large").exists()
    assert lineage.verify(store, made.ref) == []


def test_a_bit_that_flips_is_noticed_and_read_again(machine, made, proxy: FaultProxy) -> None:
    proxy.add(Fault("flip", match="/large", skip=1), Fault("short", match="/large", skip=3))
    with streamed(machine("reader", LIMIT), made).open() as opened:
        assert opened.readall() == CONTENT
    assert proxy.struck() == 2


def test_damage_at_rest_is_one_line(machine, made, emulated: EmulatedBucket) -> None:
    file = streamed(machine("reader", LIMIT), made)
    at = f"store/files/{made.ref}/{made.digest}"
    emulated.put(f"{at}/large", CONTENT[:9000] + b"x" + CONTENT[9001:])
    with file.open() as opened:
        assert opened.read(8192) == CONTENT[:8192]
        with pytest.raises(WorldlineError, match=r"large: bytes 8,192 to 12,288 are not those .*--remake") as caught:
            opened.read(1)
    assert "\n" not in str(caught.value)
    emulated.remove(f"{at}/{BLOCKS_NAME}")
    with pytest.raises(WorldlineError, match="no hashes of its pieces are there: raise cache_bytes"):
        machine("reader", LIMIT).open(made.ref).source("large")


def test_a_file_that_fits_is_copied(machine, made) -> None:
    assert isinstance(machine("reader", 200_000).open(made.ref).source("large"), Path)
    assert isinstance(machine("other").open(made.ref).source("large"), Path)
    assert isinstance(machine("none", 0).open(made.ref).source("large"), StreamedFile)


def test_segments_of_trajectories_that_are_larger_than_the_cache(machine, tiny: TinyRun, tmp_path: Path) -> None:
    """The same bytes as from a folder."""
    source = tiny.made["trajectories"]

    def copied(draft) -> None:
        for name in source.names():
            draft.path(name).write_bytes(source.path(name).read_bytes())

    config = tiny.plan.config(next(step for step in tiny.plan.steps() if step.stage == "segments"))
    large = machine("writer").produce(fakes.spec("trajectories", "Breakout"), copied).artefact
    reader = machine("reader", large.manifest.total_bytes // 2)
    found = reader.open(large.ref).source(FILE_NAME)
    assert isinstance(found, StreamedFile)
    far, near = Trajectories(found), Trajectories(source.path(FILE_NAME))
    assert far.game == near.game and (far.episode_starts == near.episode_starts).all()
    again = pickle.loads(pickle.dumps(far))  # noqa: S301
    assert (again.frames(5, 300) == near.frames(5, 300)).all()
    far.close()
    made = segment.run(replace(config, trajectories=large.ref), reader).artefact
    assert made.manifest.files == tiny.made["segments"].manifest.files
