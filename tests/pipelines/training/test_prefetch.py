"""Batches through real worker processes: the same for any number of them, and one line when one goes away."""

import os
import signal
import time
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import psutil
import pytest
import torch

from pipelines.batches.loader import FrameBatch, FrameLoader, SegmentLoader, SegmentSource
from pipelines.errors import WorldlineError
from pipelines.store.store import Store
from pipelines.training.device import Device
from pipelines.training.inputs import sources, tensors
from pipelines.training.prefetch import Parts, Prefetcher
from tests.pipelines.training.toy_game import make_game

CPU = Device("cpu", False)
pytestmark = pytest.mark.filterwarnings("ignore:This DataLoader will create")  # 8 workers on 2 cores


@pytest.fixture
def source(store: Store, tmp_path: Path) -> SegmentSource:
    data, cut = make_game(store, 9, 33, 20, 40)
    (found,) = sources([data], [cut], 1, [], tmp_path)
    tokens = np.random.default_rng(0).integers(0, 512, (102, 36)).astype(np.uint16)
    return replace(found, tokens_NK=tokens)


def made_of(source: SegmentSource) -> dict[str, SegmentLoader | FrameLoader]:
    loader = SegmentLoader([source], batch_size=6, seed=5)
    return {"segments": loader, "frames": FrameLoader(loader, 5)}


def direct(source: SegmentSource, step: int) -> Parts:
    return {name: tensors(each.batch(step)) for name, each in made_of(source).items()}


def assert_same(left: Parts, right: Parts) -> None:
    assert left.keys() == right.keys()
    for name, part in left.items():
        assert part.keys() == right[name].keys()
        for field, tensor in part.items():
            assert tensor.dtype == right[name][field].dtype
            assert torch.equal(tensor, right[name][field]), (name, field)


@pytest.mark.parametrize("workers", [0, 2, 8])
def test_batches_are_the_same_for_any_number_of_workers(source: SegmentSource, workers: int) -> None:
    feed = Prefetcher(made_of(source), CPU, workers, stop=12)
    for step in range(12):
        assert_same(feed.batch(step), direct(source, step))


@pytest.mark.parametrize("workers", [0, 2])
def test_two_ranks_together_give_the_batch_of_one(source: SegmentSource, workers: int) -> None:
    ranks = [Prefetcher(made_of(source), CPU, workers, rank=rank, world=2) for rank in range(2)]
    for step in range(4):
        left, right = (feed.batch(step) for feed in ranks)
        both = {
            name: {field: torch.cat([part[field], right[name][field]]) for field in part} for name, part in left.items()
        }
        assert_same(both, direct(source, step))


def test_it_goes_on_from_any_step(source: SegmentSource) -> None:
    feed = Prefetcher(made_of(source), CPU, workers=2, stop=40)
    for step in (17, 18, 19, 3, 4, 39, 0):
        assert_same(feed.batch(step), direct(source, step))


@pytest.mark.parametrize("workers", [0, 2])
def test_torchs_random_numbers_are_left_alone(source: SegmentSource, workers: int) -> None:
    """Dropout must not depend on workers, nor on how often a run was resumed."""
    before = torch.get_rng_state()
    feed = Prefetcher(made_of(source), CPU, workers)
    for step in (0, 1, 7):
        feed.batch(step)
    assert torch.equal(torch.get_rng_state(), before)


def test_no_file_is_open_when_workers_are_forked(source: SegmentSource) -> None:
    read = made_of(source)
    read["segments"].batch(0)
    path = source.trajectories.path
    feed = Prefetcher(read, CPU, workers=2)
    assert path in _open_files(os.getpid())
    assert_same(feed.batch(0), direct(source, 0))  # `direct` has the file open here again
    source.trajectories.close()
    assert path not in _open_files(os.getpid())
    workers = _children()
    assert len(workers) == 2
    assert any(path in _open_files(worker.pid) for worker in workers)
    for step in range(1, 9):
        assert_same(feed.batch(step), direct(source, step))


def test_workers_end_with_the_last_step_and_with_close(source: SegmentSource) -> None:
    feed = Prefetcher(made_of(source), CPU, workers=2, stop=3)
    for step in range(3):
        feed.batch(step)
    assert _children() == []
    feed.batch(1)
    assert len(_children()) == 2
    feed.close()
    assert _children() == []
    with pytest.raises(ValueError, match=r"Step 3 is outside 0 \.\. 3"):
        feed.batch(3)


@pytest.mark.parametrize(
    "death", [ConnectionResetError(104, "reset by peer"), EOFError(), FileNotFoundError(2, "gone")]
)
def test_a_worker_that_dies_while_it_hands_a_batch_over_is_one_line(source: SegmentSource, death: Exception) -> None:
    def dies() -> Iterator[object]:
        raise death
        yield

    feed = Prefetcher(made_of(source), CPU, workers=2)
    feed.batch(0)
    feed._batches = dies()
    with pytest.raises(WorldlineError, match=r"^A loader worker died before step 1 \(.+\): .*loop.workers, now 2$"):
        feed.batch(1)
    assert_same(feed.batch(1), direct(source, 1))
    feed.close()


def test_a_killed_worker_is_one_line_at_the_next_batch_and_nowhere_else(source: SegmentSource) -> None:
    feed = Prefetcher(made_of(source), CPU, workers=2)
    feed.batch(0)
    for worker in _children():
        os.kill(worker.pid, signal.SIGKILL)
    time.sleep(0.2)
    sum(range(100_000))  # whatever training does meanwhile is not interrupted
    with pytest.raises(
        WorldlineError, match=r"A loader worker died before step \d+ .*: .*lower loop.workers, now 2"
    ) as it:
        for step in range(1, 9):
            feed.batch(step)
    assert "\n" not in str(it.value)
    assert_same(feed.batch(2), direct(source, 2))  # and the feed may be used again
    feed.close()


@dataclass(frozen=True)
class Failing:
    """Gives batches until `at`; then raises, or takes its process with it."""

    at: int
    error: Exception | None

    def batch(self, step: int, rank: int = 0, world: int = 1) -> FrameBatch:
        if step == self.at:
            if self.error is None:
                os._exit(3)
            raise self.error
        return FrameBatch(np.full((1, 84, 84), step, np.uint8), np.zeros(1, np.int64))

    def close(self) -> None:
        pass


class UnsendableError(Exception):
    def __init__(self, one: int, two: int) -> None:
        super().__init__("cannot be sent")


@pytest.mark.parametrize(
    ("error", "line"),
    [
        (WorldlineError("a.h5 is damaged: make it again"), r"^a.h5 is damaged: make it again$"),
        (
            ValueError("two\nlines"),
            r"^The batch of step 3 could not be read \(ValueError: two lines\): .*loop.workers=0",
        ),
        (UnsendableError(1, 2), r"^The batch of step 3 could not be read \(UnsendableError: cannot be sent\)"),
        (None, r"^A loader worker died before step [0-3] .*lower loop.workers, now 2$"),
    ],
)
def test_a_worker_that_fails_is_one_line(error: Exception | None, line: str) -> None:
    feed = Prefetcher({"frames": Failing(3, error)}, CPU, workers=2)
    seen = []
    with pytest.raises(WorldlineError, match=line) as it:
        for step in range(4):
            seen.append(int(feed.batch(step)["frames"]["frames_nHW"][0, 0, 0]))
    assert seen == [0, 1, 2] if error else seen in ([], [0], [0, 1], [0, 1, 2])
    assert "\n" not in str(it.value)


def test_without_workers_errors_stay_what_they_are() -> None:
    with pytest.raises(KeyError):
        Prefetcher({"frames": Failing(0, KeyError("x"))}, CPU).batch(0)


@pytest.mark.skipif(not torch.cuda.is_available(), reason="no GPU")
@pytest.mark.parametrize("workers", [0, 2])
def test_batches_reach_the_gpu_through_pinned_memory(source: SegmentSource, workers: int) -> None:
    feed = Prefetcher(made_of(source), Device("cuda", True), workers)
    for step in range(3):
        found = feed.batch(step)
        assert all(tensor.is_cuda for part in found.values() for tensor in part.values())
        assert_same({n: {f: t.cpu() for f, t in p.items()} for n, p in found.items()}, direct(source, step))


def _open_files(pid: int) -> set[Path]:
    found = set()
    for link in Path(f"/proc/{pid}/fd").iterdir():
        try:
            found.add(link.readlink())
        except OSError:
            continue  # closed meanwhile
    return found


def _children() -> list[psutil.Process]:
    """Live workers of this process; torch's resource tracker is none."""
    own = psutil.Process().children()
    return [child for child in own if child.status() != psutil.STATUS_ZOMBIE and "tracker" not in str(child.cmdline())]
