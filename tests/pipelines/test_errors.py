"""Which failures may pass, and what a user reads of one that nobody foresaw."""

import errno
from pathlib import Path

import pytest
import torch

from pipelines.cli import run
from pipelines.errors import may_pass
from pipelines.store.store import Store


@pytest.mark.parametrize(
    ("error", "passing"),
    [
        (OSError(errno.EIO, "Input/output error"), True),
        (OSError(errno.ESTALE, "Stale file handle"), True),
        (PermissionError(errno.EACCES, "Permission denied"), True),
        (TimeoutError("the bucket is silent"), True),
        (MemoryError(), True),
        (torch.OutOfMemoryError("CUDA out of memory"), True),
        (RuntimeError("DefaultCPUAllocator: can't allocate memory"), True),
        (FileNotFoundError(errno.ENOENT, "No such file or directory"), False),
        (OSError(errno.EINVAL, "Invalid argument"), False),  # a seek to where a damaged file points
        (OSError("Unable to open file (truncated file)"), False),  # HDF5's word for other bytes than it expects
        (ValueError("no zip file"), False),
    ],
)
def test_a_disk_or_memory_that_fails_is_no_damaged_file(error: BaseException, passing: bool) -> None:
    assert may_pass(error) is passing


def test_a_disk_that_fails_anywhere_is_one_line_and_no_fault_of_worldline(
    tmp_path: Path, capsys: pytest.CaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: object) -> None:
        raise OSError(errno.EIO, "Input/output error", "pong.gz")

    monkeypatch.setenv("WORLDLINE_HOME", str(tmp_path))
    monkeypatch.setattr(Store, "pointers", fail)
    assert run(["games"]) == 1
    line = capsys.readouterr().err
    assert line.startswith("OSError: [Errno 5] Input/output error: 'pong.gz': nothing is lost; mend")
    assert line.count("\n") == 1
