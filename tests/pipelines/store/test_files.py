"""Full disks and foreign folders are one line; hashes have published check values; locks hold across processes."""

import errno
from pathlib import Path

import pytest

from pipelines.errors import WorldlineError
from pipelines.store.files import locked, locked_now, sha256_of, writable, write_whole
from tests import fakes


@pytest.mark.parametrize(
    "error",
    [
        OSError(errno.ENOSPC, "No space left on device"),
        OSError(errno.EDQUOT, "Disk quota exceeded"),
        OSError(errno.EFBIG, "File too large"),
        OSError("Can't write data (file write failed: errno = 28, error message = 'No space left on device')"),
        RuntimeError("Error while serializing: I/O error: No space left on device (os error 28)"),
        OSError("100000 requested and 12484 written"),
        RuntimeError("basic_ios::clear: iostream error"),
        RuntimeError("[enforce fail at inline_container.cc:672] . unexpected pos 64 vs 0"),
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


# ---- hashes against published check values ----


def test_a_hash_is_the_published_one(tmp_path: Path) -> None:
    path = tmp_path / "x"
    path.write_bytes(b"abc")
    assert sha256_of(path) == "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"  # FIPS 180-2


# ---- locks across real processes ----


HOLD = """
import sys, time
from pathlib import Path
from pipelines.store.files import locked
with locked(Path(sys.argv[1]), shared=sys.argv[2] == "shared"):
    print("held", flush=True)
    time.sleep(60)
"""


def test_alone_excludes_everyone_until_the_holder_is_killed(tmp_path: Path) -> None:
    path = tmp_path / "deep" / "lock"
    holder = fakes.start(HOLD, path, "alone")
    assert holder.stdout is not None and holder.stdout.readline() == "held\n"
    with locked_now(path) as free:
        assert not free
    waited: list[bool] = []

    def on_wait() -> None:
        waited.append(True)
        holder.kill()

    with locked(path, on_wait=on_wait):
        assert waited == [True]
    fakes.finish(holder)


def test_sharers_do_not_wait_for_each_other_but_keep_the_lonely_out(tmp_path: Path) -> None:
    path = tmp_path / "lock"
    holder = fakes.start(HOLD, path, "shared")
    assert holder.stdout is not None and holder.stdout.readline() == "held\n"
    with locked(path, shared=True):
        pass
    with locked_now(path) as free:
        assert not free
    holder.kill()
    fakes.finish(holder)
    with locked_now(path) as free:
        assert free


def test_a_file_that_is_written_as_a_whole_is_on_the_disk_before_it_has_its_name(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path, aside, synced = tmp_path / "x", tmp_path / ".x", fakes.Synced(monkeypatch)
    path.write_bytes(b"old")
    assert path not in synced
    write_whole(path, b"new", aside)
    assert path.read_bytes() == b"new" and path in synced and not aside.exists()

    def refuse(handle: int) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr("os.fsync", refuse)
    with pytest.raises(OSError, match="No space"):
        write_whole(path, b"newer", aside)
    assert path.read_bytes() == b"new" and not aside.exists()
