import pytest
import torch
from torch import nn

from models.blocks.transformer import Transformer
from models.cpu import shortcuts
from models.cpu.packed import PackedLinear, PackedModule, packed, packing_type


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


def test_activations_that_follow_are_fused_and_others_stay() -> None:
    torch.manual_seed(0)
    layers = (nn.GELU(), nn.ReLU(), nn.GELU("tanh"), nn.Tanh())
    x = torch.randn(40, 8)
    for layer in layers:
        module = nn.Sequential(nn.Linear(8, 8), layer, nn.Linear(8, 3))
        with torch.no_grad():
            twin = packed(module)
            torch.testing.assert_close(twin(x), module(x), rtol=1e-5, atol=1e-6)
        fused = isinstance(layer, nn.ReLU) or (isinstance(layer, nn.GELU) and layer.approximate == "none")
        assert isinstance(twin[1], nn.Identity) == fused and module[1] is layer


def test_bfloat16_computes_what_autocast_does() -> None:
    torch.manual_seed(0)
    module = Transformer(layers=2, heads=2, width=16, dropout=0.1).eval()
    x = torch.randn(3, 5, 16)
    with torch.no_grad(), torch.autocast("cpu", torch.bfloat16):
        dtype = packing_type(module)
        if dtype is None:
            pytest.skip("this processor's oneDNN has no bfloat16")
        ours, theirs = packed(module, dtype)(x), module(x)
    assert dtype == torch.bfloat16 and ours.dtype == theirs.dtype
    torch.testing.assert_close(ours, theirs, rtol=0.05, atol=0.05)


def test_only_float32_weights_are_packed() -> None:
    assert (packing_type(nn.Linear(2, 2)) == torch.float32) == torch.backends.mkldnn.is_available()
    assert packing_type(nn.Linear(2, 2, dtype=torch.bfloat16)) is None
    with torch.autocast("cpu", torch.float16):
        assert packing_type(nn.Linear(2, 2)) is None


@pytest.mark.parametrize("layer", [None, nn.GELU()])
def test_one_row_in_float32_is_the_plain_layers_bit_for_bit(layer: nn.Module | None) -> None:
    torch.manual_seed(0)
    linear, x = nn.Linear(40, 30), torch.randn(1, 1, 40)
    plain = linear if layer is None else nn.Sequential(linear, layer)
    with torch.no_grad():
        assert torch.equal(PackedLinear(linear, behind=layer)(x), plain(x))


def test_the_copy_follows_the_weights_and_is_made_once() -> None:
    torch.manual_seed(0)
    module, x = nn.Sequential(nn.Linear(8, 8), nn.ReLU()), torch.randn(3, 8)
    kept = PackedModule(module)
    with torch.no_grad():
        first = kept.current()
        assert first is not module and kept.current() is first
        module[0].weight.mul_(2)
        assert kept.current() is not first
        torch.testing.assert_close(kept.current()(x), module(x))


def test_the_plain_way_packs_nothing() -> None:
    module = nn.Linear(8, 8)
    kept = PackedModule(module)
    assert kept.current() is not module
    with shortcuts.off():
        assert kept.current() is module and packing_type(module) is None
