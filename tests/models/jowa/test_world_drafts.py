"""Draft and verify against one by one: the same frames, rewards and decisions, in fewer passes or as many."""

import pytest
import torch
from torch import Tensor

from models.api import Context, Planner
from models.blocks import verify
from models.jowa import world as jowa_world
from models.jowa.dream import JowaDream
from models.jowa.model import Jowa
from models.jowa.world import JowaWorld, chosen
from models.planning.beam import Beam
from models.planning.mcts import Mcts
from models.planning.rollouts import Rollouts
from tests.models.conftest import moving
from tests.models.drawn import LEAST, chance_of
from tests.models.jowa.test_world import make_context

SEARCHES = (Beam(3, 2), Mcts(simulations=12, horizon=3), Rollouts(width=4, horizon=3))


class Whole(jowa_world.Pace):
    """Reads the rest of every frame in each pass, whatever was right."""

    def each(self, rows: int, most: int) -> int:
        return most


@pytest.fixture
def whole(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(jowa_world, "Pace", Whole)


def moving_context(rows: int = 6, steps: int = 2) -> Context:
    batch = moving(rows, seed=999)
    assert batch.tokens_BTK is not None
    return Context(batch.tokens_BTK[:, :steps], batch.actions_BT[:, : steps - 1], batch.games_B)


def both(model: Jowa, seed: int | None = None) -> tuple[JowaWorld, JowaWorld]:
    """One by one, and with drafts; where a seed is given, they draw."""
    return tuple(  # type: ignore[return-value]
        JowaWorld(model, None if seed is None else torch.Generator().manual_seed(seed), drafts)
        for drafts in (False, True)
    )


def assert_same_tree(plain: JowaWorld, drafted: JowaWorld, context: Context) -> list[tuple[int, int]]:
    """Children of the present, of each other, and siblings; returns the passes of every step."""
    rows, passes = len(context.games_N), []
    generator = torch.Generator().manual_seed(3)
    plain.reset(context), drafted.reset(context)
    for nodes in (1, 3, 6):
        actions_M = torch.randint(18, (3 * rows,), generator=generator)
        parents_M = torch.randint(nodes, (3 * rows,), generator=generator) if nodes < 6 else None
        theirs, ours = (world.step(actions_M, parents_M) for world in (plain, drafted))
        for name in ("tokens_NK", "rewards_N", "ends_N"):
            assert torch.equal(getattr(ours, name), getattr(theirs, name)), name
        torch.testing.assert_close(ours.values_NA, theirs.values_NA, rtol=1e-4, atol=1e-4)
        passes.append((plain.passes, drafted.passes))
    return passes


@pytest.mark.parametrize("seed", [None, 5], ids=["likeliest", "drawn"])
def test_a_model_that_knows_its_game_imagines_the_same_tree_in_few_passes(mover: Jowa, seed: int | None) -> None:
    """Draws are the same numbers, too."""
    for one_by_one, drafted in assert_same_tree(*both(mover, seed), moving_context()):
        assert one_by_one == 10 and drafted <= 7


@pytest.mark.parametrize("seed", [None, 5], ids=["likeliest", "drawn"])
@pytest.mark.usefixtures("whole")
def test_any_weights_imagine_the_same_tree(model: Jowa, seed: int | None) -> None:
    """Random ones, of which no draft knows much; every row is accepted up to another place."""
    for one_by_one, drafted in assert_same_tree(*both(model, seed), make_context(model)):
        assert one_by_one == model.config.tokens_per_step and 1 < drafted <= one_by_one


def test_random_weights_on_random_frames_are_read_one_by_one(model: Jowa, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(verify, "ListedTokens", None)
    assert {drafted for _, drafted in assert_same_tree(*both(model), make_context(model))} == {5}


@pytest.mark.usefixtures("whole")
def test_a_right_draft_takes_one_pass_and_rows_stop_where_theirs_is_wrong(mover: Jowa) -> None:
    context, actions_M = moving_context(), torch.arange(6)
    plain, drafted = both(mover)
    plain.reset(context)
    frames_MK = plain.step(actions_M).tokens_NK

    def passes(draft_MK: Tensor) -> int:
        drafted.reset(context)
        drafted._frames_NVK = draft_MK[:, None]
        assert torch.equal(drafted.step(actions_M).tokens_NK, frames_MK)
        return drafted.passes

    assert passes(frames_MK) == 1
    for row, place in enumerate((0, 3, 8)):
        draft_MK = frames_MK.clone()
        draft_MK[row, place] += 1
        assert 2 <= passes(draft_MK) <= 3
    # Rows whose first wrong token stands at other places; what follows it is a draft of the same pass.
    wrong = torch.ones(6, 9).triu().bool()
    assert 2 <= passes(torch.where(wrong, 19, frames_MK)) <= 10


def test_drafts_that_are_always_wrong_take_no_more_passes_than_tokens(
    mover: Jowa, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Wrong(jowa_world.Drafts):
        """Whatever is not known to be right is drafted wrongly, before every pass."""

        def ask(self, each: int):  # type: ignore[no-untyped-def]
            for row, first in enumerate(self.first_M):
                self.tokens_MS[row, first + 1 :] = 19
            return super().ask(each)

    monkeypatch.setattr(jowa_world, "Drafts", Wrong)
    automatic = assert_same_tree(*both(mover), moving_context())
    assert {drafted for _, drafted in automatic} == {10}
    monkeypatch.setattr(jowa_world, "Pace", Whole)
    assert assert_same_tree(*both(mover), moving_context()) == [(10, 10)] * 3


@pytest.mark.parametrize("planner", SEARCHES, ids=["beam", "tree", "rollouts"])
@pytest.mark.parametrize("seed", [None, 7], ids=["likeliest", "drawn"])
def test_searches_decide_alike(model: Jowa, mover: Jowa, whole: None, planner: Planner, seed: int | None) -> None:
    for weights, context in ((model, make_context(model)), (mover, moving_context())):
        legal_NA = torch.ones(len(context.games_N), 18, dtype=torch.bool)
        theirs, ours = (planner.plan(world, context, legal_NA, 0.99) for world in both(weights, seed))
        assert torch.equal(ours, theirs)


@pytest.mark.parametrize("seed", [None, 7], ids=["likeliest", "drawn"])
def test_dreams_are_the_same_and_tell_their_passes(mover: Jowa, seed: int | None) -> None:
    """Past the window, which slides: there a pass more reads the steps that stay."""
    context = moving_context(rows=1)
    dream, world = JowaDream(mover, None if seed is None else torch.Generator().manual_seed(seed)), both(mover, seed)[0]
    dream.reset(context)
    tokens, actions = context.tokens_NCK, context.actions_NC
    for step in range(8):
        action_1 = torch.tensor([(5 * step) % 18])
        world.reset(Context(tokens[:, -4:], actions[:, -3:], context.games_N))
        ours, theirs = dream.step(action_1), world.step(action_1)
        assert torch.equal(ours.tokens_NK, theirs.tokens_NK)
        tokens = torch.cat([tokens, ours.tokens_NK[:, None]], dim=1)
        actions = torch.cat([actions, action_1[:, None]], dim=1)
        slid = dream.remembered.forgot == "slide"
        assert slid == (step >= 3) and 1 <= dream.remembered.passes - slid <= 7


def test_draws_have_the_networks_distribution(mover: Jowa, whole: None) -> None:
    """Chi-square at every place that is drafted, given what was drawn before it."""
    rows, context, sampler = 3000, moving_context(1), torch.Generator().manual_seed(11)
    with torch.no_grad():
        hot = Jowa(mover.config).eval()
        hot.load_state_dict(mover.state_dict())
        for parameter in [*hot.head_observations.parameters()][-2:]:
            parameter.mul_(0.25)  # spread out
    many = Context(
        *(each.expand(rows, *each.shape[1:]) for each in (context.tokens_NCK, context.actions_NC, context.games_N))
    )
    world = JowaWorld(hot, sampler)
    world.reset(many)
    tokens_MK = world.step(torch.full((rows,), 4)).tokens_NK
    assert 0.2 < (tokens_MK == many.tokens_NCK[:, -1]).double().mean() < 0.8  # drafts were kept, and others not
    given = torch.cat(
        [many.tokens_NCK[:, 0], many.actions_NC[:, :1], many.tokens_NCK[:, 1], torch.full((rows, 1), 4)], 1
    )
    with torch.no_grad():
        logits_MKV = hot(torch.cat([given, tokens_MK], 1), many.games_N, heads=("observations",)).logits["observations"]
    probs_MKV = logits_MKV[:, -9:].softmax(-1)
    chances = [chance_of(probs_MKV[:, place], tokens_MK[:, place]) for place in range(9)]
    assert min(chances) > LEAST / 9, chances
    # What is kept of a draft too often, as where one is kept whenever it is likely, is found out.
    kept_M = torch.rand(rows, generator=torch.Generator().manual_seed(3)) < 0.3
    often_M = torch.where(kept_M, many.tokens_NCK[:, -1, 0], tokens_MK[:, 0])
    assert chance_of(probs_MKV[:, 0], often_M) < LEAST


def test_draws_are_those_of_a_multinomial_of_the_same_stream() -> None:
    logits_MV = torch.randn(7, 20, generator=torch.Generator().manual_seed(0))
    draws_MV = torch.empty(7, 20).exponential_(generator=torch.Generator().manual_seed(1))
    theirs_M1 = torch.multinomial(logits_MV.softmax(-1), 1, generator=torch.Generator().manual_seed(1))
    assert torch.equal(chosen(logits_MV, draws_MV), theirs_M1[:, 0])
