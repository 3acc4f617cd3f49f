"""Drafts: files stay inside, links and the store's own name are refused, checks are recorded."""

from pathlib import Path

import pytest

from pipelines.store.artefact import Draft
from pipelines.store.manifest import CheckEntry
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
