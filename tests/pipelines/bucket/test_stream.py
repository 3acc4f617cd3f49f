"""Files larger than the cache: read where they lie, block by block, verified, and by the stages that read them."""

import json
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
from pipelines.stages import segment, train
from pipelines.store import lineage
from pipelines.store.artefact import Artefact
from pipelines.store.ref import Ref
from pipelines.store.stage_config import Spec
from pipelines.store.store import Store
from tests import fakes
from tests.buckets.faults import Fault, FaultProxy
from tests.buckets.servers import EmulatedBucket
from tests.pipelines.conftest import TinyRun

CONTENT = np.random.default_rng(0).integers(0, 256, 100_000, np.uint8).tobytes()
LIMIT = 50_000
pytestmark = pytest.mark.one_bucket


@pytest.fixture
def machine(emulated: EmulatedBucket, proxy: FaultProxy, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """Stores of several machines over one bucket."""
    monkeypatch.setattr(stream, "BLOCK", 4096)
    monkeypatch.setattr(stream, "_blocks", stream._Kept())

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


def test_a_file_that_finds_no_room_beside_what_is_in_use_is_streamed(machine, made) -> None:
    """As one game's trajectories beside another's."""
    store = machine("reader", 150_000)
    other = machine("writer").produce(
        fakes.spec("scores"), lambda draft: draft.path("large").write_bytes(CONTENT[::-1])
    )
    held = store.open(other.artefact.ref)
    with streamed(store, made).open() as opened:
        assert opened.readall() == CONTENT
    del held
    assert isinstance(store.open(made.ref).source("large"), Path)


def test_the_blocks_in_memory_are_bounded(machine, made, proxy: FaultProxy, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(stream, "KEPT", 3)
    with streamed(machine("reader", LIMIT), made).open() as opened:
        opened.readall()
        assert len(stream._blocks._blocks) == 3
        proxy.clear()
        opened.seek(-4096, 2)
        opened.readall()
        assert proxy.log == []


def test_segments_of_trajectories_that_are_larger_than_the_cache(machine, tiny: TinyRun, tmp_path: Path) -> None:
    """The same bytes as from a folder."""
    source = tiny.made["trajectories"]
    config = tiny.plan.config(next(step for step in tiny.plan.steps() if step.stage == "segments"))
    large = stored(machine("writer"), source, ())
    reader = machine("reader", source.manifest.total_bytes // 2)
    found = reader.open(large).source(FILE_NAME)
    assert isinstance(found, StreamedFile)
    far, near = Trajectories(found), Trajectories(source.path(FILE_NAME))
    assert far.game == near.game and (far.episode_starts == near.episode_starts).all()
    again = pickle.loads(pickle.dumps(far))  # noqa: S301
    assert (again.frames(5, 300) == near.frames(5, 300)).all()
    far.close()
    made = segment.run(replace(config, trajectories=large), reader).artefact
    assert made.manifest.files == tiny.made["segments"].manifest.files


@pytest.mark.slow
def test_training_on_tokens_that_find_no_room(
    machine, emulated: EmulatedBucket, tiny: TinyRun, proxy: FaultProxy
) -> None:
    """The same networks and losses as from a folder; read in this process, or in two others from the other bucket."""
    theirs: dict[str, Ref] = {}
    for stage, above in (("pretrained", ()), ("trajectories", ()), ("segments", ()), ("tokens", ("pretrained",))):
        theirs[stage] = stored(machine("writer"), tiny.made[stage], tuple(theirs[each] for each in above))
    config = tiny.plan.config(next(step for step in tiny.plan.steps() if step.stage == "world_action_model"))
    assert isinstance(config, train.TrainConfig)
    expected = tiny.made["world_action_model"]
    room = tiny.made["pretrained"].manifest.total_bytes + tiny.made["tokens"].manifest.total_bytes - 1
    again = replace(
        config,
        loop=replace(config.loop, workers={"s3": 0, "gs": 2}[emulated.server.kind], preload_bytes=0),
        agent=theirs["pretrained"],
        **{stage: (theirs[stage],) for stage in ("tokens", "segments", "trajectories")},
    )
    reader = machine("reader", room)
    proxy.clear()
    made = train.run(again, reader).artefact
    for name in ("model.safetensors", "tokenizer.safetensors"):
        assert made.path(name).read_bytes() == expected.path(name).read_bytes()
    assert losses(made) == losses(expected) and "td" in losses(made)[0]
    assert proxy.sent("tokens.zarr/c/0/0") > 0 and not list(reader.root.rglob("tokens.zarr"))


def stored(store: Store, source: Artefact, parents: tuple[Ref, ...]) -> Ref:
    """The same files in another store, made from `parents`."""

    def build(draft) -> None:
        for name in source.names():
            draft.path(name).write_bytes(source.path(name).read_bytes())

    manifest = source.manifest
    return store.produce(Spec(manifest.stage, manifest.subject, "1", manifest.config, parents), build).artefact.ref


def losses(artefact: Artefact) -> list[dict[str, float]]:
    rows = [json.loads(line) for line in artefact.path("metrics.jsonl").read_text().splitlines()]
    return [{name: value for name, value in row.items() if name != "seconds"} for row in rows]
