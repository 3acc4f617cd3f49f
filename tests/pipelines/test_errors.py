"""Which failures may pass, and what a user reads of one that nobody foresaw."""

import errno
from pathlib import Path

import pytest
import torch

from pipelines.cli import run
from pipelines.errors import Members, UsageError, WorldlineError, may_pass, unknown
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


def tried(**outcomes: Exception | None) -> Members:
    """Members of these names, each with what went wrong."""
    members = Members()
    for name, error in outcomes.items():
        with members.each(name):
            if error is not None:
                raise error
    return members


@pytest.mark.parametrize(
    ("value", "known", "said"),
    [
        ("zzz", ("one", "two"), "Unknown pool 'zzz': choose one of one, two (see there)"),
        ("zzz", [f"pool {n}" for n in range(20)], "Unknown pool 'zzz': there are 20 to choose from (see there)"),
        ("oen", ("one", "two"), "Unknown pool 'oen': did you mean 'one'? (see there)"),
    ],
)
def test_an_unknown_name_is_one_sentence(value: str, known: list[str], said: str) -> None:
    assert str(unknown("pool", value, known, "see there")) == said


def test_a_member_that_fails_stops_no_other_and_is_told_at_the_end(capsys: pytest.CaptureFixture) -> None:
    tried(Pong=None, Qbert=None).end()
    with pytest.raises(WorldlineError, match=r"^Enduro failed: no bucket$") as caught:
        tried(Enduro=UsageError("no bucket"), Pong=None).end()
    assert caught.value.exit_code == 1 and capsys.readouterr().err == ""
    with pytest.raises(WorldlineError, match=r"^Qbert failed: KeyError: 'x' - a fault of Worldline"):
        tried(Enduro=UsageError("no\nbucket"), Pong=None, Qbert=KeyError("x")).end()
    assert capsys.readouterr().err == "Enduro failed: no bucket\n"


def test_where_all_are_asked_for_wrongly_it_is_bad_usage_and_one_reason_is_said_once() -> None:
    with pytest.raises(UsageError, match=r"^no bucket$"):
        tried(Enduro=UsageError("no bucket"), Pong=UsageError("no bucket")).end()
    with pytest.raises(UsageError, match=r"^Pong failed: b$"):
        tried(Enduro=UsageError("a"), Pong=UsageError("b")).end()
    with pytest.raises(WorldlineError, match=r"^full$") as caught:
        tried(Enduro=WorldlineError("full")).end()
    assert caught.value.exit_code == 1


def test_failures_of_two_kinds_are_told_together(capsys: pytest.CaptureFixture) -> None:
    both = tried(Pong=None)
    both.take(tried(old=WorldlineError("torn"), tiny=None))
    with pytest.raises(WorldlineError, match=r"^old failed: torn$"):
        both.end()


def test_an_interruption_and_a_strict_one_end_everything() -> None:
    members = Members()
    with pytest.raises(KeyboardInterrupt), members.each("Pong"):
        raise KeyboardInterrupt
    strict = Members(strict=True)
    with pytest.raises(ValueError, match="odd"), strict.each("Pong"):
        raise ValueError("odd")
