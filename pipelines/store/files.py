"""Files on disk: content hashes, locks between processes, and the operating system's errors as one line.

The kernel lets go of a lock when its holder dies, kill -9 included.
"""

import errno
import fcntl
import hashlib
import os
import re
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from pipelines.errors import UsageError, WorldlineError

SUMS = "SHA256SUMS"


def sha256_of(path: Path) -> str:
    """Hex sha256 of a file."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def listing(folder: Path) -> str:
    """The text of SHA256SUMS for all files that lie in `folder`, as `sha256sum` prints it."""
    names = sorted(path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file())
    return "".join(f"{sha256_of(folder / name)}  {name}\n" for name in names if name != SUMS)


def named_file(name: str, file: str, sha256: str, verb: str = "pretrain") -> Path:
    """A file of weights of others that training wants, known by its sha256. `verb`: whose settings name it.

    Raises UsageError where file or digest is missing, or the file is another one.
    """
    if not file:
        raise UsageError(
            f"{name.upper()} weights{f' of sha256 {sha256}' if sha256 else ''} are wanted: say where they lie "
            f"({verb}.{name}_file=PATH)"
        )
    try:
        found = sha256_of(Path(file))
    except OSError as error:
        raise UsageError(f"{name.upper()} weights {file} cannot be read ({error.strerror}): give a file") from error
    if found != sha256:
        meant = f"not {sha256}" if re.fullmatch("[0-9a-f]{64}", sha256) else "which the config must name"
        raise UsageError(
            f"{name.upper()} weights {file} have sha256 {found}, {meant}: set {verb}.{name}_sha256={found}"
        )
    return Path(file)


def sync(path: Path) -> None:
    """Have the disk hold what was written to a file or folder."""
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def write_whole(path: Path, content: bytes, aside: Path) -> None:
    """Write a file by way of `aside`, beside it: whoever reads it, and after a power cut too, finds the old or the new.

    A rename alone may reach the disk before the bytes do.
    """
    try:
        aside.write_bytes(content)
        sync(aside)
        aside.replace(path)
    finally:
        aside.unlink(missing_ok=True)


def _nothing() -> None:
    pass


@contextmanager
def locked(path: Path, shared: bool = False, on_wait: Callable[[], None] = _nothing) -> Iterator[None]:
    """Hold the lock file `path`, waiting for as long as it takes; `on_wait` is called once when that is not at once.

    Any number of holders may share it (`shared`), or one holds it alone.
    """
    kind = fcntl.LOCK_SH if shared else fcntl.LOCK_EX
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("a") as file:
        try:
            fcntl.flock(file, kind | fcntl.LOCK_NB)
        except BlockingIOError:
            on_wait()
            fcntl.flock(file, kind)
        yield


@contextmanager
def locked_now(path: Path) -> Iterator[bool]:
    """Hold the lock file `path` alone if nobody else holds it; yields whether that worked, without waiting."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("a") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            yield False
            return
        yield True


DISK_FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)

# HDF5 and safetensors name the errno in the text only; NumPy says how much less than requested was written, and torch
# that its stream failed or stands elsewhere than it should.
DISK_FULL_TEXT = re.compile(
    rf"(errno = |os error |Errno )({'|'.join(map(str, DISK_FULL))})\b|\d requested and \d+ written"
    r"|iostream error|unexpected pos \d+ vs \d+"
)

NOT_WRITABLE = (errno.EACCES, errno.EPERM, errno.ENOTDIR, errno.EROFS)

ELSEWHERE = "set WORLDLINE_HOME, or artefact_root in the storage profile, to another disk or a folder you own"


@contextmanager
def writable(root: Path, name: str = "store", repair: str = ELSEWHERE) -> Iterator[None]:
    """Make `root` and guard what is written below it. Raises WorldlineError for a full disk or a folder not ours.

    Errors about files elsewhere (a stage that reads a bucket) pass through: they are not the store's to explain.
    `name` and `repair` go into the text: what `root` is, and how to have it elsewhere.
    """
    try:
        try:
            root.mkdir(parents=True, exist_ok=True)
        except FileExistsError as error:
            raise _not_writable(root, error, name, repair) from error
        yield
    except WorldlineError:
        raise
    except Exception as error:
        number = error.errno if isinstance(error, OSError) else None
        if number in DISK_FULL or DISK_FULL_TEXT.search(str(error)):
            raise WorldlineError(
                f"No space left in the {name} {root} ({os.strerror(number or errno.ENOSPC)}): free some or {repair}; "
                "what is finished is untouched, run the same command again"
            ) from error
        if isinstance(error, OSError) and number in NOT_WRITABLE and _concerns(root, error.filename):
            raise _not_writable(root, error, name, repair) from error
        raise


def _not_writable(root: Path, error: OSError, name: str, repair: str) -> WorldlineError:
    return WorldlineError(f"The {name} {root} is not writable ({error.strerror}: {error.filename}): {repair}")


def _concerns(root: Path, filename: object) -> bool:
    if filename is None:
        return True
    path = Path(str(filename))
    return path.is_relative_to(root) or root.is_relative_to(path)
