"""The tokenizer's loss against its terms written out; pixels that change may weigh more."""

from dataclasses import replace

import pytest
import torch

from models.delta_iris.codebook import Told
from models.delta_iris.config import DeltaWeights
from models.delta_iris.loss import tokenizer_loss
from models.delta_iris.tokenizer import Change, Drawn

WEIGHTS = DeltaWeights(commitment=0.5, l1=2.0, l2=3.0, worst=4.0)


def case(still: bool = False) -> tuple[Drawn, Change]:
    draws = torch.Generator().manual_seed(0)
    before, after, frames = (torch.rand(3, 2, 4, 4, generator=draws) for _ in range(3))
    latents, codes = torch.randn(6, 5, generator=draws), torch.randn(6, 5, generator=draws)
    told = Told(latents, codes, torch.zeros(6, dtype=torch.long))
    return Drawn(told, frames), Change(before, torch.zeros(3, dtype=torch.long), before if still else after)


def lost(drawn: Drawn, change: Change, weights: DeltaWeights) -> float:
    counted_P, counts_2 = torch.tensor([True, False, True]), torch.tensor([2.0, 3.0]).double()
    return float(tokenizer_loss(drawn, change, counted_P, counts_2, weights).total)


@pytest.mark.parametrize("gain", [0.0, 2.5])
def test_terms_are_means_over_counted_changes_and_what_changes_weighs_more(gain: float) -> None:
    drawn, change = case()
    error, moved = change.after - drawn.frames, (change.after - change.before).abs()
    weight = 1 + gain * moved / moved.mean((1, 2, 3), keepdim=True)
    kept = [0, 2]
    expected = 0.5 * (drawn.told.latents_nE - drawn.told.codes_nE).square().mean()
    expected += 2 * (weight * error.abs())[kept].mean() + 3 * (weight * error.square())[kept].mean()
    expected += 4 * error.square().flatten(1).amax(1)[kept].mean()
    assert lost(drawn, change, replace(WEIGHTS, motion_gain=gain)) == pytest.approx(float(expected), rel=1e-5)


def test_where_nothing_changes_all_pixels_weigh_alike() -> None:
    assert lost(*case(still=True), replace(WEIGHTS, motion_gain=2.5)) == lost(*case(still=True), WEIGHTS)


def test_a_gain_of_terms_that_weigh_nothing_is_refused() -> None:
    with pytest.raises(ValueError, match=r"motion_gain 1.0 weighs pixels of l1 and l2"):
        DeltaWeights(l1=0.0, l2=0.0, motion_gain=1.0)
