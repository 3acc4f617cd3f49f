"""Inflates a gzip file of a bucket, and says what is wrong with one that cannot be read and the repair that fits.

isal inflates where it is installed (`pip install worldline[fast]`), else the standard library does. A flipped bit shows
only at the gzip trailer, so nothing that was read may be trusted before `inflated` has ended.
What was cut or damaged on its way is to be fetched again. A file that is whole and was written otherwise would come
back the same: that is said, with what else to do. The gzip members of the file are walked once more for it, with zlib,
because every inflater words its faults differently; only a file that failed already pays for that.
"""

import gzip
import io
import zlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import IO, Any

from pipelines.bucket.bucket import Bucket
from pipelines.bucket.bucket_object import BucketObject
from pipelines.bucket.retry import BucketError, DamagedInTransit
from pipelines.errors import WorldlineError

DAMAGE: tuple[type[Exception], ...] = (EOFError, gzip.BadGzipFile, zlib.error)

try:
    from isal import igzip, isal_zlib
except ImportError:
    open_gzip: Any = gzip.GzipFile
    fast_zlib: Any = zlib
else:
    open_gzip, fast_zlib = igzip.IGzipFile, isal_zlib
    DAMAGE = (*DAMAGE, isal_zlib.error)  # type: ignore[arg-type]  # its stubs call the class an instance

FAULTS: tuple[type[Exception], ...] = (WorldlineError, *DAMAGE)

BLOCK = 1 << 20  # bytes

SMALLEST = 64  # bytes of the header of a .npy

NPY, GZIP = b"\x93NUMPY", b"\x1f\x8b"

AGAIN = "fetch that file again from its source"

WRITTEN_SO = "it was written so and fetching it again changes nothing"

ANOTHER = "it is another file under that name, put the right one there"


@contextmanager
def inflated(item: BucketObject, bucket: Bucket, size: Callable[[], int | None] = lambda: None) -> Iterator[IO[bytes]]:
    """The inflated bytes of an object. Raises one line for damage of any kind, also for what the reader of them raised.

    If the compressed bytes came wrong, it is said of them: DamagedInTransit or ObjectReplaced. size: see `explain`.
    """
    if not item.bytes:
        raise WorldlineError(f"{item.url} is empty: {AGAIN}")  # an inflater takes nothing for the end
    with bucket.open(item) as reader:
        buffered = io.BufferedReader(reader, BLOCK)  # kept in a variable: when it is collected, it closes the reader
        try:
            with open_gzip(fileobj=buffered, mode="rb") as stream:
                if not item.bytes:
                    raise EOFError  # to gzip, no bytes are the whole of an empty file
                yield stream
        except BucketError:
            raise
        except FAULTS as error:
            reader.verify()  # raises when other bytes came than were listed: the object is not to blame then
            damage = DamagedInTransit if reader.unchecked else WorldlineError
            raise damage(explain(item, bucket, error, size())) from error
        reader.verify()


def explain(item: BucketObject, bucket: Bucket, error: Exception, size: int | None = None) -> str:
    """One line on a file at which `error` was raised: by the inflater, or by whoever read what it inflates to.

    size: bytes of the array that the file's header describes, where that could be read.
    Raises BucketError when the file cannot be read again.
    """
    if not item.bytes:
        return f"{item.url} is empty: {AGAIN}"
    with bucket.open(item) as reader:
        found = _Members.of(iter(lambda: reader.read(BLOCK), b""))
    if size is not None and SMALLEST + size <= found.content and found.whole < found.total:
        return (
            f"{item.url} holds a whole log file in its first {found.whole:,} bytes and {found.total - found.whole:,} "
            f"bytes of something else behind it: {WRITTEN_SO}; cut it there (truncate -s {found.whole} FILE)"
        )
    if found.start.startswith(NPY):
        return f"{item.url} is an .npy that is not packed: {WRITTEN_SO}; pack it (gzip -n) and give it that name again"
    if not found.start.startswith(GZIP[: len(found.start)]):
        return f"{item.url} is no gzip file, it begins with {found.start!r}: {ANOTHER}"
    if found.fault:
        return f"{item.url} is damaged gzip ({found.fault}): {AGAIN}"
    if found.whole < found.total:
        return f"{item.url} ends before its gzip trailer (truncated): {AGAIN}"
    return str(error) if isinstance(error, WorldlineError) else f"{item.url} cannot be inflated ({one_line(error)})"


@dataclass
class _Members:
    """The gzip members that a file consists of.

    start: its first bytes. whole: how many bytes, of `total`, lie before the end of the last member that is whole, and
    `content` how many those inflate to. fault: zlib's word for what follows, empty where the file just ends.
    """

    start: bytes = b""
    whole: int = 0
    content: int = 0
    total: int = 0
    fault: str = ""

    @classmethod
    def of(cls, parts: Iterator[bytes]) -> "_Members":
        """Walk a file that comes in parts. All of it is read, its content is not kept."""
        found, inflated, inflater = cls(), 0, zlib.decompressobj(wbits=31)
        for part in parts:
            found.start = found.start or part[:16]
            found.total += len(part)
            while part and not found.fault:
                if found.whole and found.whole + len(part) == found.total:
                    part = part.lstrip(b"\0")  # padding, which gzip allows between members and at the end
                    found.whole = found.total - len(part)
                try:
                    inflated += len(inflater.decompress(part, BLOCK))
                except zlib.error as error:
                    found.fault = one_line(error)
                part = inflater.unconsumed_tail
                if inflater.eof:
                    part = inflater.unused_data
                    found.whole, found.content = found.total - len(part), inflated
                    inflater = zlib.decompressobj(wbits=31)
        return found


def one_line(error: Exception) -> str:
    """The first line of an error's text, or its name."""
    return str(error).splitlines()[0] if str(error) else type(error).__name__
