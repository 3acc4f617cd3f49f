"""Artefacts in both stores: committed by their manifest, by one of two writers, found from another machine, removed."""

import json
import shutil
from dataclasses import replace
from pathlib import Path

import pytest

from pipelines.bucket import bucket_store, lease, small_objects
from pipelines.bucket.bucket_store import BucketStore
from pipelines.bucket.retry import BucketError, Refused
from pipelines.errors import MayPass, WorldlineError
from pipelines.store import gc, lineage
from pipelines.store.ref import Ref
from tests import fakes
from tests.buckets.faults import Fault, FaultProxy
from tests.buckets.servers import EmulatedBucket

pytestmark = pytest.mark.one_bucket


@pytest.fixture
def machine(emulated: EmulatedBucket, proxy: FaultProxy, tmp_path: Path, monkeypatch):
    """Stores of several machines over one bucket, by the machine's name; what one wrote the others see at once."""
    monkeypatch.setattr(small_objects, "FRESH", 0.0)

    def opened(name: str, remake: bool = False, **keys) -> BucketStore:
        profile = replace(emulated.profile(proxy.endpoint, timeout=2.0), **keys)
        return BucketStore(f"{emulated.root_url}/store", tmp_path / name, profile, remake)

    return opened


def objects(store: BucketStore, folder: str) -> list[str]:
    return sorted(store.bucket.below(folder))


def test_another_machine_finds_reads_and_builds_on_it(machine) -> None:
    here, there = machine("here"), machine("there")
    made = fakes.make(here, "trajectories")
    here.point("trajectories/Freeway", made.ref)
    assert objects(here, "manifests") == [f"{made.ref}.json"]
    assert objects(here, "files") == [f"{made.ref}/{made.digest}/{name}" for name in ("data.bin", "sub/more.bin")]
    found = there.open(there.resolve("trajectories/Freeway"))
    assert found.manifest == made.manifest and found.path("data.bin").read_text() == "payload"
    child = fakes.make(there, "segments", parents=(found.ref,))
    assert [artefact.ref for artefact in here.artefacts()] == [child.ref, made.ref]
    assert [artefact.ref for artefact in here.artefacts("trajectories/Freeway")] == [made.ref]
    assert here.produce(fakes.spec("trajectories"), fakes.fill("other")).skipped
    assert lineage.verify(here, child.ref) == [] and here.holds(child.ref) and here.resolve(str(child.ref)) == child.ref


def test_reading_downloads_what_is_asked_for_once_and_verified(machine, proxy: FaultProxy) -> None:
    made = fakes.make(machine("here"), "trajectories")
    found = machine("there").find(made.ref)
    proxy.clear()
    assert found.path("sub/more.bin").read_text() == "daolyap" and proxy.sent("/data.bin") == 0
    proxy.add(Fault("flip", match="/data.bin"))
    assert {path.name for path in found.folder.iterdir()} == {"data.bin", "sub"} and proxy.struck("flip") == 1
    sent = proxy.sent("files/")
    assert machine("there").open(made.ref).path("data.bin").read_text() == "payload" and proxy.sent("files/") == sent
    (found.place / "data.bin").write_text("PAYLOAD")  # of the same size, as a disk might
    assert machine("there").open(made.ref).path("data.bin").read_text() == "payload"


def test_of_two_writers_one_stores_and_the_other_takes_that(machine, monkeypatch) -> None:
    slow, fast = machine("slow"), machine("fast")
    monkeypatch.setattr(lease, "LOST", 0.0)  # as if the slow one had stalled
    monkeypatch.setattr(lease, "POLL", 0.01)

    def build(draft) -> None:
        fakes.fill("slow")(draft)
        fakes.make(fast, "trajectories", text="fast")

    report = slow.produce(fakes.spec("trajectories"), build)
    assert report.artefact.path("data.bin").read_text() == "fast"
    assert report.artefact.digest == fast.find(report.artefact.ref).digest
    assert {name.split("/")[3] for name in objects(slow, "files")} == {report.artefact.digest}
    assert not (slow.root / "finished" / str(report.artefact.ref)).exists()


def test_what_was_finished_when_the_bucket_went_away_is_stored_by_the_next_run(machine, proxy: FaultProxy) -> None:
    store = machine("here")
    store.require_rights()
    proxy.add(Fault("status", match="more.bin", listings=True, times=1000))
    with pytest.raises(BucketError, match="failed 6 times") as caught:
        fakes.make(store, "trajectories")
    assert "\n" not in str(caught.value)
    assert objects(store, "manifests") == [] and list(machine("there").artefacts()) == []
    proxy.clear()

    def never(draft) -> None:
        raise AssertionError("it is made already")

    report = machine("here").produce(fakes.spec("trajectories"), never)
    assert report.artefact.path("data.bin").read_text() == "payload"
    assert machine("there").open(report.artefact.ref).faults(rehash=True) == []


def test_what_was_finished_and_is_damaged_since_is_made_again(machine, proxy: FaultProxy) -> None:
    store = machine("here")
    proxy.add(Fault("status", match="more.bin", listings=True, times=1000))
    with pytest.raises(BucketError):
        fakes.make(store, "trajectories")
    proxy.clear()
    [data] = store.root.glob("finished/**/data.bin")
    data.write_text("PAYLOAD")
    assert fakes.make(store, "trajectories", text="again!!").path("data.bin").read_text() == "again!!"


def test_what_was_finished_here_while_another_was_stored_is_a_leftover(machine, proxy: FaultProxy) -> None:
    store = machine("here")
    store.require_rights()
    proxy.add(Fault("status", match="more.bin", listings=True, times=1000))
    with pytest.raises(BucketError):
        fakes.make(store, "trajectories")
    proxy.clear()
    made = fakes.make(machine("there"), "trajectories")
    assert fakes.make(machine("third"), "trajectories") == machine("third").find(made.ref)
    garbage = gc.collect(store, dry_run=False)
    assert str(store.root / "finished" / str(made.ref)) in garbage.leftovers
    assert not list((store.root / "finished").rglob("*.bin")) and list((store.root / ".scratch").iterdir()) == []
    assert gc.collect(store).leftovers == ()


def test_without_write_rights_nothing_is_begun(machine, proxy: FaultProxy) -> None:
    proxy.add(Fault("status", match=".probe", status=403, listings=True, times=10))

    def never(draft) -> None:
        raise AssertionError("it is begun")

    with pytest.raises(Refused, match="does not let this account store artefacts") as caught:
        machine("here").produce(fakes.spec("trajectories"), never)
    assert "\n" not in str(caught.value)


def test_an_offline_bucket_is_neither_empty_nor_damaged(machine, proxy: FaultProxy) -> None:
    made = fakes.make(machine("here"), "trajectories")
    store = machine("here", remake=True)
    proxy.add(Fault("status", listings=True, times=1000), Fault("status", times=1000))
    for ask in (lambda: store.standing(made.ref), lambda: store.find(made.ref)):
        with pytest.raises(MayPass, match="failed 6 times"):
            ask()
    with pytest.raises(BucketError):
        store.require_reachable()


def test_damage_in_the_bucket_is_told_and_made_anew(machine, emulated: EmulatedBucket) -> None:
    made = fakes.make(machine("here"), "trajectories")
    emulated.put(f"store/files/{made.ref}/{made.digest}/stranger", b"x")
    emulated.put(f"store/files/{made.ref}/{made.digest}/data.bin", b"PAYLOAD")
    faults = [str(fault) for fault in lineage.verify(machine("there"), made.ref)]
    assert len(faults) == 2 and "data.bin: sha256 differs" in faults[0] and "stranger: not in the manifest" in faults[1]
    with pytest.raises(WorldlineError, match=r"data\.bin has sha256 .*--remake"):
        machine("there").open(made.ref)
    emulated.remove(f"store/files/{made.ref}/{made.digest}/data.bin")
    with pytest.raises(WorldlineError, match=r"is damaged: .*data\.bin: missing; delete .*manifests.* --remake"):
        machine("here").standing(made.ref)
    again = fakes.make(machine("here", remake=True), "trajectories")
    assert again.digest != made.digest and machine("there").open(made.ref).digest == again.digest


def test_damaged_manifests_and_pointers_are_named(machine, emulated: EmulatedBucket) -> None:
    made = fakes.make(machine("here"), "trajectories")
    machine("here").point("trajectories/Freeway", made.ref)
    emulated.put(f"store/manifests/{made.ref}.json", b"{}")
    emulated.put("store/refs/trajectories/Freeway.json", b"{}")
    store = machine("here")
    with pytest.raises(WorldlineError, match=rf"manifests/{made.ref}\.json is not a readable manifest"):
        store.find(made.ref)
    with pytest.raises(WorldlineError, match=r"refs/trajectories/Freeway\.json is not a readable pointer"):
        store.pointed("trajectories/Freeway")
    assert gc.plan(store, members=bucket_store.Members()) == []


def test_an_equal_artefact_is_adopted(machine) -> None:
    from pipelines.store.stage_config import Spec

    here = machine("here")
    one, other = (
        here.produce(fakes.spec("pretrained", seed=seed), fakes.with_parts(tokenizer="same", rest=str(seed))).artefact
        for seed in (1, 2)
    )
    first = Spec("tokens", "Freeway", "1", {}, (one.ref,), ("tokenizer",))
    second = Spec("tokens", "Freeway", "1", {}, (other.ref,), ("tokenizer",))
    made = here.produce(first, fakes.fill("tokens")).artefact
    report = machine("there").produce(second, fakes.fill("never"))
    assert report.adopted and report.artefact.manifest.adopted == str(made.ref)
    assert report.artefact.path("data.bin").read_text() == "tokens"


def test_pointers_are_written_once_and_removed(machine, proxy: FaultProxy) -> None:
    here, there = machine("here"), machine("there")
    made = fakes.make(here, "scores")
    here.point("scores/demo/Freeway", made.ref)
    proxy.clear()
    there.point("scores/demo/Freeway", made.ref)
    assert not [exchange for exchange in proxy.log if "upload" in exchange.name or exchange.name.startswith("PUT")]
    assert there.pointers() == {"scores/demo/Freeway": made.ref} and there.pins(made.ref)
    assert there.forget("demo") == ["scores/demo/Freeway"] and here.pointers() == {}
    assert here.pointed("scores/demo/Freeway") is None


def test_gc_spares_what_is_young_and_removes_the_rest(machine, emulated: EmulatedBucket, monkeypatch) -> None:
    store = machine("here")
    kept = fakes.make(store, "trajectories")
    child = fakes.make(store, "segments", parents=(kept.ref,))
    loose = fakes.make(store, "scores")
    store.point("segments/Freeway", child.ref)
    emulated.put(f"store/files/scores/Freeway/{'0' * 16}/{'f' * 64}/data.bin", b"killed before the manifest")
    emulated.put("store/files/README", b"no artefact's")
    emulated.put("store/leases/scores/Freeway/0.json", b"somebody")
    there = machine("there")
    there.open(loose.ref)
    assert gc.collect(there, dry_run=False).artefacts == ()
    monkeypatch.setattr(bucket_store, "GRACE", -60.0)
    listed = gc.collect(there)
    assert [artefact.ref for artefact in listed.artefacts] == [loose.ref] and len(listed.leftovers) == 2
    assert gc.collect(there, dry_run=False).bytes == listed.bytes == loose.manifest.total_bytes + 26 + 8
    assert {artefact.ref for artefact in store.artefacts()} == {kept.ref, child.ref}
    assert objects(store, "files/scores") == [] == objects(store, "leases") and objects(store, "files")[0] == "README"
    assert not (there.root / "cache" / loose.digest).exists() and lineage.verify(store, child.ref) == []


def test_an_artefact_made_anew_meanwhile_is_not_removed(machine) -> None:
    made = fakes.make(machine("here"), "scores")
    again = machine("there", remake=True)
    stale = machine("here").find(made.ref)
    shutil.rmtree(again.root, ignore_errors=True)
    again.bucket.remove(f"{stale.files_at}/data.bin")
    anew = fakes.make(again, "scores", text="anew")
    machine("here").remove(stale)
    assert machine("here").open(made.ref).digest == anew.digest


def test_addresses_of_others_in_the_bucket_are_left_alone(machine, emulated: EmulatedBucket) -> None:
    emulated.put("store/manifests/README.txt", b"notes")
    made = fakes.make(machine("here"), "scores")
    members = bucket_store.Members()
    assert [each.ref for each in machine("here").artefacts(members=members)] == [made.ref]
    assert list(members.failed) == ["README.txt"]
    assert Ref.parse(json.loads(machine("here").raw_manifest(str(made.ref)))["stage"] + "/a/b").stage == "scores"
