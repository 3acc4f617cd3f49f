"""Drafts keep their files inside and record checks; artefacts name their faults; reports say what was done."""

from pathlib import Path

import pytest

from pipelines.errors import WorldlineError
from pipelines.store.artefact import Draft
from pipelines.store.manifest import CheckEntry
from pipelines.store.store import Store
from tests import fakes


@pytest.fixture
def draft(tmp_path: Path) -> Draft:
    for name in ("draft", "scratch"):
        (tmp_path / name).mkdir()
    return Draft(fakes.spec(), tmp_path / "draft", tmp_path / "scratch", {})


@pytest.mark.parametrize("name", ["../x", "a/../../x", "/etc/x", "", ".", "a/../b"])
def test_names_that_leave_the_folder_are_refused(draft: Draft, name: str) -> None:
    with pytest.raises(ValueError, match="leaves the artefact's folder"):
        draft.path(name)
    assert list(draft.files()) == []


def test_a_link_out_of_the_folder_is_refused_for_writing_and_for_commit(draft: Draft, tmp_path: Path) -> None:
    (draft.folder / "out").symlink_to(tmp_path / "scratch")
    with pytest.raises(ValueError, match="leaves"):
        draft.path("out/x")
    with pytest.raises(ValueError, match="is a link"):
        list(draft.files())


def test_the_manifest_cannot_be_written_by_a_stage(draft: Draft) -> None:
    with pytest.raises(ValueError, match="the store's own file"):
        draft.path("manifest.json")
    assert draft.path("sub/manifest.json").parent.is_dir()


def test_files_come_in_order_and_checks_are_kept(draft: Draft) -> None:
    for name in ("b.bin", "a/z.bin", "a/c.bin"):
        draft.path(name).write_text(name)
    assert [path.relative_to(draft.folder).as_posix() for path in draft.files()] == ["a/c.bin", "a/z.bin", "b.bin"]
    draft.check("rows", False, "0 rows", blocking=True)
    draft.check("cols", True, "2 columns", counts={"cols": 2}, picture="a.png")
    assert draft.checks == [
        CheckEntry("rows", False, True, "0 rows"),
        CheckEntry("cols", True, False, "2 columns", {"cols": 2}, "a.png"),
    ]


# ---- artefacts: files by name only, and faults that name the file ----


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


# ---- the line that a stage prints ----


def test_made_and_skipped_are_told_apart(store: Store) -> None:
    build = fakes.fill(counts={"rows": 12_345})
    made, again = (store.produce(fakes.spec(), build) for _ in range(2))
    assert str(made).startswith(f"{made.artefact.ref}: made in ")
    assert "12,345 rows" in str(made)
    assert made.findings == [] and not made.blocked
    assert "already there" in str(again) and "same config, code version and parents" in str(again)


def test_failed_checks_are_said_and_a_blocking_one_is_told_apart(store: Store) -> None:
    def build(draft: Draft) -> None:
        draft.path("file.txt").write_text("rows")
        draft.check("fine", True, "all is well")
        draft.check("no_gap", False, "1 gap")
        draft.check("rewards", False, "3 odd rewards", blocking=True)

    report = store.produce(fakes.spec(), build)
    assert report.findings == [
        "  note: no_gap, 1 gap",
        "  failed, nothing may be made from this: rewards, 3 odd rewards",
    ]
    assert report.blocked and str(report).endswith("3 odd rewards")


def test_what_cannot_be_read_is_not_called_missing_or_damaged(store: Store, monkeypatch) -> None:
    """Who is told that it is missing deletes the artefact; the right to read it may come back."""
    artefact = fakes.make(store, "tokens")

    def refuse(*_: object) -> str:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr("pipelines.store.artefact.sha256_of", refuse)
    with pytest.raises(WorldlineError, match=r"cannot be read now \(PermissionError: .*Permission denied\)") as caught:
        store.open(artefact.ref)
    assert "delete" not in str(caught.value) and "missing" not in str(caught.value)


def test_a_folder_in_a_files_place_is_not_called_missing(store: Store) -> None:
    artefact = fakes.make(store, "tokens")
    (artefact.folder / "data.bin").unlink()
    (artefact.folder / "data.bin").mkdir()
    assert artefact.faults(rehash=False) == [f"{artefact.folder / 'data.bin'}: no file has that name"]
