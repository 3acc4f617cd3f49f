"""Which GPUs a process gets that computes on them: of those that it may see, the first that no other holds.

A held GPU is a locked file in WORLDLINE_HOME/gpus/<machine>/. The kernel lets go of it when its holder dies, however it
dies. What trains, encodes or plays in one home stays apart, two homes do not see each other. Free without a GPU.
"""

import os
import platform
import re
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager, nullcontext
from pathlib import Path

from pipelines import home
from pipelines.errors import UsageError
from pipelines.progress import say
from pipelines.store.files import locked, locked_now

VISIBLE = "CUDA_VISIBLE_DEVICES"

POLL_SECONDS = 1.0

_kept = ExitStack()  # the one GPU that this process holds until its end

_holding: list[int] = []  # an entry for each `own_gpus` that this process is within, and one for what is kept


@contextmanager
def own_gpus(ranks: int, device: str) -> Iterator[None]:
    """Within this, one rank computes here on a GPU of its own, or `ranks` processes started from here do.

    `device` is loop.device; with cpu the processes see no GPU. Waits while others hold too many. Raises UsageError for
    more ranks than GPUs.
    """
    let_go()
    found = [] if device == "cpu" else visible()
    if not found:
        with _visible([]) if ranks > 1 else nullcontext():
            yield
        return
    check_count(ranks, found)
    with leased(found, ranks, folder(), _tell) as mine, _noted():
        if ranks == 1:
            import torch

            torch.cuda.set_device(found.index(mine[0]))  # the variable may have been read already
            yield
        else:
            with _visible(mine):
                yield


def keep_one() -> None:
    """Hold one GPU until this process ends or trains, and compute on it; nothing where it holds one, or there is none.

    A rank of torchrun's has the GPU that whoever started it holds.
    """
    if _holding or "RANK" in os.environ or not (found := visible()):
        return
    import torch

    (mine,) = _kept.enter_context(leased(found, 1, folder(), _tell))
    _kept.enter_context(_noted())
    _kept.callback(torch.cuda.empty_cache)
    torch.cuda.set_device(found.index(mine))


def let_go() -> None:
    """Give back what `keep_one` holds, with its idle memory: what was encoded or played in this process is done.

    Whoever waits for a child that trains does so first; else the child would wait for this process.
    """
    _kept.close()


@contextmanager
def _noted() -> Iterator[None]:
    _holding.append(1)
    try:
        yield
    finally:
        _holding.pop()


def visible() -> list[str]:
    """The GPUs that this process may use, in CUDA's order and by the names that CUDA_VISIBLE_DEVICES takes."""
    import torch

    count = torch.cuda.device_count()
    named = [name.strip() for name in os.environ.get(VISIBLE, "").split(",") if name.strip()]
    return (named or [str(index) for index in range(count)])[:count]


def check_count(ranks: int, found: Sequence[str]) -> None:
    """Raises UsageError for more ranks than GPUs."""
    if ranks > len(found):
        raise UsageError(
            f"Training on {ranks} ranks needs as many GPUs, this process sees {len(found)} ({', '.join(found)}): lower "
            "--ranks, or set loop.device=cpu"
        )


@contextmanager
def leased(
    gpus: Sequence[str], count: int, folder: Path, on_wait: Callable[[dict[str, str]], None]
) -> Iterator[list[str]]:
    """Hold `count` of the `gpus`: all at once or, while so many are not free, none.

    `on_wait` is called once, with the process ids of those who hold the others.
    """
    told = False
    while True:
        with ExitStack() as held:
            mine: list[str] = []
            with locked(folder / "choosing.lock"):
                for gpu in gpus:
                    if len(mine) < count and held.enter_context(locked_now(_lock(folder, gpu))):
                        mine.append(gpu)
            if len(mine) == count:
                for gpu in mine:
                    _lock(folder, gpu).write_text(str(os.getpid()))
                yield mine
                return
        if not told:
            on_wait({gpu: _lock(folder, gpu).read_text() for gpu in gpus if gpu not in mine})
            told = True
        time.sleep(POLL_SECONDS)


def folder() -> Path:
    """Where the locks of this machine lie; a home may be shared with other machines."""
    return home.home() / "gpus" / _plain(platform.node() or "here")


@contextmanager
def _visible(gpus: Sequence[str]) -> Iterator[None]:
    """What processes that are started within this see."""
    before = os.environ.get(VISIBLE)
    os.environ[VISIBLE] = ",".join(gpus)
    try:
        yield
    finally:
        os.environ.pop(VISIBLE) if before is None else os.environ.update({VISIBLE: before})


def _tell(holders: dict[str, str]) -> None:
    who = ", ".join(f"GPU {gpu} is held by process {holder}" for gpu, holder in holders.items())
    say(f"Waiting for a free GPU: {who}")


def _lock(folder: Path, gpu: str) -> Path:
    return folder / f"{_plain(gpu)}.lock"


def _plain(name: str) -> str:
    """As a file's name: MIG devices have slashes in theirs."""
    return re.sub(r"[^A-Za-z0-9_.-]", "-", name)
