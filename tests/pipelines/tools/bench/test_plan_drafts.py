"""Drafts beside one by one: both sides decide the same, and the rows say passes, rates and how many decisions agree."""

from dataclasses import replace
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch

from models.jowa.agent import JowaAgent
from models.jowa.config import JowaAgentConfig
from models.jowa.model import Jowa
from pipelines.errors import UsageError
from pipelines.tools.bench import plan_drafts
from pipelines.tools.bench.plan import QUICK, random_context


@pytest.fixture(scope="module")
def agent() -> JowaAgent:
    config = replace(QUICK.model, max_steps=4)
    return JowaAgent(JowaAgentConfig(tokenizer=QUICK.tokenizer, model=config))


@pytest.mark.slow
def test_every_row_tells_passes_rates_and_agreement(agent: JowaAgent, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(plan_drafts, "THREADS", 1)
    whole = random_context(agent.model.config, 2).last(2)
    rows = plan_drafts.run(agent, whole, torch.ones(18, dtype=torch.bool), rounds=1)
    names = ["beam-2x2", "beam-2x2-2", "mcts-20", "mcts-20-2", "dream"]
    assert [row.name for row in rows] == [f"{weights}-{name}" for weights in ("trained", "random") for name in names]
    assert [row.aim for row in rows] == [3, None, 3, None, None] + [None] * 5
    for row in rows:
        per_step = agent.model.config.tokens_per_step
        assert row.notes in (("identical decisions: 2 of 2",), ("identical dreams: 2 of 2",))
        assert row.theirs.endswith(f"{per_step:.1f} passes a frame") and row.ratio > 0


def test_decisions_that_differ_are_told_with_their_margin(agent: JowaAgent) -> None:
    whole = random_context(agent.model.config, 2).last(2)
    said = plan_drafts._apart(agent.model, whole, torch.tensor([0, 1]), torch.tensor([0, 2]))
    assert said.startswith("identical decisions: 1 of 2, the others' Q at most ")


def test_other_agents_are_refused() -> None:
    whole = random_context(QUICK.model, 1)
    with pytest.raises(UsageError, match="Only JOWA and IRIS draft"):
        plan_drafts.run(Jowa(QUICK.model), whole, torch.ones(18, dtype=torch.bool))


def test_real_context_has_the_actions_numbers_that_agents_know(monkeypatch: pytest.MonkeyPatch) -> None:
    """Recorded are the game's own: Freeway's 2 is DOWN, which is 5 for agents of all games."""
    piece = SimpleNamespace(frames=np.zeros((3, 8, 8), dtype=np.uint8), actions=np.array([1, 2, 0]))
    episodes = SimpleNamespace(lengths=[3], read=lambda episode, first, until: piece)
    eyes = SimpleNamespace(tokens=lambda frames: torch.zeros(len(frames), 4, dtype=torch.long))
    monkeypatch.setattr(plan_drafts, "Eyes", lambda source: eyes)
    source: Any = SimpleNamespace(game="Freeway", episodes=lambda kind: episodes)
    found = plan_drafts.real_context(source, 2, 3)
    assert found.actions_NC.tolist() == [[2, 5]] * 2 and found.tokens_NCK.shape == (2, 3, 4)
