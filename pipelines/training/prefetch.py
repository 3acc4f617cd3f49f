"""Batches of consecutive steps as tensors on the training device, read ahead by worker processes.

`feed.batch(step)` equals what the sources give for that step, whatever the number of workers; asking for the next step
is quick, asking for any other one starts anew there. On CUDA, batches pass through pinned memory, copied while the
device computes. Workers are forked once for all following steps, with no file open, and start no threads of torch.
Prefetching holds 2 batches a worker (29 MB each for 512 segments of 8 frames) in shared memory.
"""

import time
import traceback
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from itertools import count
from signal import SIGCHLD, getsignal, signal
from threading import current_thread, main_thread
from typing import Any

import torch
from torch import Tensor
from torch.utils.data import DataLoader, get_worker_info

from pipelines.batches.loader import BatchSource
from pipelines.errors import WorldlineError
from pipelines.redact import one_line
from pipelines.training.device import Device
from pipelines.training.inputs import tensors

Parts = dict[str, dict[str, Tensor]]

"""by source, by field of its batch"""

# How torch tells of a dead worker; while it hands a batch over, how the socket between the processes does.
DEATHS = (RuntimeError, ConnectionError, EOFError, FileNotFoundError)


class Prefetcher:
    """`sources` by name, each read for every step; `stop` is the step behind the last (None: there is no last).

    Raises WorldlineError, in one line, when a worker fails or dies.
    """

    def __init__(
        self,
        sources: Mapping[str, BatchSource],
        device: Device,
        workers: int = 0,
        stop: int | None = None,
        rank: int = 0,
        world: int = 1,
        pin: bool | None = None,
    ) -> None:
        """`pin` copies through page-locked memory; by default where there is a GPU."""
        self._steps = Steps(dict(sources), rank, world)
        self._device, self._workers, self._stop = device, workers, stop
        self._pin = device.name.startswith("cuda") if pin is None else pin
        self._next = -1
        self.waited = 0.0  # seconds, for batches that were not there yet
        self._batches: Iterator[Any] | None = None

    def batch(self, step: int) -> Parts:
        """The batches of one step, by source, as tensors. Raises ValueError for a step outside 0 .. stop - 1."""
        if step < 0 or (self._stop is not None and step >= self._stop):
            raise ValueError(f"Step {step} is outside 0 .. {self._stop}, what this feed was made for")
        if self._batches is None or step != self._next:
            self._start(step)
        asked = time.perf_counter()
        found = self._take(step)
        self.waited += time.perf_counter() - asked
        self._next = step + 1
        if self._next == self._stop:
            self.close()
        return {
            name: {field: tensor.to(self._device.name, non_blocking=self._pin) for field, tensor in part.items()}
            for name, part in found.items()
        }

    def close(self) -> None:
        """End the workers; the next `batch` starts new ones."""
        self._batches = None

    def _start(self, step: int) -> None:
        self.close()
        for source in self._steps.sources.values():
            source.close()  # an open HDF5 or zarr handle must not cross a fork
        loader: DataLoader[Any] = DataLoader(
            self._steps,  # type: ignore[arg-type]  # map-style needs no more than __getitem__
            batch_size=None,
            sampler=count(step) if self._stop is None else range(step, self._stop),
            num_workers=self._workers,
            pin_memory=self._pin,
            generator=torch.Generator(),  # else it draws from the global one, and dropout would differ
        )
        # Torch would raise a worker's death from wherever the main thread is at that moment, as a bare RuntimeError.
        # Without its handler the death is found here, when the batch is asked for.
        handler = getsignal(SIGCHLD)
        self._batches = iter(loader)
        if current_thread() is main_thread() and handler is not None:
            signal(SIGCHLD, handler)

    def _take(self, step: int) -> Parts:
        assert self._batches is not None
        try:
            found = next(self._batches)
        except DEATHS as error:
            self.close()
            if not self._workers:
                raise
            why = one_line(error) or type(error).__name__
            raise WorldlineError(
                f"A loader worker died before step {step} ({why}): memory may have run out; lower "
                f"loop.workers, now {self._workers}"
            ) from error
        except BaseException:
            self.close()  # an interrupted iterator gives nothing more
            raise
        if isinstance(found, WorldlineError):
            self.close()
            raise found
        return found


@dataclass(frozen=True)
class Steps:
    """A map-style dataset whose items are the steps of a run; what goes wrong in a worker is an item too."""

    sources: dict[str, BatchSource]
    rank: int
    world: int

    def __getitem__(self, step: int) -> Parts | WorldlineError:
        if get_worker_info() is None:
            return self._read(step)
        try:
            found = self._read(step)
            for part in found.values():
                for tensor in part.values():
                    tensor.share_memory_()  # here and not in the queue's thread, where a failure would be lost
            return found
        except Exception as error:
            return _one_line(step, error)

    def _read(self, step: int) -> Parts:
        return {name: tensors(source.batch(step, self.rank, self.world)) for name, source in self.sources.items()}


def _one_line(step: int, error: Exception) -> WorldlineError:
    """What a worker's error is in the main process; errors of libraries may not survive being sent."""
    if isinstance(error, WorldlineError):
        return WorldlineError(str(error))
    text = f"{type(error).__name__}: {one_line(error)}"
    found = WorldlineError(f"The batch of step {step} could not be read ({text}): see where with loop.workers=0")
    found.add_note(traceback.format_exc())
    return found
