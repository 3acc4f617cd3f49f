"""Verification finds any altered byte anywhere in the tree and names the file."""

import shutil

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from pipelines.errors import WorldlineError
from pipelines.store.lineage import Fault, verify
from pipelines.store.manifest import MANIFEST_NAME
from pipelines.store.ref import Ref
from pipelines.store.store import Store
from tests import fakes

STAGES = ("collected_replay", "replay", "trajectories", "tokens", "scores")


def test_a_sound_lineage_has_no_faults(store: Store) -> None:
    assert verify(store, fakes.chain(store)["scores"].ref) == []


@settings(deadline=None, max_examples=25, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.sampled_from(STAGES), st.sampled_from(["data.bin", "sub/more.bin"]), st.integers(0, 2))
def test_one_flipped_byte_anywhere_names_the_file(store: Store, stage: str, name: str, at: int) -> None:
    made = fakes.chain(store)
    path = made[stage].path(name)
    fakes.flip_byte(path, at)
    assert verify(store, made["scores"].ref) == [Fault(made[stage].ref, f"{path}: sha256 differs from the manifest")]
    fakes.flip_byte(path, at)


@settings(deadline=None, max_examples=25, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.sampled_from(STAGES[:-1]), st.data())
def test_one_flipped_byte_in_an_ancestors_manifest_is_found(store: Store, stage: str, data: st.DataObject) -> None:
    made = fakes.chain(store)
    path = made[stage].folder / MANIFEST_NAME
    at = data.draw(st.integers(0, path.stat().st_size - 1))
    fakes.flip_byte(path, at)
    try:
        assert made[stage].ref in {fault.ref for fault in verify(store, made["scores"].ref)}
    finally:
        fakes.flip_byte(path, at)


def test_an_edited_config_at_the_top_does_not_give_its_key(store: Store) -> None:
    made = fakes.make(store, "scores", protocol="sticky")
    path = made.folder / MANIFEST_NAME
    path.write_bytes(path.read_bytes().replace(b'"sticky"', b'"jowa"'))
    (fault,) = verify(store, made.ref)
    assert str(path) in fault.detail and "give the key" in fault.detail


def test_a_changed_count_at_the_top_differs_from_what_its_name_recorded(store: Store) -> None:
    made = fakes.make(store, "scores")
    store.point("scores/demo/Freeway", made.ref)
    assert verify(store, made.ref) == []
    path = made.folder / MANIFEST_NAME
    path.write_bytes(path.read_bytes().replace(b'"rows": 3', b'"rows": 4'))
    (fault,) = verify(store, made.ref)
    assert fault.detail == f"{path}: sha256 differs from what the name 'scores/demo/Freeway' recorded"


def test_an_extra_file_and_a_removed_one_are_both_named(store: Store) -> None:
    made = fakes.chain(store)
    extra = made["tokens"].folder / "sub" / "0.0.7"
    extra.write_text("a chunk that no stage wrote")
    made["replay"].path("data.bin").unlink()
    faults = [str(fault) for fault in verify(store, made["scores"].ref)]
    assert faults == [
        f"{made['tokens'].ref}: {extra}: not in the manifest",
        f"{made['replay'].ref}: {made['replay'].path('data.bin')}: missing",
    ]


def test_a_missing_ancestor_is_one_fault_however_many_use_it(store: Store) -> None:
    made = fakes.chain(store)
    shutil.rmtree(made["replay"].folder)
    (fault,) = verify(store, made["scores"].ref)
    assert fault.ref == made["replay"].ref and "missing from the store" in fault.detail
    with pytest.raises(WorldlineError, match="is not in the store"):
        verify(store, Ref("scores", "Pong", "0" * 16))


def test_number_like_keys_in_a_config_verify(store: Store) -> None:
    made = fakes.make(store, "tokens", by_game={2: 0.5, 10: 0.25}, pair=(1, 2))
    assert verify(store, made.ref) == []
