"""Which parameters are trained how, and the learning rate at hand-computed steps."""

import pytest
import torch

from models.jowa.agent import JowaAgent
from models.jowa.config import JowaAgentConfig, JowaConfig
from models.tokenizers.config import TokenizerConfig
from pipelines.training.optimisers import for_phase, schedule_rates
from pipelines.training.schedule import Phase, Use


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
