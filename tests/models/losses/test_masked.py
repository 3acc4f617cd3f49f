import pytest
import torch

from models.losses.masked import masked_mean


def test_mean_over_the_masked_in_only_even_beside_infinities() -> None:
    values = torch.tensor([1.0, torch.inf, 5.0, torch.nan], requires_grad=True)
    mean = masked_mean(values, torch.tensor([True, False, True, False]))
    mean.backward()
    assert mean.item() == 3.0
    assert values.grad is not None and values.grad.tolist() == [0.5, 0.0, 0.5, 0.0]


def test_an_empty_mask_gives_zero_and_another_shape_is_refused() -> None:
    assert masked_mean(torch.ones(3), torch.zeros(3, dtype=torch.bool)).item() == 0.0
    with pytest.raises(ValueError, match="differ in shape"):
        masked_mean(torch.ones(3), torch.ones(2, dtype=torch.bool))
