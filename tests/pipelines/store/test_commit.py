"""Parts in manifests: hashes of files and arrays, and how a child's manifest pins what it read."""

import pytest

from pipelines.store.artefact import Draft
from pipelines.store.manifest import Manifest
from pipelines.store.stage_config import Spec
from pipelines.store.store import Store
from tests import fakes


def test_parts_of_files_and_of_arrays_stand_in_the_manifest(store: Store) -> None:
    def build(draft: Draft) -> None:
        fakes.fill()(draft)
        draft.part("whole", files=["data.bin", "sub/more.bin"])
        draft.part("turned", files=["sub/more.bin", "data.bin"])
        draft.part("first", files=["data.bin"])
        draft.part("frames", digest="f" * 64)

    manifest = store.produce(fakes.spec(), build).artefact.manifest
    assert manifest.parts["whole"] == manifest.parts["turned"]
    assert manifest.parts["first"].files == ("data.bin",) and manifest.parts["frames"].content == "f" * 64
    assert len({part.sha256 for part in manifest.parts.values()}) == 3
    assert manifest.part_faults() == []
    assert Manifest.from_bytes(manifest.to_bytes(), "here") == manifest


def test_a_part_of_nothing_or_of_an_absent_file_is_refused(store: Store) -> None:
    def build(draft: Draft) -> None:
        fakes.fill()(draft)
        with pytest.raises(ValueError, match="consists of nothing"):
            draft.part("frames")
        draft.part("frames", files=["absent.bin"])

    with pytest.raises(ValueError, match=r"'absent.bin', which was not written: it holds data\.bin, sub/more\.bin"):
        store.produce(fakes.spec(), build)
    assert list(store.artefacts()) == []


def test_a_child_pins_the_part_that_it_read_and_an_old_parent_as_a_whole(store: Store) -> None:
    old = fakes.make(store, "trajectories")
    new = store.produce(fakes.spec("pretrained"), fakes.with_parts(tokenizer="codes", world="dynamics")).artefact
    spec = Spec("tokens", "Freeway", "1", {}, (old.ref, new.ref), ("frames", "tokenizer"))
    one, two = store.produce(spec, fakes.fill()).artefact.manifest.parents
    assert (one.part, one.part_sha256, one.manifest_sha256) == ("", "", old.digest)
    assert (two.part, two.part_sha256) == ("tokenizer", new.manifest.parts["tokenizer"].sha256)


def test_without_parts_a_manifest_has_the_fields_that_older_releases_know(store: Store) -> None:
    parent = fakes.make(store, "replay")
    raw = fakes.make(store, "trajectories", (parent.ref,)).manifest.to_bytes()
    assert not any(name in raw for name in (b'"parts"', b'"part"', b'"part_sha256"', b'"adopted"'))
