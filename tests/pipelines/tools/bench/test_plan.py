"""Both sides of the benchmark decide the same, or their ratio says nothing."""

from dataclasses import replace

import pytest
import torch

from models.jowa.model import Jowa
from models.jowa.world import context_values
from models.tokenizers.vq import Tokenizer
from pipelines.errors import UsageError
from pipelines.tools.bench import plan, plan_plain
from pipelines.tools.bench.plan import CASES, QUICK, Ours
from pipelines.training.device import Device


@pytest.fixture(scope="module")
def model() -> Jowa:
    return Jowa(replace(QUICK.model, num_q=2), seed=3).eval()


@pytest.mark.parametrize(
    "case",
    [
        pytest.param(case, id=case.name, marks=[pytest.mark.slow] if case.name.startswith("mcts") else [])
        for case in CASES
        if case.at_once
    ],
)
def test_both_sides_decide_the_same_with_and_without_illegal_actions(case: plan.Case, model: Jowa) -> None:
    config = model.config
    context = plan.random_context(config, 3).last(config.max_steps - case.planner.horizon)
    legal = torch.rand(3, config.num_actions, generator=torch.Generator().manual_seed(1)) < 0.5
    legal[:, 4] = True
    plain, tokenizer = plan_plain.EveryHead(model), Tokenizer(QUICK.tokenizer).eval()
    for legal_NA in (legal, torch.ones_like(legal)):
        ours = case.planner.plan(Ours(model, Device("cpu", False)).world, context, legal_NA, config.gamma)
        theirs = plan_plain.plan(plain, tokenizer, case.planner, context, legal_NA)
        assert ours.tolist() == theirs.tolist()
        assert legal_NA.gather(1, ours[:, None]).all()


def test_the_plain_side_evaluates_every_head_whatever_it_is_asked_for(model: Jowa) -> None:
    context = plan.random_context(model.config, 2)
    tokens_NL = plan.plan_plain.context_tokens(context, model.config.tokens_per_frame)
    outputs = plan_plain.EveryHead(model)(tokens_NL, context.games_N, heads=("rewards",))
    assert set(outputs.logits) == {"observations", "rewards", "ends", "q", "q_target"}
    values = plan_plain.expected_values(outputs.logits["q"], model.config)[:, -1]
    torch.testing.assert_close(values, context_values(model, context), rtol=1e-4, atol=1e-5)


@pytest.mark.slow
def test_every_row_is_measured_and_float32_decides_the_same() -> None:
    rows = plan.run(QUICK)
    names = ["greedy", "greedy-2", "beam-2x2", "beam-2x2-2", "beam-4x2", "mcts-20", "mcts-20-2"]
    assert [row.name for row in rows] == [name + part for name in names for part in ("", "-bf16")]
    for row in rows[::2]:
        assert row.aim == (6 if row.name.endswith("-2") else 3) and row.ratio > 0
        assert row.conditions == ((f"identical decisions: yes ({QUICK.environments} of {QUICK.environments})", True),)
    for row in rows[1::2]:
        assert row.aim is None and not row.conditions and row.notes[0].startswith("identical decisions")


def test_the_originals_figures_stand_beside_the_model_that_they_were_measured_on() -> None:
    side = plan.Side(plan.Taken(0.021, 0.03), [1, 2])
    row = plan._row(CASES[0], plan.sizes("40m", 2), side, plan.Side(plan.Taken(0.1, 0.2), [1, 3]), bf16=False)
    assert row.notes == ("3.0 times as fast as the original's 0.063 s, measured on another machine",)
    assert row.conditions == (("identical decisions: no (1 of 2)", False),) and not row.reached
    assert not plan._row(CASES[0], QUICK, side, side, bf16=False).notes
    with pytest.raises(UsageError, match="did you mean '150m'"):
        plan.sizes("15m")


def test_rates_of_many_environments_or_one_line_without_a_gpu(model: Jowa) -> None:
    ours = Ours(model, Device("cpu", False))
    measured = dict(plan.rates(ours, CASES[0].planner, counts=(1, 3), rounds=1))
    assert list(measured) == [1, 3] and min(measured.values()) > 0
    if not torch.cuda.is_available():
        assert plan.gpu_lines(QUICK) == ["no GPU: decisions a second of 1, 16, 256 environments were not measured"]
