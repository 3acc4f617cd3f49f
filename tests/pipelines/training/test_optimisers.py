"""Which parameters are trained how, and the learning rate at hand-computed steps."""

import pytest
import torch
from torch import nn

from models.jowa.config import JowaConfig
from models.jowa.model import Jowa
from pipelines.training.config import PhaseConfig
from pipelines.training.optimisers import for_phase, schedule


@pytest.fixture(scope="module")
def model() -> Jowa:
    return Jowa(JowaConfig(vocab_size=16, layers=1, heads=2, width=16, q_hidden=8))


def rates(phase: PhaseConfig, steps: list[int]) -> list[float]:
    optimisers = for_phase(phase, {"tokenizer": nn.Linear(2, 2)})
    found = []
    for step in steps:
        schedule(phase, optimisers, step)
        found.append(optimisers["tokenizer"].param_groups[0]["lr"])
    return found


def test_constant_rate() -> None:
    assert rates(PhaseConfig("a", ("tokenizer",), 10, lr_tokenizer=0.5), [0, 9]) == [0.5, 0.5]


def test_warm_up_is_linear() -> None:
    phase = PhaseConfig("a", ("tokenizer",), 10, lr_tokenizer=0.5, warmup=4)
    assert rates(phase, [0, 1, 3, 4, 9]) == pytest.approx([0.125, 0.25, 0.5, 0.5, 0.5])


def test_decay_falls_by_a_cosine_to_a_tenth() -> None:
    phase = PhaseConfig("a", ("tokenizer",), 10, lr_tokenizer=1.0, decay=True)
    assert rates(phase, [0, 5, 10]) == pytest.approx([1.0, 0.55, 0.1])
    # the two combine: 1/2 of 0.1 + 0.45 * (1 + cos(0))
    assert rates(PhaseConfig("a", ("tokenizer",), 10, lr_tokenizer=1.0, decay=True, warmup=2), [0]) == [0.5]


def test_setting_a_rate_twice_does_not_compound() -> None:
    phase = PhaseConfig("a", ("tokenizer",), 10, lr_tokenizer=1.0, warmup=4)
    assert rates(phase, [0, 0, 0]) == [0.25, 0.25, 0.25]


def test_a_phase_optimises_what_its_objectives_name(model: Jowa) -> None:
    modules = {"tokenizer": nn.Linear(2, 2), "model": model}
    assert set(for_phase(PhaseConfig("a", ("tokenizer",), 1), modules)) == {"tokenizer"}
    assert set(for_phase(PhaseConfig("a", ("world",), 1), modules)) == {"model"}
    both = for_phase(PhaseConfig("a", ("tokenizer", "world_action"), 1, lr_model=0.3), modules)
    assert isinstance(both["tokenizer"], torch.optim.Adam)
    assert isinstance(both["model"], torch.optim.AdamW)
    assert [group["lr"] for group in both["model"].param_groups] == [0.3, 0.3]
