"""Which parameters are trained how, and the learning rate at hand-computed steps."""

import pytest
import torch
from torch import nn

from models.jowa.config import JowaConfig
from models.jowa.model import Jowa
from pipelines.training.config import PhaseConfig
from pipelines.training.optimisers import for_phase, parameter_groups, schedule


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


def test_only_linear_weights_and_the_q_head_decay(model: Jowa) -> None:
    names = {id(parameter): name for name, parameter in model.named_parameters()}
    decayed, plain = parameter_groups(model, 0.01)
    assert (decayed["weight_decay"], plain["weight_decay"]) == (0.01, 0.0)
    with_decay = {names[id(parameter)] for parameter in decayed["params"]}
    without = {names[id(parameter)] for parameter in plain["params"]}
    trainable = {name for name, parameter in model.named_parameters() if parameter.requires_grad}
    assert with_decay | without == trainable
    assert not with_decay & without
    assert all(name.endswith("weight") or name.startswith("head_q.") for name in with_decay)
    assert {name for name in trainable if name.startswith("head_q.")} <= with_decay
    assert any("emb" in name for name in without)
    assert not any(name.startswith("head_q_target.") for name in trainable)
