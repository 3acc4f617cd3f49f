"""The store in one process: commit, skip, refusals, names. Killed writers are in test_store_crashes.py."""

import errno
import os
from pathlib import Path

import pytest

from pipelines.errors import UsageError, WorldlineError
from pipelines.store import store as store_module
from pipelines.store.artefact import Draft
from pipelines.store.files import locked_now
from pipelines.store.manifest import CheckEntry
from pipelines.store.ref import Ref
from pipelines.store.store import Store, flat
from tests import fakes


def everything_in(folder: Path) -> list[str]:
    return sorted(path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file())


# ---- commit and skip ----


def test_an_artefact_holds_its_files_and_a_manifest_that_traces_them(store: Store) -> None:
    parent = fakes.make(store, "replay")
    report = store.produce(
        fakes.spec("trajectories", parents=(parent.ref,), seed=3),
        fakes.fill(counts={"rows": 3}, metrics={"mean": 0.5}, roots=[fakes.COLLECTION_ROOT]),
    )
    made = report.artefact
    assert not report.skipped
    assert made.folder == store.root / "trajectories" / "Freeway" / made.ref.key
    assert everything_in(made.folder) == ["data.bin", "manifest.json", "sub/more.bin"]
    manifest = made.manifest
    assert [(entry.path, entry.bytes) for entry in manifest.files] == [("data.bin", 7), ("sub/more.bin", 7)]
    assert manifest.parents[0].ref == str(parent.ref)
    assert manifest.parents[0].manifest_sha256 == parent.digest
    assert manifest.config == {"seed": 3}
    assert (manifest.cost["bytes_in"], manifest.cost["bytes_out"]) == (14.0, 14.0)
    assert {"numpy", "ale-py"} <= set(manifest.libraries)
    assert store.find(made.ref) == made  # what is returned is what is read back
    assert everything_in(store.root / ".partial") == everything_in(store.root / ".scratch") == []


def test_an_equal_key_skips_without_building(store: Store) -> None:
    first = fakes.make(store, "tokens", length=8)

    def never(draft: Draft) -> None:
        raise AssertionError("built twice")

    again = store.produce(fakes.spec("tokens", length=8), never)
    assert again.skipped and again.artefact == first
    assert fakes.make(store, "tokens", length=9).ref != first.ref


def test_a_failing_build_leaves_nothing_and_the_next_one_succeeds(store: Store) -> None:
    def fail(draft: Draft) -> None:
        draft.path("data.bin").write_text("half")
        (draft.scratch / "resume").write_text("step 7")
        raise RuntimeError("lost power")

    with pytest.raises(RuntimeError, match="lost power"):
        store.produce(fakes.spec(), fail)
    assert list(store.artefacts()) == [] and everything_in(store.root / ".partial") == []

    def resume(draft: Draft) -> None:
        draft.path("data.bin").write_text((draft.scratch / "resume").read_text())

    assert store.produce(fakes.spec(), resume).artefact.path("data.bin").read_text() == "step 7"
    assert everything_in(store.root / ".scratch") == []


def test_a_folder_without_manifest_is_nothing_and_is_replaced(store: Store) -> None:
    folder = store.root / "trajectories" / "Freeway" / fakes.spec().key
    folder.mkdir(parents=True)
    (folder / "stray.bin").write_text("half a copy")
    assert store.find(fakes.spec().ref) is None
    made = fakes.make(store, "trajectories")
    assert made.folder == folder and everything_in(folder) == ["data.bin", "manifest.json", "sub/more.bin"]


def test_a_stage_that_writes_nothing_or_a_link_is_refused(store: Store) -> None:
    with pytest.raises(WorldlineError, match="produced no file"):
        store.produce(fakes.spec(), lambda draft: None)
    with pytest.raises(ValueError, match="is a link"):
        store.produce(fakes.spec(), lambda draft: draft.path("x").symlink_to("/etc/passwd"))
    assert list(store.artefacts()) == []


def test_scratch_may_lie_elsewhere(tmp_path: Path) -> None:
    store = Store(tmp_path / "store", scratch=tmp_path / "fast")
    seen: list[Path] = []

    def build(draft: Draft) -> None:
        seen.append(draft.scratch)
        draft.path("x").write_text("x")

    store.produce(fakes.spec(), build)
    assert seen[0].is_relative_to(tmp_path / "fast") and not seen[0].exists()
    other = Store(tmp_path / "other", scratch=tmp_path / "fast")
    other.produce(fakes.spec(), build)  # the same key in another store
    assert seen[0].name == seen[1].name and seen[0] != seen[1]


# ---- parents ----


def test_what_was_prepared_for_several_is_there_when_each_is_made(store: Store) -> None:
    specs = [fakes.spec("scores", number=number) for number in range(3)]
    store.produce(specs[0], fakes.fill())
    with store.preparing(specs) as missing:
        assert set(missing) == {spec.ref for spec in specs[1:]}  # the first stands
        for ref, (folder, _) in missing.items():
            (folder / "log").write_text(str(ref))
            with locked_now(store.lock_path(ref)) as free:
                assert not free
    with locked_now(store.lock_path(specs[1].ref)) as free:
        assert free

    def build(draft: Draft) -> None:
        draft.path("log").write_text((draft.scratch / "log").read_text())

    for spec in specs[1:]:
        assert store.produce(spec, build).artefact.path("log").read_text() == str(spec.ref)


def test_a_missing_parent_is_refused(store: Store) -> None:
    missing = Ref("replay", "Freeway/1", "0" * 16)
    with pytest.raises(
        WorldlineError, match=r"replay/Freeway/1/0{16} is not in the store .*: make it first \(worldline fetch"
    ):
        fakes.make(store, "trajectories", (missing,))


def test_a_missing_parent_is_told_from_its_kin(store: Store) -> None:
    other = fakes.make(store, "replay")
    missing = Ref("replay", other.ref.subject, "0" * 16)
    words = rf"make it first \(.*\); there is {other.ref.key} of code version 1, of another config or code$"
    with pytest.raises(WorldlineError, match=words):
        fakes.make(store, "trajectories", (missing,))


@pytest.mark.parametrize("damage", ["flip", "grow", "remove"])
def test_a_damaged_parent_is_refused_by_name_of_the_file(store: Store, damage: str) -> None:
    parent = fakes.make(store, "replay")
    path = parent.path("sub/more.bin")
    if damage == "flip":
        fakes.flip_byte(path)
    elif damage == "grow":
        path.write_text("more than before")
    else:
        path.unlink()
    with pytest.raises(WorldlineError, match=r"is damaged: .*sub/more\.bin.*; delete .* and make it again"):
        fakes.make(store, "trajectories", (parent.ref,))
    assert [each.ref for each in store.artefacts()] == [parent.ref]


def test_large_parents_are_checked_by_size_only(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    parent = fakes.make(store, "replay")
    monkeypatch.setattr(store_module, "REHASH_PARENTS_UP_TO", 13)  # the parent has 14 bytes
    fakes.flip_byte(parent.path("data.bin"))
    assert store.open(parent.ref) == parent
    parent.path("data.bin").write_text("longer")
    with pytest.raises(WorldlineError, match="6 bytes, the manifest says 7"):
        store.open(parent.ref)


@pytest.mark.parametrize("blocking", [True, False])
def test_a_failed_check_stops_children_only_when_blocking(store: Store, blocking: bool) -> None:
    checks = [CheckEntry("sight", False, blocking, "error 0.9 above 0.5")]
    parent = store.produce(fakes.spec("pretrained"), fakes.fill(checks=checks)).artefact
    if blocking:
        with pytest.raises(WorldlineError, match=r"failed its check 'sight' \(error 0.9 above 0.5\)"):
            fakes.make(store, "tokens", (parent.ref,))
    else:
        assert fakes.make(store, "tokens", (parent.ref,)).manifest.parents


def test_an_artefact_that_lost_a_file_is_not_skipped_for(store: Store) -> None:
    made = fakes.make(store, "tokens")
    made.path("data.bin").unlink()
    with pytest.raises(WorldlineError, match=r"is damaged: .*data\.bin: missing; delete .* and run this again"):
        fakes.make(store, "tokens")


def test_damaged_and_moved_manifests_are_refused(store: Store) -> None:
    made = fakes.make(store, "tokens")
    moved = made.folder.rename(made.folder.with_name("0" * 16))
    with pytest.raises(WorldlineError, match="folders must not be renamed"):
        store.find(Ref("tokens", "Freeway", "0" * 16))
    (moved / "manifest.json").write_text("{")
    for ask in (lambda: store.find(Ref("tokens", "Freeway", "0" * 16)), lambda: list(store.artefacts())):
        with pytest.raises(WorldlineError, match=r"manifest\.json is not a readable manifest"):
            ask()


# ---- disks ----


def test_a_store_under_a_file_is_refused_for_root_too(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    for root in (tmp_path / "file", tmp_path / "file" / "store"):
        store = Store(root)
        assert store.find(fakes.spec().ref) is None
        for attempt in (lambda s=store: fakes.make(s, "tokens"), lambda s=store: s.point("a", fakes.spec().ref)):
            with pytest.raises(
                WorldlineError, match=r"is not writable .*: set WORLDLINE_HOME, or artefact_root"
            ) as caught:
                attempt()
            assert caught.value.exit_code == 1


def test_a_full_disk_while_building_or_syncing_leaves_nothing(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: object) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    with pytest.raises(WorldlineError, match=r"No space left in the store .*: free some or set WORLDLINE_HOME"):
        store.produce(fakes.spec(), full)
    with monkeypatch.context() as patch:
        patch.setattr(os, "fsync", full)
        with pytest.raises(WorldlineError, match="No space left"):
            fakes.make(store, "trajectories")
        with pytest.raises(WorldlineError, match="No space left"):
            store.point("scores/a", fakes.spec().ref)
    assert list(store.artefacts()) == [] and store.pointers() == {}
    assert everything_in(store.root / ".partial") == everything_in(store.root / "refs") == []
    assert not fakes.make(store, "trajectories").manifest.checks


# ---- listing and names ----


def test_artefacts_come_in_order_and_manifests_inside_artefacts_are_files(store: Store) -> None:
    def build(draft: Draft) -> None:
        draft.path("a/b/c/manifest.json").write_text("not ours")

    inner = store.produce(fakes.spec("export"), build).artefact
    tokens = fakes.make(store, "tokens")
    store.point("tokens/latest", tokens.ref)
    assert [each.ref for each in store.artefacts()] == [inner.ref, tokens.ref]
    assert list(Store(store.root / "nowhere").artefacts()) == []


def test_pointers_move_and_addresses_resolve(store: Store) -> None:
    one, two = fakes.make(store, "scores", seed=1), fakes.make(store, "scores", seed=2)
    store.point("scores/demo-1a2b/Freeway.v1", one.ref)
    store.point("scores/demo-1a2b/Freeway.v1", two.ref)
    assert store.resolve("scores/demo-1a2b/Freeway.v1") == two.ref
    assert store.resolve(str(one.ref)) == one.ref
    assert store.pointers() == {"scores/demo-1a2b/Freeway.v1": two.ref}
    assert store.pins(two.ref) == {"scores/demo-1a2b/Freeway.v1": two.digest} and store.pins(one.ref) == {}
    with pytest.raises(WorldlineError, match=r"Nothing in .* is called 'scores/demo-1a2b'"):
        store.resolve("scores/demo-1a2b")


def test_forgetting_removes_names_and_nothing_else(store: Store) -> None:
    one = fakes.make(store, "tokens")
    for name in ("tokens/demo-1a2b/Pong", "scores/demo-1a2b/Pong/2026-W47", "tokens/demo-1a2b3/Pong"):
        store.point(name, one.ref)
    assert sorted(store.forget("demo-1a2b")) == ["scores/demo-1a2b/Pong/2026-W47", "tokens/demo-1a2b/Pong"]
    assert list(store.pointers()) == ["tokens/demo-1a2b3/Pong"] and store.find(one.ref) is not None
    assert store.forget("demo-1a2b") == []


@pytest.mark.parametrize("name", ["", "../x", "a/../../b", "a//b", "/", ".locks/store", "a b", "x" * 300])
def test_names_that_leave_the_store_are_refused(store: Store, name: str) -> None:
    for ask in (lambda: store.resolve(name), lambda: store.point(name, fakes.spec().ref)):
        with pytest.raises(UsageError):
            ask()
    assert not store.root.exists()


@pytest.mark.parametrize("text", ["", "{", "[]", '{"ref": 3}', '{"ref": "../.."}', "{}", '{"ref": "a/b/c", "x": 1}'])
def test_damaged_pointers_are_one_clear_error(store: Store, text: str) -> None:
    store.point("scores/a", fakes.spec().ref)
    path = store.root / "refs" / "scores" / "a.json"
    path.write_text(text)
    for ask in (lambda: store.resolve("scores/a"), store.pointers):
        with pytest.raises(WorldlineError, match=r"a\.json is not a readable pointer .*: delete it"):
            ask()


def test_two_addresses_never_share_a_lock_or_scratch() -> None:
    assert flat(Ref("a", "b/c", "d")) != flat(Ref("a", "b--c", "d")) != flat(Ref("a", "b", "c--d"))


def test_what_a_scratch_folder_was_begun_from_survives_a_power_cut(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    parent, synced = fakes.make(store, "replay"), fakes.Synced(monkeypatch)

    def build(draft: Draft) -> None:
        assert draft.scratch / "parents.json" in synced, "empty, it would say that the parents changed"
        draft.path("data.bin").write_bytes(b"x")

    store.produce(fakes.spec(parents=(parent.ref,)), build)
