"""Every way a library says 'disk full' becomes the same line; errors about other files pass through."""

import errno
from pathlib import Path

import pytest

from pipelines.errors import WorldlineError
from pipelines.store.files import writable


@pytest.mark.parametrize(
    "error",
    [
        OSError(errno.ENOSPC, "No space left on device"),
        OSError(errno.EDQUOT, "Disk quota exceeded"),
        OSError(errno.EFBIG, "File too large"),
        OSError("Can't write data (file write failed: errno = 28, error message = 'No space left on device')"),
        RuntimeError("Error while serializing: I/O error: No space left on device (os error 28)"),
        OSError("100000 requested and 12484 written"),
    ],
)
def test_a_full_disk_is_one_line(tmp_path: Path, error: Exception) -> None:
    text = r"No space left in the store .* set WORLDLINE_HOME, or .* to another disk"
    with pytest.raises(WorldlineError, match=text) as caught, writable(tmp_path):
        raise error
    assert caught.value.exit_code == 1 and "\n" not in str(caught.value)


@pytest.mark.parametrize("number", [errno.EACCES, errno.EPERM, errno.EROFS, errno.ENOTDIR])
def test_a_refusal_below_the_root_is_the_stores(tmp_path: Path, number: int) -> None:
    with pytest.raises(WorldlineError, match=r"is not writable .* or a folder you own"), writable(tmp_path):
        raise OSError(number, "refused", str(tmp_path / "x"))


def test_errors_about_other_files_and_other_errors_pass(tmp_path: Path) -> None:
    with pytest.raises(PermissionError), writable(tmp_path):
        raise PermissionError(errno.EACCES, "refused", "/elsewhere/bucket/file.gz")
    with pytest.raises(OSError, match="input/output"), writable(tmp_path):
        raise OSError(errno.EIO, "input/output")
    with pytest.raises(KeyError), writable(tmp_path):
        raise KeyError("errno")


def test_a_root_that_is_or_lies_under_a_file_is_refused(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    for root in (tmp_path / "file", tmp_path / "file" / "store"):
        with pytest.raises(WorldlineError, match="is not writable"), writable(root):
            raise AssertionError("never entered")
