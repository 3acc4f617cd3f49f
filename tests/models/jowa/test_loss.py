import math
from dataclasses import replace

import pytest
import torch

from models.api import Batch
from models.jowa.config import JowaConfig
from models.jowa.critic import Categorical
from models.jowa.loss import LossCounts, td_loss, world_action_loss, world_loss
from models.jowa.model import Jowa

LEGAL = torch.ones(3, 18, dtype=torch.bool)


def test_the_world_loss_is_the_sum_of_its_terms(model: Jowa, batch: Batch) -> None:
    losses = world_loss(model, batch)
    assert set(losses.terms) == {"observations", "rewards", "ends"}
    assert losses.total.item() == pytest.approx(sum(term.item() for term in losses.terms.values()))
    losses.total.backward()
    assert model.pos_emb.weight.grad is not None and model.head_q.head_module.params[0].grad is None


def test_the_second_stage_weighs_its_terms(model: Jowa, batch: Batch, config: JowaConfig) -> None:
    world, losses = world_loss(model, batch), world_action_loss(model, batch, LEGAL)
    terms = {name: term.item() for name, term in losses.terms.items()}
    assert terms["cql"] == pytest.approx(terms["q_logsumexp"] - terms["q_taken"])
    expected = config.world_weight * world.total.item() + terms["td"] + config.cql_weight * terms["cql"]
    assert losses.total.item() == pytest.approx(expected)
    losses.total.backward()
    assert model.head_q.head_module.params[0].grad is not None
    assert all(parameter.grad is None for parameter in model.head_q_target.parameters())


def test_padding_changes_nothing(model: Jowa, batch: Batch) -> None:
    """Tokens, actions, rewards and ends of right-padded steps reach no term."""
    padded = replace(batch, mask_BT=torch.tensor([[1, 1, 1, 1, 1], [1, 1, 1, 0, 0], [1, 1, 0, 0, 0]]).bool())
    hidden_BT = ~padded.mask_BT
    assert padded.tokens_BTK is not None
    other = replace(
        padded,
        tokens_BTK=padded.tokens_BTK.masked_fill(hidden_BT[..., None], 7),
        actions_BT=padded.actions_BT.masked_fill(hidden_BT, 3),
        rewards_BT=padded.rewards_BT.masked_fill(hidden_BT, 1.0),
        ends_BT=padded.ends_BT.masked_fill(hidden_BT, 1),
    )
    first, second = (world_action_loss(model, one, LEGAL) for one in (padded, other))
    for name, term in first.terms.items():
        assert term.item() == pytest.approx(second.terms[name].item(), rel=1e-6), name


def hand_made(ends: list[int], mask: list[int]) -> Batch:
    return Batch(
        tokens_BTK=None,
        actions_BT=torch.tensor([[0, 1, 0]]),
        rewards_BT=torch.tensor([[1.0, 0.0, -1.0]]),
        ends_BT=torch.tensor([ends]),
        mask_BT=torch.tensor([mask]).bool(),
        games_B=torch.tensor([0]),
    )


ATOMS = torch.tensor([-1.0, 0.0, 1.0])
CRITIC = Categorical(ATOMS, gamma=0.5)
PREDICTED = torch.tensor([[[[0.2, 0.3, 0.5], [0.1, 0.1, 0.8]]] * 3]).reshape(1, 3, 2, 3)
# Action 1 is the better one everywhere; action 0 is certain of -1.
TARGET = torch.tensor([[[[1.0, 0.0, 0.0], [0.0, 0.0, 1.0]]] * 3]).reshape(1, 3, 2, 3)
BOTH = torch.ones(1, 2, dtype=torch.bool)


def td(batch: Batch, legal: torch.Tensor = BOTH) -> float:
    return td_loss(PREDICTED, TARGET, batch, legal, CRITIC).item()


def test_pairs_are_real_steps_with_a_successor_and_ends() -> None:
    # Step 0: action 0, r + gamma 1 = 1.5, clipped to the last atom. Step 1: action 1, 0.5: half and half.
    first, second = -math.log(0.5), -0.5 * math.log(0.1) - 0.5 * math.log(0.8)
    assert td(hand_made([0, 0, 0], [1, 1, 1])) == pytest.approx((first + second) / 2, rel=1e-5)
    # An end adds a pair whose target is r = -1 alone; taken action 0 gives that atom 0.2.
    assert td(hand_made([0, 0, 1], [1, 1, 1])) == pytest.approx((first + second - math.log(0.2)) / 3, rel=1e-5)
    # Without its successor a step is no pair; nor is padding that claims an end.
    assert td(hand_made([0, 0, 1], [1, 1, 0])) == pytest.approx(first, rel=1e-5)
    assert td(hand_made([0, 0, 0], [0, 0, 1])) == 0.0


def test_an_end_in_the_middle_takes_the_reward_alone() -> None:
    # Step 1 ends with r = 0: all mass on the middle atom, of which action 1 gives 0.1.
    expected = (-math.log(0.5) - math.log(0.1)) / 2
    assert td(hand_made([0, 1, 0], [1, 1, 1])) == pytest.approx(expected, rel=1e-5)


def test_illegal_actions_are_no_greedy_choice() -> None:
    # Only action 0 (value -1) is legal: targets 1 - 0.5 = 0.5 and 0 - 0.5 = -0.5.
    first = -0.5 * math.log(0.3) - 0.5 * math.log(0.5)
    second = -0.5 * math.log(0.1) - 0.5 * math.log(0.1)
    only_first = torch.tensor([[True, False]])
    assert td(hand_made([0, 0, 0], [1, 1, 1]), only_first) == pytest.approx((first + second) / 2, rel=1e-5)


def test_bf16_autocast_stays_close_and_finite(model: Jowa, batch: Batch) -> None:
    exact = world_action_loss(model, batch, LEGAL)
    with torch.autocast("cpu", torch.bfloat16):
        rough = world_action_loss(model, batch, LEGAL)
    assert rough.total.dtype == torch.float32
    assert rough.total.item() == pytest.approx(exact.total.item(), rel=0.05)
    rough.total.backward()
    gradients = [parameter.grad for parameter in model.parameters() if parameter.requires_grad]
    assert all(gradient is not None and torch.isfinite(gradient).all() for gradient in gradients)


def test_some_steps_of_training_lower_the_loss(model: Jowa, batch: Batch) -> None:
    optimiser = torch.optim.AdamW(model.parameters(), lr=3e-3)
    history = []
    for _ in range(30):
        losses = world_action_loss(model, batch, LEGAL)
        optimiser.zero_grad()
        losses.total.backward()
        optimiser.step()
        history.append(losses.total.item())
    assert history[-1] < 0.8 * history[0]


def test_a_batch_without_tokens_and_a_mask_of_another_shape_are_refused(model: Jowa, batch: Batch) -> None:
    with pytest.raises(ValueError, match="no tokens"):
        world_loss(model, replace(batch, tokens_BTK=None))
    with pytest.raises(ValueError, match="Legal mask"):
        world_action_loss(model, batch, LEGAL[:2])
    with pytest.raises(ValueError, match="Legal mask"):
        world_action_loss(model, batch, LEGAL.float())


# Parts of a batch, each divided by the whole batch's counts, add up to the whole: losses and gradients.

SIZES = JowaConfig(
    vocab_size=16, tokens_per_frame=4, max_steps=4, layers=1, heads=2, width=16, q_hidden=8, dropout=0.0, q_dropout=0.0
)
ALL_LEGAL = torch.ones(60, 18, dtype=torch.bool)


def uneven(segments: int = 6, steps: int = 4) -> Batch:
    """Segments of 1 to 4 real steps, padded on the right, some ending the game."""
    generator = torch.Generator().manual_seed(0)
    lengths = torch.arange(segments) % steps + 1
    mask = torch.arange(steps) < lengths[:, None]
    ends = torch.zeros(segments, steps, dtype=torch.long)
    ends[::2].scatter_(1, lengths[::2, None] - 1, 1)
    return Batch(
        actions_BT=torch.randint(18, (segments, steps), generator=generator) * mask,
        rewards_BT=torch.randint(-1, 2, (segments, steps), generator=generator).float() * mask,
        ends_BT=ends,
        mask_BT=mask,
        games_B=torch.zeros(segments, dtype=torch.long),
        tokens_BTK=torch.randint(16, (segments, steps, 4), generator=generator) * mask[..., None],
    )


def part(batch: Batch, rows: slice) -> Batch:
    return Batch(**{name: value[rows] for name, value in vars(batch).items() if value is not None})


def test_counts_by_hand() -> None:
    # 1, 2, 3 and 4 real steps; the first and the third segment end the game.
    counts = LossCounts.of(uneven(4), tokens_per_frame=4)
    assert counts.real == counts.steps == 10
    assert counts.observations == 10 * 4 - 4
    assert counts.pairs == (0 + 1 + 2 + 3) + 2
    assert torch.equal(LossCounts.from_tensor(counts.as_tensor()).as_tensor(), counts.as_tensor())


@pytest.mark.parametrize("stage", ["world", "world_action"])
def test_uneven_parts_add_up_to_the_whole_batch(stage: str) -> None:
    batch, model = uneven(), Jowa(SIZES, seed=1)

    def loss(rows: slice, counts: LossCounts | None) -> torch.Tensor:
        some = part(batch, rows)
        if stage == "world":
            return world_loss(model, some, counts).total
        return world_action_loss(model, some, ALL_LEGAL, counts=counts).total

    whole = loss(slice(None), None)
    expected = torch.autograd.grad(whole, _trained(model), allow_unused=True)
    parts = [part(batch, rows) for rows in (slice(0, 1), slice(1, 5), slice(5, 6))]
    counts = LossCounts.from_tensor(torch.stack([LossCounts.of(some, 4).as_tensor() for some in parts]).sum(0))
    pieces = [loss(rows, counts) for rows in (slice(0, 1), slice(1, 5), slice(5, 6))]
    found = torch.autograd.grad(torch.stack(pieces).sum(), _trained(model), allow_unused=True)
    assert torch.stack(pieces).sum().item() == pytest.approx(whole.item(), rel=1e-6)
    for ours, theirs in zip(found, expected, strict=True):
        assert (ours is None) == (theirs is None)
        if ours is not None and theirs is not None:
            torch.testing.assert_close(ours, theirs, rtol=1e-4, atol=1e-7)


def _trained(model: Jowa) -> list[torch.nn.Parameter]:
    return [parameter for parameter in model.parameters() if parameter.requires_grad]
