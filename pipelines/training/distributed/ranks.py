"""The processes that train together and make one artefact: started by torchrun, or one alone.

A batch is shared by rows and gradients are *summed*, because every rank divides its losses by the counts of the whole
batch: any number of ranks makes the step that one process makes. Gradients go in one message a network after the
backward pass: one copy of them in memory more, and time that is not hidden behind the pass. Measured with gloo, 2 ranks
on two busy cores: 0.35 s for 40 M parameters, 0.3 ms for a word. `produce` takes the first rank through the store; the
others work along and write nothing.

Run: `torchrun --nproc-per-node 2 -m pipelines.cli train EXPERIMENT`.
"""

import atexit
import functools
import itertools
import os
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import timedelta

import torch
import torch.distributed as dist
from torch import Tensor, nn

from pipelines.errors import UsageError, WorldlineError
from pipelines.redact import one_line
from pipelines.store.artefact import Artefact, Draft, Report
from pipelines.store.ref import Ref
from pipelines.store.stage_config import Spec
from pipelines.store.store import Store, flat

PATIENCE = timedelta(
    days=7
)  # ranks wait as long as the first one waits for locks, hashes and plays; torchrun ends them
POLL_SECONDS = 0.2
FAILED = "failed"
GO, SKIP, DONE = "go", "skip", "done"
_turns = itertools.count()


@dataclass(frozen=True)
class Ranks:
    """This process' number and how many there are. With one, every method is free and changes nothing."""

    rank: int = 0
    world: int = 1

    @property
    def first(self) -> bool:
        """Whether this rank writes artefacts, states and metrics."""
        return self.rank == 0

    def seed(self, seed: int) -> int:
        """The run's seed on the first rank, another one on each other: for dropout."""
        return seed + 1_000_003 * self.rank

    def sum_(self, tensor: Tensor) -> Tensor:
        """The sum over ranks, in place; the same bits on each."""
        if self.world > 1:
            _message(lambda: dist.all_reduce(tensor))
        return tensor

    def sum_gradients(self, modules: Iterable[nn.Module]) -> None:
        """Add up the gradients of all ranks: one message a module (and type of number)."""
        if self.world == 1:
            return
        for module in modules:
            grads = [parameter.grad for parameter in module.parameters() if parameter.grad is not None]
            if not grads:
                continue
            flat = self.sum_(torch.cat([grad.flatten() for grad in grads]))
            for grad, part in zip(grads, flat.split([grad.numel() for grad in grads]), strict=True):
                grad.copy_(part.view_as(grad))

    def gather(self, rows: Tensor) -> Tensor:
        """The rows (n, ...) of all ranks in order of rank: those of the whole batch. Ranks may have unequal numbers."""
        if self.world == 1:
            return rows
        sizes = torch.zeros(self.world, dtype=torch.int64, device=rows.device)
        sizes[self.rank] = len(rows)
        counts = self.sum_(sizes).tolist()
        padded = rows.new_zeros(max(counts), *rows.shape[1:])
        padded[: len(rows)] = rows
        found = [torch.empty_like(padded) for _ in counts]
        _message(lambda: dist.all_gather(found, padded))
        return torch.cat([each[:count] for each, count in zip(found, counts, strict=True)])

    def agree(self, value: bool) -> bool:
        """What the first rank says."""
        if self.world == 1:
            return value
        told = torch.tensor([value], dtype=torch.uint8)
        _message(lambda: dist.broadcast(told, 0))
        return bool(told[0])

    @contextmanager
    def first_alone(self) -> Iterator[None]:
        """The first rank goes through the body before the others do: for files that one writes and all read."""
        if not self.first:
            self.agree(True)
        yield
        if self.first:
            self.agree(True)

    # ---- words, for moments when ranks are not in step ----

    def tell(self, key: str, word: str) -> None:
        """Leave a word for the others."""
        if self.world > 1:
            _board().set(key, word)

    def hear(self, key: str) -> str:
        """Wait for a word. Leaves in silence once another rank has failed: that one shows its error."""
        while not _board().check([key]):
            if _board().check([FAILED]):
                raise SystemExit(1)
            time.sleep(POLL_SECONDS)
        return _board().get(key).decode()

    @contextmanager
    def together(self) -> Iterator[None]:
        """All ranks fail when one does: the first error goes on, the others' ranks leave in silence."""
        try:
            yield
        except BaseException as error:
            if self.world > 1 and not isinstance(error, SystemExit) and not self._is_first_to_fail():
                raise SystemExit(1) from None
            raise

    def _is_first_to_fail(self) -> bool:
        try:
            return _board().compare_set(FAILED, "", str(self.rank)) == str(self.rank).encode()
        except RuntimeError:  # torchrun, which keeps the board, is gone
            return True


ALONE = Ranks()


@functools.cache
def join() -> Ranks:
    """This process among those that torchrun started; without torchrun it is alone. Joins once a process.

    Rank r computes on the GPU LOCAL_RANK, where there are GPUs. Raises UsageError for torchrun variables that make no
    sense, and for more ranks than GPUs.
    """
    if "RANK" not in os.environ:
        return ALONE
    try:
        rank, world, local = (int(os.environ[name]) for name in ("RANK", "WORLD_SIZE", "LOCAL_RANK"))
    except (KeyError, ValueError) as error:
        raise UsageError(f"RANK is set, but not all that torchrun sets ({error}): start ranks by torchrun") from error
    if world == 1:
        return ALONE
    if torch.cuda.is_available():
        if local >= torch.cuda.device_count():
            raise UsageError(
                f"Rank {rank} has no GPU, there are {torch.cuda.device_count()} here: lower torchrun's "
                "--nproc-per-node, or set CUDA_VISIBLE_DEVICES= for ranks that train on the CPU"
            )
        torch.cuda.set_device(local)
    backend = "cpu:gloo,cuda:nccl" if torch.cuda.is_available() else "gloo"
    ranks = Ranks(rank, world)
    with ranks.together():
        _message(
            lambda: dist.init_process_group(backend, store=_board(), rank=rank, world_size=world, timeout=PATIENCE)
        )
        ranks.sum_(torch.zeros(1))  # nobody goes on, and perhaps fails, before all are connected
    atexit.register(dist.destroy_process_group)
    if rank:
        os.environ["WORLDLINE_QUIET"] = "1"  # one bar for all
    return ranks


Build = Callable[[Draft, Ranks], None]


def produce(store: Store, spec: Spec, build: Build) -> Report:
    """`store.produce` for all ranks of this run; each gets the report. Every rank must call it, in the same order.

    `build(draft, ranks)` runs on every rank; on those that are not the first it must return before it writes a file.
    The store and its scratch folder must be the same for all ranks. When one fails, all do: see `Ranks.together`.
    """
    ranks = join()
    turn = f"{next(_turns)}/{spec.ref}"
    with ranks.together():
        return _lead(ranks, store, spec, build, turn) if ranks.first else _follow(ranks, store, spec, build, turn)


def _lead(ranks: Ranks, store: Store, spec: Spec, build: Build, turn: str) -> Report:
    def begin(draft: Draft) -> None:
        ranks.tell(f"{turn}/begin", GO)
        build(draft, ranks)

    report = store.produce(spec, begin)
    if report.skipped:
        ranks.tell(f"{turn}/begin", SKIP)
    ranks.tell(f"{turn}/end", DONE)
    return report


def _follow(ranks: Ranks, store: Store, spec: Spec, build: Build, turn: str) -> Report:
    word = ranks.hear(f"{turn}/begin")
    if word == GO:  # the first rank holds the lock and has verified the parents
        parents = {ref: _found(store, ref) for ref in spec.parents}
        scratch = store.scratch / flat(spec.ref)
        build(Draft(spec, scratch / f"rank-{ranks.rank}", scratch, parents), ranks)
    ranks.hear(f"{turn}/end")
    return Report(_found(store, spec.ref), skipped=word == SKIP)


def _found(store: Store, ref: Ref) -> Artefact:
    artefact = store.find(ref)
    if artefact is None:
        raise WorldlineError(f"{ref} is not in {store.where}, as another rank sees it: all ranks need the same store")
    return artefact


@functools.cache
def _board() -> dist.Store:
    """The key-value store of torchrun, which outlives every rank."""
    store, _, _ = next(dist.rendezvous("env://", timeout=PATIENCE))
    return dist.PrefixStore("worldline", store)


def _message(send: Callable[[], object]) -> None:
    """Raises WorldlineError when the others are gone."""
    try:
        send()
    except RuntimeError as error:
        raise WorldlineError(
            f"The ranks lost each other ({one_line(error)[:120]}): one was killed, perhaps for memory; "
            "run this again to go on from the last state"
        ) from error
