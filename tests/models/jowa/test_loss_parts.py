"""Parts of a batch, each divided by the whole batch's counts, add up to the whole: losses and gradients of JOWA."""

from dataclasses import replace

import pytest
import torch

from models.api import Batch
from models.jowa.config import JowaConfig
from models.jowa.loss import LossCounts, world_action_loss, world_loss
from models.jowa.model import Jowa

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


@pytest.mark.parametrize("stage", ["world", "world_action", "state_value"])
def test_uneven_parts_add_up_to_the_whole_batch(stage: str) -> None:
    batch, model = uneven(), Jowa(replace(SIZES, state_value=float(stage == "state_value")), seed=1)

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
