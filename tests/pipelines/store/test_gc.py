"""Collecting garbage: what a pointer leads to stays, all else goes, living writers are left alone."""

import shutil
import time
from pathlib import Path

import pytest

from pipelines.errors import Members, WorldlineError
from pipelines.store import gc
from pipelines.store.artefact import Draft
from pipelines.store.files import locked
from pipelines.store.lineage import verify
from pipelines.store.store import Store
from tests import fakes

HOLD = """
import sys, time
from pathlib import Path
from pipelines.store.store import Store
from tests import fakes

def build(draft):
    draft.path("data.bin").write_text("half")
    print("building", flush=True)
    time.sleep(60)

Store(Path(sys.argv[1])).produce(fakes.spec(), build)
"""


def files_under(folder: Path) -> set[Path]:
    return {path for path in folder.rglob("*") if path.is_file() and ".locks" not in path.parts}


def test_pointers_and_roots_keep_their_ancestors(store: Store) -> None:
    made = fakes.chain(store)
    assert {each.ref for each in gc.plan(store)} == {each.ref for each in made.values()}
    assert gc.plan(store, [made["scores"].ref]) == []
    store.point("tokens/demo", made["tokens"].ref)
    assert [each.ref.stage for each in gc.plan(store)] == ["scores", "trajectories"]
    assert [each.ref.stage for each in gc.plan(store, [made["trajectories"].ref])] == ["scores"]


def test_children_go_before_their_parents(store: Store) -> None:
    made = fakes.chain(store)
    order = [each.ref for each in gc.plan(store)]
    for artefact in made.values():
        for parent in gc.parents_of(artefact):
            assert order.index(artefact.ref) < order.index(parent)


def test_a_dry_run_changes_nothing_and_a_real_one_removes_exactly_that(store: Store) -> None:
    made = fakes.chain(store)
    store.point("tokens/demo", made["tokens"].ref)
    before = files_under(store.root)
    dry = gc.collect(store)
    assert files_under(store.root) == before and dry.bytes == 4 * 7
    done = gc.collect(store, dry_run=False)
    assert done == dry
    assert {each.ref.stage for each in store.artefacts()} == {"tokens", "replay", "collected_replay"}
    assert not (store.root / "scores").exists()  # no empty folders are left either
    assert verify(store, made["tokens"].ref) == []
    assert gc.collect(store, dry_run=False).bytes == 0
    again = fakes.make(store, "trajectories", (made["replay"].ref,))
    assert again.ref == made["trajectories"].ref


def test_what_a_killed_writer_left_goes_but_a_living_one_is_left_alone(store: Store) -> None:
    writer = fakes.start(HOLD, store.root)
    assert writer.stdout is not None and writer.stdout.readline() == "building\n"
    assert gc.leftovers(store) == []
    with pytest.raises(WorldlineError, match="Something is being made in the store"):
        gc.collect(store, dry_run=False)
    writer.kill()
    fakes.finish(writer)
    (left,) = gc.leftovers(store)
    assert left.parent.name == ".partial"
    garbage = gc.collect(store, dry_run=False)
    assert garbage.leftovers == (left,) and garbage.bytes == 4
    assert list((store.root / ".partial").iterdir()) == []
    assert len(list(store.scratch.iterdir())) == 1  # its resumable state stays for the next try


BEGIN = """
import sys, time
from pathlib import Path
from pipelines.store.store import Store
from tests import fakes

def build(draft):
    (draft.scratch / "state.pt").write_text("half")
    (draft.scratch / f".state.pt.{sys.argv[2]}").write_text("torn")
    print("building", flush=True)
    time.sleep(60)

Store(Path(sys.argv[1])).produce(fakes.spec(), build)
"""


def test_scratch_of_an_unfinished_run_is_listed_and_goes_on_request_unless_its_lock_is_held(store: Store) -> None:
    writer = fakes.start(BEGIN, store.root, 1)
    assert writer.stdout is not None and writer.stdout.readline() == "building\n"
    assert gc.unfinished(store) == []
    writer.kill()
    fakes.finish(writer)
    (left,) = gc.collect(store, dry_run=False).unfinished
    assert left.ref == str(fakes.spec().ref) and left.bytes >= 8  # and what the attempt cost
    assert time.time() - 60 < left.written <= time.time() + 1
    with locked(store.lock_path(fakes.spec().ref)):
        assert gc.collect(store, dry_run=False, drop_unfinished=True).unfinished == ()
    assert left.folder.is_dir()
    assert gc.collect(store, drop_unfinished=True).bytes == left.bytes and left.folder.is_dir()
    assert gc.collect(store, dry_run=False, drop_unfinished=True).unfinished == (left,)
    assert not left.folder.exists() and gc.unfinished(store) == []


def test_a_resumed_run_sweeps_what_a_dead_one_wrote_aside_and_keeps_its_state(store: Store) -> None:
    writer = fakes.start(BEGIN, store.root, 1)
    assert writer.stdout is not None and writer.stdout.readline() == "building\n"
    writer.kill()
    fakes.finish(writer)
    found: list[str] = []

    def build(draft: Draft) -> None:
        found.extend(path.name for path in draft.scratch.iterdir())
        draft.path("data.bin").write_text("whole")

    store.produce(fakes.spec(), build)
    assert set(found) - {"cost.json"} == {"state.pt"}


def test_scratch_of_a_finished_artefact_goes(store: Store) -> None:
    made = fakes.make(store, "tokens")
    store.point("tokens/demo", made.ref)
    left = store.scratch / f"tokens@Freeway@{made.ref.key}"
    left.mkdir(parents=True)
    assert gc.collect(store, dry_run=False).leftovers == (left,)
    assert not left.exists()


def test_a_collection_killed_while_deleting_leaves_a_leftover_not_half_an_artefact(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    made = fakes.make(store, "tokens")

    def killed(path: Path) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(shutil, "rmtree", killed)
        gc.collect(store, dry_run=False)
    assert store.find(made.ref) is None and not made.folder.exists()
    assert len(gc.leftovers(store)) == 1
    gc.collect(store, dry_run=False)
    assert gc.leftovers(store) == []


def test_a_damaged_manifest_stops_the_collection(store: Store) -> None:
    made = fakes.chain(store)
    (made["tokens"].folder / "manifest.json").write_text("{")
    with pytest.raises(WorldlineError, match="not a readable manifest"):
        gc.collect(store, dry_run=False)
    assert made["scores"].faults(rehash=True) == []


def test_an_empty_store_and_a_dangling_pointer_are_fine(store: Store) -> None:
    assert gc.collect(store).artefacts == () and not store.root.exists()
    store.point("scores/gone", fakes.spec("scores").ref)
    assert gc.collect(store, dry_run=False).artefacts == ()


def test_a_damaged_manifest_stops_no_other_and_keeps_what_it_still_names(store: Store) -> None:
    made, lost = fakes.chain(store), fakes.make(store, "scores", text="nobody's")
    manifest = made["tokens"].folder / "manifest.json"
    manifest.write_bytes(manifest.read_bytes()[:-20])
    with pytest.raises(WorldlineError, match="not a readable manifest"):
        gc.plan(store)
    members = Members()
    gone = gc.collect(store, dry_run=False, members=members)
    assert [*members.failed] == [str(made["tokens"].ref)] and manifest.is_file()
    named = {parent.ref for parent in made["tokens"].manifest.parents}
    assert {str(each.ref) for each in gone.artefacts} >= {str(lost.ref), str(made["scores"].ref)}
    assert named and not named & {str(each.ref) for each in gone.artefacts}


def test_a_damaged_pointer_keeps_what_it_may_mean(store: Store) -> None:
    made = fakes.chain(store)
    store.point("tokens/demo", made["tokens"].ref)
    store.pointer_path("tokens/demo").write_text("")
    members = Members()
    assert [each.ref.stage for each in gc.plan(store, members=members)] == ["scores", "trajectories"]
    assert [*members.failed] == ["tokens/demo"]
    assert store.forget("demo") == ["tokens/demo"] and store.pointers() == {}
