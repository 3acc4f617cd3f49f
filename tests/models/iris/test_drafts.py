"""IRIS's frames drafted and verified against token by token: the same frames, outcomes and draws, in fewer passes."""

import itertools
from collections.abc import Callable
from dataclasses import replace

import pytest
import torch
from scipy.stats import chisquare
from torch import Tensor

from models.api import Moment
from models.iris import world as iris_world
from models.iris.config import WorldModelConfig
from models.iris.loss import world_model_counts, world_model_loss
from models.iris.world import DraftingPlayer
from models.iris.world_model import WorldModel
from models.practice.draws import Draw, Given, Sampled, likeliest
from tests.models.conftest import moving
from tests.models.drawn import LEAST
from tests.models.iris.hashed import whole_numbers

MOVER = WorldModelConfig(
    vocab_size=20, tokens_per_frame=9, max_steps=5, layers=2, heads=2, width=32, dropout=0.0, num_actions=18
)


class Whole(iris_world.Pace):
    """Reads the rest of every frame in each pass, whatever was right."""

    def each(self, rows: int, most: int) -> int:
        return most

    def prefers_one_by_one(self, drafts: iris_world.Drafts) -> bool:
        return False


@pytest.fixture
def whole(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(iris_world, "Pace", Whole)


@pytest.fixture(scope="module")
def mover() -> WorldModel:
    """A world model that has learned the game of `moving`, as good as without fail."""
    torch.set_num_threads(1)
    model = WorldModel(MOVER, seed=1).train()
    optimiser = torch.optim.Adam(model.parameters(), 1e-2)
    for step in range(200):
        batch = moving(16, step)
        assert batch.tokens_BTK is not None
        optimiser.zero_grad()
        outputs = model(batch.tokens_BTK, batch.actions_BT)
        world_model_loss(outputs, batch, world_model_counts(batch, MOVER)).total.backward()
        optimiser.step()
    return model.eval()


def loud(config: WorldModelConfig) -> WorldModel:
    """Random weights, large enough that tokens differ from input to input."""
    model, generator = WorldModel(config, seed=1).eval(), torch.Generator().manual_seed(2)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(torch.randn(parameter.shape, generator=generator) * 0.4)
    return model


def drawn(step: int) -> Draw:
    return Sampled(5, "test", Moment(step, 1, 9))  # rows 1 to 6 of a batch of 9


def assert_same(model: WorldModel, tokens_NK: Tensor, draw: Callable[[int], Draw], steps: int = 7) -> list[int]:
    """Beyond the step in which all is forgotten; every other is the last of its draws. Returns the drafted's passes."""
    plain, drafted = DraftingPlayer(model, drafts=False), DraftingPlayer(model)
    passes = []
    for player in (plain, drafted):
        player.worth = (1.0, 0.5) if model.config.ensemble else None
        player.reset(tokens_NK)
    for step in range(steps):
        actions_N = (torch.arange(len(tokens_NK)) + 5 * step) % model.config.num_actions
        theirs_draw, ours_draw = draw(step), draw(step)
        theirs, ours = plain.step(actions_N, theirs_draw), drafted.step(actions_N, ours_draw)
        assert theirs.tokens_NK is not None and ours.tokens_NK is not None
        assert torch.equal(ours.tokens_NK, theirs.tokens_NK) and torch.equal(ours.ends_N, theirs.ends_N)
        torch.testing.assert_close(ours.rewards_N, theirs.rewards_N, rtol=1e-4, atol=1e-5)
        torch.testing.assert_close(drafted.newest_ND, plain.newest_ND, rtol=1e-4, atol=1e-4)
        mine, other = drafted.remembered, plain.remembered
        assert (mine.steps, mine.most, mine.forgot) == (other.steps, other.most, other.forgot)
        assert other.passes == model.config.tokens_per_step + bool(other.forgot)
        logits_NV = torch.zeros(len(tokens_NK), 1000)  # both have used up as many numbers
        assert torch.equal(ours_draw("tokens", logits_NV), theirs_draw("tokens", logits_NV))
        passes.append(mine.passes - bool(mine.forgot))
    return passes


@pytest.mark.parametrize("draw", [lambda step: likeliest, drawn], ids=["likeliest", "drawn"])
def test_a_model_that_knows_its_game_imagines_the_same_in_few_passes(
    mover: WorldModel, draw: Callable[[int], Draw]
) -> None:
    batch = moving(6, seed=999)
    assert batch.tokens_BTK is not None
    assert max(assert_same(mover, batch.tokens_BTK[:, 0], draw)) <= 7


@pytest.mark.parametrize("draw", [lambda step: likeliest, drawn], ids=["likeliest", "drawn"])
@pytest.mark.parametrize("ensemble", [0, 2])
@pytest.mark.usefixtures("whole")
def test_any_weights_imagine_the_same(draw: Callable[[int], Draw], ensemble: int) -> None:
    """Random ones, of which no draft knows much; every row is accepted up to another place."""
    model = loud(replace(MOVER, ensemble=ensemble))
    passes = assert_same(model, whole_numbers((6, 9), 7, 20), draw)
    assert max(passes) <= 10 and min(passes) > 1


def test_where_a_pass_is_worth_no_drafts_every_token_is_a_pass(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(iris_world, "fixed_cost", lambda width, device: 0.0)
    monkeypatch.setattr(iris_world, "verify", None)
    assert set(assert_same(loud(MOVER), whole_numbers((6, 9), 7, 20), drawn)) == {10}


@pytest.mark.usefixtures("whole")
def test_given_tokens_are_read_one_by_one(monkeypatch: pytest.MonkeyPatch) -> None:
    """So are recorded draws in parity."""
    monkeypatch.setattr(iris_world, "verify", None)
    player, zeros_N = DraftingPlayer(loud(MOVER)), torch.zeros(1, dtype=torch.long)
    given = Given(rewards=[zeros_N], ends=[zeros_N], tokens=[zeros_N + place for place in range(9)])
    player.follow(whole_numbers((1, 2, 9), 7, 20), zeros_N[None])
    found = player.step(zeros_N, given)
    assert found.tokens_NK is not None and found.tokens_NK.tolist() == [[*range(9)]]
    assert player.remembered.passes == 10


@pytest.mark.usefixtures("whole")
def test_draws_have_the_networks_distribution() -> None:
    """Chi-square over all frames of 3 tokens of 3 codes, whose probabilities the network says in one pass each."""
    rows, first, action = 6000, torch.tensor([[2, 0, 1]]), torch.tensor([1])
    config = WorldModelConfig(3, 3, 2, 2, 2, 16, 0.0, 2)
    model = loud(config)
    with torch.no_grad():
        for parameter in [*model.head_observations.parameters()][-2:]:
            parameter.mul_(0.1)  # every frame is to come often enough
    player = DraftingPlayer(model)
    player.reset(first.expand(rows, -1))
    tokens_NK = player.step(action.expand(rows), Sampled(3, "test", Moment(0))).tokens_NK
    assert tokens_NK is not None and player.remembered.passes <= 4
    assert 0.2 < float((tokens_NK == first).double().mean()) < 0.8  # drafts were kept, and others not
    frames_FK = torch.tensor(list(itertools.product(range(3), repeat=3)))
    many = len(frames_FK)
    with torch.no_grad():
        segments_FTK = torch.stack([first.expand(many, -1), frames_FK], dim=1)
        outputs = model(segments_FTK, torch.stack([action, action], dim=1).expand(many, -1))
    probs_FKV = outputs.observations_BSV[:, 2:5].double().softmax(-1)  # from the action on
    expected_F = probs_FKV.gather(2, frames_FK[..., None])[..., 0].prod(1) * rows
    found_F = torch.bincount(tokens_NK @ torch.tensor([9, 3, 1]), minlength=many)
    assert float(expected_F.min()) > 5, expected_F
    assert chisquare(found_F.numpy(), expected_F.numpy()).pvalue > LEAST
