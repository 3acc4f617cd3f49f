import torch

from models.tokenizers.encoded import Encoded


def test_straight_through_has_the_codes_value_and_the_latents_gradient() -> None:
    z = torch.tensor([1.0, 2.0], requires_grad=True)
    codes = torch.tensor([0.0, 4.0], requires_grad=True)
    value = Encoded(z, codes, torch.zeros(1, 2, dtype=torch.int64)).straight_through
    assert value.tolist() == [0.0, 4.0]
    (value * torch.tensor([3.0, 5.0])).sum().backward()
    assert z.grad is not None and z.grad.tolist() == [3.0, 5.0]
    assert codes.grad is None
