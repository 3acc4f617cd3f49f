"""One update: parts add up to the whole batch, what is not finite moves nothing, memory's end is one line."""

from dataclasses import replace
from pathlib import Path

import pytest
import torch

from models.api import Losses
from pipelines.errors import WorldlineError
from pipelines.training.distributed.ranks import ALONE
from pipelines.training.schedule import Phase
from pipelines.training.step import update
from tests.pipelines.training.tiny_task import PHASES, TinyTask

PHASE = PHASES[1]


def step(task: TinyTask, phase: Phase) -> dict[str, float]:
    for module in task.modules.values():
        module.eval()  # dropout would draw otherwise for parts
    return update(task, phase, 0, task.optimisers(phase), ALONE, Path("scratch"))


@pytest.mark.parametrize("parts", [2, 3, 16])
def test_parts_make_the_step_of_the_whole_batch(parts: int) -> None:
    whole, split = TinyTask(), TinyTask()
    values, again = step(whole, PHASE), step(split, replace(PHASE, accumulate=parts))
    assert again == pytest.approx(values, rel=1e-6)
    for name, weight in whole.weights().items():
        assert torch.allclose(weight, split.weights()[name], rtol=1e-5, atol=1e-6), name
    assert (whole.seen, split.seen) == ([0], [0] * parts)


def test_copies_of_the_weights_can_tell_that_they_are_old() -> None:
    task = TinyTask()
    optimised = [weight for name in task.optimisers(PHASE) for weight in task.modules[name].parameters()]
    before = [weight._version for weight in optimised]
    step(task, PHASE)
    assert all(weight._version > version for weight, version in zip(optimised, before, strict=True))


class Exploding(TinyTask):
    """A finite loss whose gradient is none."""

    def losses(self, phase: Phase, step: int, part: int = 0) -> dict[str, Losses]:
        weight = self.modules["tokenizer"][0].weight
        error = ((weight - weight.detach()) * 1e38 * 1e38).sum() * 0 + (weight - weight.detach()).abs().sqrt().sum()
        return {"tokenizer": Losses(error, {"error": error.detach()})}


def test_a_gradient_that_is_not_finite_moves_nothing() -> None:
    task = Exploding()
    before = {name: value.clone() for name, value in task.weights().items()}
    with pytest.raises(WorldlineError, match="Loss term 'tokenizer/grad_norm' became nan at step 1 of phase 'first'"):
        step(task, PHASES[0])
    assert all(torch.equal(value, before[name]) for name, value in task.weights().items())


class Greedy(TinyTask):
    """Asks for a terabyte, or fails otherwise."""

    error: Exception | None = None

    def losses(self, phase: Phase, step: int, part: int = 0) -> dict[str, Losses]:
        if self.error:
            raise self.error
        torch.empty(1 << 58, dtype=torch.uint8)
        raise AssertionError("this machine has more memory than there is")


@pytest.mark.parametrize(
    "error", [None, MemoryError(), torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB. GPU 0")]
)
def test_the_end_of_memory_says_what_to_lower(error: Exception | None) -> None:
    task = Greedy()
    task.error = error
    with pytest.raises(
        WorldlineError, match=r"^Out of memory at step 1 of phase 'second'.*raise its accumulate, now 1"
    ):
        step(task, PHASE)


def test_other_errors_keep_their_traceback() -> None:
    task = Greedy()
    task.error = RuntimeError("shapes do not match")
    with pytest.raises(RuntimeError, match="shapes do not match"):
        step(task, PHASE)
