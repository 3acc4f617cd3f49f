import torch
from torch import nn

from models.blocks.packed import PackedLinear, packable, packed
from models.blocks.transformer import Transformer


def test_a_packed_module_computes_the_same_and_shares_what_it_did_not_pack() -> None:
    torch.manual_seed(0)
    module = Transformer(layers=2, heads=2, width=16, dropout=0.1).eval()
    x = torch.randn(3, 5, 16)
    with torch.no_grad():
        twin = packed(module)
        torch.testing.assert_close(twin(x), module(x), rtol=1e-5, atol=1e-5)
        assert sum(isinstance(child, PackedLinear) for child in twin.modules()) == 12
        assert not any(isinstance(child, PackedLinear) for child in module.modules())
        assert twin.ln_f.weight is module.ln_f.weight and not twin.training


def test_every_shape_that_a_linear_takes() -> None:
    linear = nn.Linear(7, 3, bias=False)
    with torch.no_grad():
        twin = PackedLinear(linear)
        for shape in ((7,), (1, 7), (2, 3, 7), (0, 7)):
            x = torch.randn(*shape)
            torch.testing.assert_close(twin(x), linear(x))
        strided = torch.randn(5, 2, 7)[:, -1:]
        torch.testing.assert_close(twin(strided), linear(strided))


def test_only_float32_outside_autocast_is_packable() -> None:
    assert packable(nn.Linear(2, 2)) == torch.backends.mkldnn.is_available()
    assert not packable(nn.Linear(2, 2, dtype=torch.bfloat16))
    with torch.autocast("cpu", torch.bfloat16):
        assert not packable(nn.Linear(2, 2))
