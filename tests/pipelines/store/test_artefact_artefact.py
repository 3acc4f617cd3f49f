"""Artefacts: files by name only, and faults that name the file."""

import pytest

from pipelines.errors import WorldlineError
from pipelines.store.store import Store
from tests import fakes


def test_files_are_reached_by_listed_names_only(store: Store) -> None:
    artefact = fakes.make(store, "tokens")
    assert artefact.names() == ["data.bin", "sub/more.bin"]
    assert artefact.path("sub/more.bin").read_text() == "daolyap"
    for name in ("manifest.json", "../../../refs", "other.bin"):
        with pytest.raises(WorldlineError, match=r"has no file .*: it holds data\.bin, sub/more\.bin"):
            artefact.path(name)


def test_faults_name_the_file_and_only_hashing_sees_a_flipped_byte(store: Store) -> None:
    artefact = fakes.make(store, "tokens")
    data, more = artefact.path("data.bin"), artefact.path("sub/more.bin")
    assert artefact.faults(rehash=True) == []
    fakes.flip_byte(data)
    assert artefact.faults(rehash=False) == []
    assert artefact.faults(rehash=True) == [f"{data}: sha256 differs from the manifest"]
    data.write_text("long" * 9)
    more.unlink()
    assert artefact.faults(rehash=False) == [f"{data}: 36 bytes, the manifest says 7", f"{more}: missing"]
