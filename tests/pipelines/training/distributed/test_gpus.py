"""Trainings of one home never share a GPU: real locks, real processes; the GPUs themselves are names."""

import os
import signal
from pathlib import Path

import pytest
import torch

from pipelines.errors import UsageError
from pipelines.training.device import pick
from pipelines.training.distributed import gpus
from pipelines.training.distributed.gpus import VISIBLE, leased, own_gpus
from tests.fakes import finish, start, wait_for

HOLD = """
import sys, time
from pathlib import Path
from pipelines.training.distributed.gpus import leased
with leased(["0", "1", "2"], int(sys.argv[2]), Path(sys.argv[1]), print) as mine:
    print(*mine, flush=True)
    time.sleep(60)
"""


def nobody_waits(holders: dict[str, str]) -> None:
    raise AssertionError(f"waited for {holders}")


def test_each_gets_the_first_that_are_free(tmp_path: Path) -> None:
    with leased(["0", "1", "2"], 2, tmp_path, nobody_waits) as first:
        with leased(["1", "2"], 1, tmp_path, nobody_waits) as second:
            assert (first, second) == (["0", "1"], ["2"])
        with leased(["2"], 1, tmp_path, nobody_waits) as again:
            assert again == ["2"]
    with leased(["MIG-GPU-3f/1/0"], 1, tmp_path, nobody_waits) as odd:
        assert odd == ["MIG-GPU-3f/1/0"]


def test_who_gets_too_few_holds_none_and_hears_who_has_them(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    heard: list[dict[str, str]] = []
    waits = 0

    def another_takes_the_free_one(_: float) -> None:
        nonlocal waits
        waits += 1
        with leased(["1"], 1, tmp_path, nobody_waits):  # the one that waits has let go of it
            pass
        if waits == 3:
            held.__exit__(None, None, None)

    monkeypatch.setattr(gpus.time, "sleep", another_takes_the_free_one)
    held = leased(["0"], 1, tmp_path, nobody_waits)
    held.__enter__()
    with leased(["0", "1"], 2, tmp_path, heard.append) as mine:
        assert mine == ["0", "1"]
    assert heard == [{"0": str(os.getpid())}]
    assert waits == 3


def test_a_killed_holder_holds_nothing(tmp_path: Path) -> None:
    process = start(HOLD, tmp_path, 2)
    assert process.stdout is not None and process.stdout.readline() == "0 1\n"
    with leased(["0", "1", "2"], 1, tmp_path, nobody_waits) as mine:
        assert mine == ["2"]
    waiting = start(HOLD, tmp_path, 3)
    assert waiting.stdout is not None
    assert waiting.stdout.readline() == f"{ {'0': str(process.pid), '1': str(process.pid)} }\n"
    os.kill(process.pid, signal.SIGKILL)
    assert waiting.stdout.readline() == "0 1 2\n"
    for each in (process, waiting):
        each.kill()
        finish(each)
    wait_for(lambda: process.poll() is not None)


@pytest.fixture
def three(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> list[int]:
    """As if CUDA saw the GPUs 2, 5 and 7 of a machine; the list of devices that were set."""
    chosen: list[int] = []
    monkeypatch.setenv("WORLDLINE_HOME", str(tmp_path))
    monkeypatch.setenv(VISIBLE, "2,5,7")
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 3)
    monkeypatch.setattr(torch.cuda, "set_device", chosen.append)
    return chosen


def test_one_rank_computes_here_and_many_elsewhere(three: list[int]) -> None:
    with own_gpus(1, "auto"):
        assert (three, os.environ[VISIBLE]) == ([0], "2,5,7")
        with own_gpus(2, "cuda"):
            assert os.environ[VISIBLE] == "5,7"
        with own_gpus(1, "auto"):
            assert three == [0, 1]
        with own_gpus(2, "cpu"):
            assert os.environ[VISIBLE] == ""
    assert os.environ[VISIBLE] == "2,5,7"
    assert {path.name for path in gpus.folder().iterdir()} == {"2.lock", "5.lock", "7.lock", "choosing.lock"}


def test_more_ranks_than_gpus_are_one_line(three: list[int]) -> None:
    with pytest.raises(UsageError, match=r"^Training on 4 ranks needs as many GPUs, this process sees 3 \(2, 5, 7\)"):
        own_gpus(4, "auto").__enter__()
    assert not gpus.folder().exists()


def test_without_a_gpu_nothing_is_held(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("WORLDLINE_HOME", str(tmp_path / "home"))
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 0)
    monkeypatch.setenv(VISIBLE, "0")  # what is named and not there counts for nothing
    with own_gpus(1, "auto"), own_gpus(3, "auto"):
        pass
    assert not (tmp_path / "home").exists()


def test_what_encodes_or_plays_holds_one_until_it_trains_or_ends(three: list[int], tmp_path: Path) -> None:
    def free() -> list[str]:
        with leased(["2", "5", "7"], 1, gpus.folder(), nobody_waits) as mine:
            return mine

    gpus.keep_one()
    gpus.keep_one()
    assert (three, free()) == ([0], ["5"])
    with own_gpus(1, "auto"):
        gpus.keep_one()  # the training's own
        assert (three, free()) == ([0, 0], ["5"])
    assert free() == ["2"]
    gpus.keep_one()
    with own_gpus(2, "auto"):
        assert os.environ[VISIBLE] == "2,5" and free() == ["7"]
    assert free() == ["2"]


def test_a_rank_of_torchruns_takes_no_second_lease(three: list[int], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RANK", "0")
    gpus.keep_one()
    assert not three and not gpus.folder().exists()


def test_who_asks_for_a_leased_gpu_gets_one(three: list[int], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    pick("float32")
    assert not three
    pick("float32", leased=True)
    assert three == [0]
    with own_gpus(1, "cpu"):  # lets go
        pass
    assert not gpus._holding
