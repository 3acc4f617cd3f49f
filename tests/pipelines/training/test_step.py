"""One update: parts add up, rates are as told, what is not finite moves nothing, memory's end is one line."""

from dataclasses import replace
from pathlib import Path

import pytest
import torch

from models.api import Losses
from models.jowa.agent import JowaAgent
from models.jowa.config import JowaAgentConfig, JowaConfig
from models.tokenizers.config import TokenizerConfig
from pipelines.errors import WorldlineError
from pipelines.training.distributed.ranks import ALONE
from pipelines.training.schedule import Phase, Use
from pipelines.training.step import _clip, for_phase, schedule_rates, update
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


@pytest.fixture(scope="module")
def agent() -> JowaAgent:
    return JowaAgent(
        JowaAgentConfig(
            tokenizer=TokenizerConfig(vocab_size=16, embed_dim=8, z_channels=8, channels=4, res_blocks=1),
            model=JowaConfig(vocab_size=16, layers=1, heads=2, width=16, q_hidden=8),
        )
    )


def rates(agent: JowaAgent, steps: list[int], lr: float = 0.5, **fields: object) -> list[float]:
    phase = Phase("a", 10, (Use("tokenizer", 8, lr=lr),), **fields)  # type: ignore[arg-type]
    optimisers = for_phase(phase, agent)
    found = []
    for step in steps:
        schedule_rates(phase, optimisers, step)
        found.append(optimisers["tokenizer"].param_groups[0]["lr"])
    return found


def test_constant_rate(agent: JowaAgent) -> None:
    assert rates(agent, [0, 9]) == [0.5, 0.5]


def test_warm_up_is_linear(agent: JowaAgent) -> None:
    assert rates(agent, [0, 1, 3, 4, 9], warmup=4) == pytest.approx([0.125, 0.25, 0.5, 0.5, 0.5])


def test_decay_falls_by_a_cosine_to_a_tenth(agent: JowaAgent) -> None:
    assert rates(agent, [0, 5, 10], lr=1.0, decay=True) == pytest.approx([1.0, 0.55, 0.1])
    # the two combine: 1/2 of 0.1 + 0.45 * (1 + cos(0))
    assert rates(agent, [0], lr=1.0, decay=True, warmup=2) == [0.5]


def test_setting_a_rate_twice_does_not_compound(agent: JowaAgent) -> None:
    assert rates(agent, [0, 0, 0], lr=1.0, warmup=4) == [0.25, 0.25, 0.25]


def test_a_phase_optimises_what_its_objectives_name(agent: JowaAgent) -> None:
    assert set(for_phase(Phase("a", 1, (Use("tokenizer", 8),)), agent)) == {"tokenizer"}
    assert set(for_phase(Phase("a", 1, (Use("world", 8),)), agent)) == {"model"}
    both = for_phase(Phase("a", 1, (Use("tokenizer", 8), Use("world_action", 8, lr=0.3))), agent)
    assert isinstance(both["tokenizer"], torch.optim.Adam)
    assert isinstance(both["model"], torch.optim.AdamW)
    assert [group["lr"] for group in both["model"].param_groups] == [0.3, 0.3]
    assert [group["weight_decay"] for group in both["model"].param_groups] == [0.01, 0.0]


def test_groups_that_learn_apart_are_clipped_by_their_own_norms_and_may_wait() -> None:
    network = torch.nn.Linear(2, 1)
    groups = [
        {"params": [network.weight], "apart": True, "delay": 2, "peak_lr": 1.0},
        {"params": [network.bias], "apart": True, "peak_lr": 1.0},
    ]
    optimiser = torch.optim.SGD(groups, lr=1.0)
    network.weight.grad, network.bias.grad = torch.tensor([[30.0, 40.0]]), torch.tensor([0.5])
    assert _clip(network, optimiser, 5.0) == pytest.approx((50**2 + 0.5**2) ** 0.5)
    assert network.weight.grad.tolist() == [[pytest.approx(3), pytest.approx(4)]] and network.bias.grad.item() == 0.5
    rates = []
    for number in range(3):
        schedule_rates(PHASE, {"linear": optimiser}, number)
        rates.append([group["lr"] for group in optimiser.param_groups])
    assert [first for first, _ in rates[:2]] == [0.0, 0.0] and rates[2][0] == rates[2][1] > 0
