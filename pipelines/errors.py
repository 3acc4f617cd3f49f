"""The errors a user may meet. Each message is one line without secrets: the value, the rule, the repair.

And which failures may pass: for such a one nothing that stands on a disk is given up, the program ends and says so.
"""

import difflib
import errno
import lzma
import os
import sys
import tokenize
import zipfile
import zlib
from collections.abc import Iterable, Iterator
from contextlib import contextmanager

from pipelines.redact import one_line


class WorldlineError(Exception):
    """Something could not be done (exit code 1): a missing parent, a damaged file, a full disk."""

    exit_code = 1

    def __init__(self, message: object = "") -> None:
        super().__init__(one_line(message))


class UsageError(WorldlineError):
    """The request itself is wrong (exit code 2): an unknown game, recipe, field or profile."""

    exit_code = 2


class MayPass(WorldlineError):  # noqa: N818
    """A failure that the next try may not meet. What could not be read is there, untouched."""


# What an operating system says of a file that is not there, or that holds other bytes than its format has.
OF_THE_FILE = (errno.ENOENT, errno.ENOTDIR, errno.EISDIR, errno.EINVAL)

# What zipfile and NumPy raise at an .npz file whose bytes are damaged; NumPy parses the headers in it as Python.
BAD_NPZ = (
    *(zipfile.BadZipFile, zlib.error, lzma.LZMAError, EOFError, ValueError),
    *(RuntimeError, SyntaxError, tokenize.TokenError),
)


def may_pass(error: BaseException | None) -> bool:
    """Whether a file may be sound though reading it failed: the disk gave an error, or memory was short."""
    if isinstance(error, OSError):  # libraries raise it without a number for bytes that they do not understand
        return isinstance(error, TimeoutError) or (error.errno is not None and error.errno not in OF_THE_FILE)
    return ran_out_of_memory(error) or isinstance(error, MayPass)


def not_now(path: object, error: BaseException) -> MayPass:
    """The one line about a file that `may_pass` says is to be left alone."""
    why = one_line(error)[:120]
    return MayPass(
        f"{path} cannot be read now ({type(error).__name__}{f': {why}' if why else ''}): it stays as it is; free "
        "memory, or mend the disk or the rights to the file, and run the same command again"
    )


def ran_out_of_memory(error: BaseException | None) -> bool:
    """Whether an allocator failed, the CPU's or a GPU's."""
    names = {kind.__name__ for kind in type(error).__mro__}  # torch's, which is not imported for this
    return bool(names & {"MemoryError", "OutOfMemoryError"}) or "can't allocate memory" in str(error)


def unknown(kind: str, value: str, known: Iterable[str], where: str) -> UsageError:
    """The error for a name that is not in a known list, with the nearest name as the repair.

    `unknown("game", "MsPackman", games, "'worldline games' lists all 61")`
    """
    choices = sorted(known)
    if near := nearest(value, choices):
        repair = f"did you mean '{near}'?"
    elif len(choices) <= 12:
        repair = f"choose one of {', '.join(choices)}"
    else:
        repair = f"there are {len(choices)} to choose from"
    return UsageError(f"Unknown {kind} '{value}': {repair} ({where})")


def nearest(value: str, known: Iterable[str]) -> str:
    """The known name that is most like what was typed, in whatever case; empty where none is like it."""
    plain = {choice.lower(): choice for choice in known}
    return next((plain[each] for each in difflib.get_close_matches(value.lower(), plain, n=1, cutoff=0.5)), "")


def unforeseen(error: BaseException) -> str:
    """The one line for an error that is none of ours."""
    named = f"{type(error).__name__}: {error}".removesuffix(": ")
    if may_pass(error):  # of whatever file: what could be read before is there still
        return one_line(f"{named}: nothing is lost; mend that (disk, memory, network) and run the same command again")
    return one_line(f"{named} - a fault of Worldline, please report it with the traceback that WORLDLINE_DEBUG=1 shows")


class Members:
    """Does one thing for many members, such as games: one that fails never stops the others.

    `with members.each("Pong"): ...` for every member, then `members.end()`. Not so with `strict`: then the first
    failure is raised at once. An interruption always ends everything.
    """

    def __init__(self, strict: bool = False) -> None:
        self.strict = strict
        self.tried: set[str] = set()
        self.failed: dict[str, WorldlineError] = {}

    @contextmanager
    def each(self, member: str) -> Iterator[None]:
        """Keep what goes wrong in here, and why."""
        self.tried.add(member)
        try:
            yield
        except WorldlineError as error:
            if self.strict:
                raise
            self.failed.setdefault(member, error)
        except Exception as error:
            if self.strict or os.environ.get("WORLDLINE_DEBUG"):
                raise
            self.failed.setdefault(member, WorldlineError(unforeseen(error)))

    @classmethod
    def or_strict(cls, members: "Members | None") -> "Members":
        """These, or where nobody keeps failures, such as raise the first one."""
        return members or cls(strict=True)

    def take(self, others: "Members") -> None:
        """Tell the failures of others with one's own."""
        self.tried |= others.failed.keys()
        self.failed |= others.failed

    def end(self) -> None:
        """Raises a WorldlineError if any member failed, a UsageError if all of them were asked for wrongly.

        Each has its line, the last one in the error that is raised; what stopped all of them alike is said once.
        """
        if not self.failed:
            return
        errors, all_failed = list(self.failed.values()), len(self.failed) == len(self.tried)
        if all_failed and len({str(error) for error in errors}) == 1:
            raise errors[0]
        kind = UsageError if all_failed and all(isinstance(error, UsageError) for error in errors) else WorldlineError
        *lines, last = (f"{member} failed: {error}" for member, error in self.failed.items())
        for line in lines:
            print(line, file=sys.stderr, flush=True)
        raise kind(last)
