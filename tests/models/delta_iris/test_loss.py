"""The tokenizer's loss against its terms written out; pixels that change may weigh more."""

from dataclasses import replace

import pytest
import torch

from models.delta_iris.codebook import Told
from models.delta_iris.config import DeltaActorConfig, DeltaWeights, WorldModelConfig
from models.delta_iris.loss import tokenizer_loss
from models.delta_iris.numbers import two_hot_errors
from models.delta_iris.tokenizer import Change, DeltaTokenizer, Drawn
from tests.models.delta_iris.small_delta import TOKENIZER

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


def test_what_is_no_number_loses_nan_and_the_rest_as_ever() -> None:
    numbers, logits = torch.tensor([1.0, torch.nan, -2.0, torch.inf]), torch.zeros(4, 255)
    lost = two_hot_errors(logits, numbers, "clamp", "return")
    assert lost.isnan().tolist() == [False, True, False, True]
    assert torch.equal(lost[::2], two_hot_errors(logits[::2], numbers[::2], "clamp", "return"))
    with pytest.raises(ValueError, match="A return of 1e\\+09 is beyond"):
        two_hot_errors(logits[:1], torch.tensor([1e9]), "error", "return")


@pytest.mark.parametrize("config", [WorldModelConfig, DeltaActorConfig])
def test_what_is_beyond_two_hot_numbers_needs_two_hot_numbers(config: type) -> None:
    with pytest.raises(ValueError, match="beyond is of two-hot"):
        config(beyond="error")


def test_changes_are_told_in_float32_whatever_autocast_is_on() -> None:
    tokenizer, (_, change) = DeltaTokenizer(TOKENIZER, seed=1).eval(), case()
    frames = torch.rand(64, 3, 16, 16, generator=torch.Generator().manual_seed(0))
    change = Change(frames, torch.zeros(64, dtype=torch.long), frames.flip(0))
    exact = tokenizer.tokens(change)
    with torch.autocast("cpu", torch.bfloat16):
        assert torch.equal(tokenizer.tokens(change), exact)
        rounded = tokenizer.tell(tokenizer.encode(change)).tokens_n
    assert not torch.equal(rounded, exact.flatten()), "it would have made a difference"
