"""Where an export goes: what stood there goes when the new one has its name, and not before."""

import errno
from pathlib import Path

import pytest

from pipelines.tools.exports.target import SUFFIX, Origin, target

ORIGIN = Origin("trajectories/Pong/0123456789abcdef", "0" * 64, "jowa-h5", {})


@pytest.mark.parametrize("fails", [1, 2, 3, 4])
def test_a_failure_at_any_rename_leaves_the_old_export_and_its_lineage(
    tmp_path: Path, fails: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "Pong.h5"
    with target(path, ORIGIN, overwrite=False) as aside:
        aside.write_text("old")
    before = {each.name: each.read_bytes() for each in tmp_path.iterdir()}
    assert sorted(before) == ["Pong.h5", "Pong.h5" + SUFFIX]
    rename, calls = Path.rename, []

    def failing(self: Path, to: Path) -> Path:
        calls.append(self)
        if len(calls) == fails:
            raise OSError(errno.EIO, "Input/output error")
        return rename(self, to)

    with monkeypatch.context() as patch, pytest.raises(OSError, match="Input/output error"):
        patch.setattr(Path, "rename", failing)
        with target(path, ORIGIN, overwrite=True) as aside:
            aside.write_text("new")
    assert {each.name: each.read_bytes() for each in tmp_path.iterdir()} == before
    with target(path, ORIGIN, overwrite=True) as aside:
        aside.write_text("new")
    assert path.read_text() == "new" and sorted(each.name for each in tmp_path.iterdir()) == sorted(before)
