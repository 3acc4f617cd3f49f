"""Dreams of JOWA: each step is the one that its imagination gives, within the window and when it slides."""

import pytest
import torch
from torch import Tensor

from models.api import Context, Dream, Remembered
from models.jowa import world as jowa_world
from models.jowa.dream import JowaDream
from models.jowa.model import Jowa
from models.jowa.world import JowaWorld, context_tokens, context_values
from tests.models.jowa.test_world import imagine_slowly, make_context

STEPS = 7  # the model has positions for 5


def dreamt(dream: Dream, context: Context, steps: int = STEPS) -> tuple[list[Tensor], list[Remembered]]:
    """Tokens (N, K) of every step, and what was remembered."""
    dream.reset(context)
    tokens, remembered = [], []
    for step in range(steps):
        tokens.append(dream.step(torch.full_like(context.games_N, step % 3)).tokens_NK)
        remembered.append(dream.remembered)
    return tokens, remembered


def test_within_the_window_it_is_the_worlds_own_imagination(model: Jowa) -> None:
    context, world, dream = make_context(model), JowaWorld(model), JowaDream(model)
    here, there = world.reset(context), dream.reset(context)
    assert torch.equal(here.values_NA, there.values_NA) and torch.equal(here.tokens_NK, there.tokens_NK)
    for actions in ([1, 2, 3], [4, 5, 6], [7, 8, 9]):
        here, there = world.step(torch.tensor(actions)), dream.step(torch.tensor(actions))
        assert torch.equal(here.tokens_NK, there.tokens_NK) and torch.equal(here.rewards_N, there.rewards_N)
        assert torch.allclose(here.values_NA, there.values_NA, atol=1e-5)


def test_logits_are_those_of_whole_passes_teacher_forced_also_when_the_window_slides(
    model: Jowa, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whatever tokens are given in place of the likeliest, each is drawn from what a pass without a cache says."""
    context, draws = make_context(model, rows=1), torch.Generator().manual_seed(4)
    given: list[int] = []
    logits: list[Tensor] = []

    def choose(found: Tensor, numbers: None) -> Tensor:
        logits.append(found.flatten())
        given.append(int(torch.randint(found.shape[-1], (1,), generator=draws)))
        return torch.full(found.shape[:-1], given[-1])

    monkeypatch.setattr(jowa_world, "chosen", choose)
    monkeypatch.setattr(jowa_world.Pace, "prefers_one_by_one", lambda self, drafts: True)
    dream, games, per_step = JowaDream(model), context.games_N, model.config.tokens_per_step
    dream.reset(context)
    sequence = context_tokens(context, model.config.tokens_per_frame)
    for action in range(STEPS):
        logits.clear(), given.clear()
        values = dream.step(torch.tensor([action])).values_NA
        drop = max(0, sequence.shape[1] + 1 + per_step - model.config.max_tokens - 1)
        sequence = sequence[:, -(-drop // per_step) * per_step :]
        acted = sequence = torch.cat([sequence, torch.tensor([[action]])], dim=1)
        for number, what in enumerate([*["observations"] * (per_step - 1), "rewards", "ends"]):
            whole = model(sequence if what == "observations" else acted, games).logits[what][0, -1]
            assert torch.allclose(logits[number], whole, atol=1e-5), (action, what)
            if what == "observations":
                sequence = torch.cat([sequence, torch.tensor([[given[number]]])], dim=1)
        tokens_CK = torch.nn.functional.pad(sequence, (0, 1)).view(-1, per_step)
        newest = Context(tokens_CK[None, :, :-1], tokens_CK[None, :-1, -1], games)
        assert torch.allclose(values, context_values(model, newest), atol=1e-5)


def test_it_slides_by_a_step_and_says_so(model: Jowa) -> None:
    context = make_context(model)
    tokens, remembered = dreamt(JowaDream(model), context)
    assert [each.steps for each in remembered] == [3, 4, 5, 5, 5, 5, 5]
    assert [each.forgot for each in remembered] == ["", "", "", "slide", "slide", "slide", "slide"]
    assert {each.passes for each in remembered[:3]} == {model.config.tokens_per_step}
    assert all(1 < each.passes <= model.config.tokens_per_step + 1 for each in remembered[3:])
    whole = torch.stack([*context.tokens_NCK.unbind(1), *tokens], dim=1)
    actions = torch.cat([context.actions_NC, torch.arange(STEPS).expand(3, -1) % 3], dim=1)
    for step in (3, 6):  # what a fresh world imagines from the newest four steps
        newest = Context(whole[:, step - 2 : step + 2], actions[:, step - 2 : step + 1], context.games_N)
        for row in range(3):
            frames, _ = imagine_slowly(model, newest, row, [int(actions[row, step + 1])])
            assert frames[0] == whole[row, step + 2].tolist()


def test_draws_follow_the_seed(model: Jowa) -> None:
    def drawn(seed: int) -> list[list[list[int]]]:
        dream = JowaDream(model, torch.Generator().manual_seed(seed))
        return [each.tolist() for each in dreamt(dream, make_context(model))[0]]

    assert drawn(1) == drawn(1) != drawn(2)


def test_a_step_before_any_context_is_refused(model: Jowa) -> None:
    with pytest.raises(ValueError, match="call reset"):
        JowaDream(model).step(torch.tensor([0]))


def test_a_context_longer_than_the_window_loses_its_oldest_steps(model: Jowa) -> None:
    long, dream = make_context(model, steps=9), JowaDream(model)
    assert torch.allclose(dream.reset(long).values_NA, context_values(model, long.last(5)), atol=1e-5)
    assert dream.remembered.steps == 5
