"""One switch turns every shortcut off; either way every layer computes the same."""

import copy
import importlib.util

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from models.api import Batch, Context
from models.blocks.layers import Downsample, Level, Upsample, initialise_orthogonal
from models.blocks.transformer import Transformer
from models.cpu import shortcuts
from models.cpu.shortcuts import (
    ENOUGH,
    ComposedDownsample,
    Dropout,
    PackedLinear,
    PackedModule,
    causal_attention,
    doubled,
    fastest_layout,
    finest_level,
    keep_mask,
    packed,
    packing_type,
)
from models.jowa.loss import world_loss
from models.jowa.model import Jowa
from models.jowa.world import JowaWorld
from models.planning.beam import Beam, search
from models.tokenizers.config import TokenizerConfig
from models.tokenizers.vq import Tokenizer


@pytest.mark.parametrize(("value", "on"), [("", True), ("1", True), ("0", False)])
def test_the_environment_turns_them_off(value: str, on: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    with monkeypatch.context() as environment:
        environment.setenv("WORLDLINE_CPU_SHORTCUTS", value)
        spec = importlib.util.find_spec("models.cpu.shortcuts")
        assert spec is not None and spec.loader is not None
        fresh = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(fresh)  # what a new process would import; reloading would leave two classes of a name
    assert fresh.taken(torch.zeros(1)) is on


def test_they_are_for_tensors_on_a_cpu_and_come_back_after_an_error() -> None:
    x = torch.zeros(1)
    assert shortcuts.taken(x) and not shortcuts.taken(torch.zeros(1, device="meta"))
    with pytest.raises(KeyError), shortcuts.off(), shortcuts.off():
        assert not shortcuts.taken(x)
        raise KeyError
    assert shortcuts.taken(x)


def test_without_them_a_training_step_is_that_of_pytorchs_own_layers(model: Jowa, batch: Batch) -> None:
    plain = copy.deepcopy(model)
    for module in list(plain.modules()):
        for name, child in list(module.named_children()):
            if isinstance(child, Dropout):
                setattr(module, name, nn.Dropout(child.p))
    found = []
    for network in (model.train(), plain.train()):
        torch.manual_seed(0)
        with shortcuts.off():
            world_loss(network, batch).total.backward()
        found.append([parameter.grad for parameter in network.parameters() if parameter.grad is not None])
    assert len(found[0]) > 30
    assert all(torch.equal(one, other) for one, other in zip(*found, strict=True))


def test_without_dropout_losses_are_the_same_bit_for_bit(model: Jowa, batch: Batch) -> None:
    with_them = world_loss(model.eval(), batch).total
    with shortcuts.off():
        assert torch.equal(with_them, world_loss(model, batch).total)


def test_a_search_finds_the_same_path(model: Jowa) -> None:
    generator = torch.Generator().manual_seed(8)
    tokens_NCK = torch.randint(20, (3, 2, 4), generator=generator)
    context = Context(tokens_NCK, torch.zeros(3, 1, dtype=torch.long), torch.arange(3))
    legal_NA, world = torch.ones(3, 18, dtype=torch.bool), JowaWorld(model)
    with_them = search(world, context, legal_NA, Beam(3, 2), 0.99)
    with shortcuts.off():
        plain = search(world, context, legal_NA, Beam(3, 2), 0.99)
    assert torch.equal(with_them.actions_NH, plain.actions_NH) and torch.equal(with_them.tokens_NHK, plain.tokens_NHK)
    torch.testing.assert_close(with_them.scores_N, plain.scores_N, rtol=1e-4, atol=1e-4)


def test_a_tokenizer_gives_the_same_latents_and_tokens() -> None:
    config = TokenizerConfig(vocab_size=64, embed_dim=16, z_channels=16, channels=16, res_blocks=1)
    tokenizer = Tokenizer(config, seed=0).eval()
    frames = torch.rand(11, 1, 84, 84, generator=torch.Generator().manual_seed(1))
    with torch.no_grad():
        with_them = tokenizer.encode(frames)
        with shortcuts.off():
            plain = tokenizer.encode(frames)
    torch.testing.assert_close(with_them.z, plain.z, rtol=1e-4, atol=1e-5)
    assert (with_them.tokens_BK == plain.tokens_BK).double().mean() > 0.99


@pytest.mark.parametrize("p", [0.0, 0.1, 0.5])
def test_masks_drop_with_their_probability_and_repeat_with_the_seed(p: float) -> None:
    torch.manual_seed(0)
    mask = keep_mask((1001, 501), p)
    assert set(mask.unique().tolist()) <= {0.0, 1.0}
    assert abs((mask == 0).double().mean().item() - p) < 0.003
    torch.manual_seed(0)
    assert torch.equal(mask, keep_mask((1001, 501), p))


def test_attention_is_causal_and_right_on_average() -> None:
    torch.manual_seed(0)
    query, key, value = (torch.randn(2, 3, 7, 4) for _ in range(3))
    exact = F.scaled_dot_product_attention(query, key, value, is_causal=True)
    torch.testing.assert_close(causal_attention(query, key, value, 0.0), exact)
    torch.testing.assert_close(causal_attention(query, key, value, 1e-9), exact)  # drops nothing: the other path
    mean = torch.stack([causal_attention(query, key, value, 0.1) for _ in range(2000)]).mean(0)
    torch.testing.assert_close(mean, exact, atol=0.05, rtol=0)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_what_is_kept_is_scaled_and_what_is_dropped_has_no_gradient(dtype: torch.dtype) -> None:
    torch.manual_seed(0)
    x = torch.full((300, 301), 2.0, dtype=dtype, requires_grad=True)
    y = Dropout(0.25)(x)
    y.float().sum().backward()
    assert x.grad is not None and y.dtype == dtype
    dropped = y == 0
    assert abs(dropped.double().mean().item() - 0.25) < 0.01
    for values, kept in ((y, 8 / 3), (x.grad, 4 / 3)):
        torch.testing.assert_close(values.float(), torch.where(dropped, 0.0, kept), atol=0, rtol=0.005)


def test_evaluation_and_zero_change_nothing() -> None:
    x = torch.randn(5, 6)
    assert torch.equal(Dropout(0.5).eval()(x), x) and torch.equal(Dropout(0.0)(x), x)


def test_the_plain_way_draws_as_pytorch_does() -> None:
    x, query, key, value = torch.randn(50, 60), *torch.randn(3, 2, 3, 7, 4)
    with shortcuts.off():
        torch.manual_seed(1)
        ours = Dropout(0.5)(x), causal_attention(query, key, value, 0.3)
    torch.manual_seed(1)
    theirs = nn.Dropout(0.5)(x), F.scaled_dot_product_attention(query, key, value, dropout_p=0.3, is_causal=True)
    assert all(torch.equal(one, other) for one, other in zip(ours, theirs, strict=True))
    torch.manual_seed(1)
    assert not torch.equal(Dropout(0.5)(x), theirs[0])


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


@pytest.mark.parametrize(("stride", "height", "width"), [(7, 84, 84), (2, 6, 10), (3, 3, 9), (1, 4, 4)])
def test_it_is_both_convolutions(stride: int, height: int, width: int) -> None:
    torch.manual_seed(0)
    inner = nn.Conv2d(5, 6, 3, padding=1).double()
    outer = nn.Conv2d(6, 4, stride + 1, stride=stride).double()
    skip, h = (torch.randn(2, channels, height, width, dtype=torch.float64) for channels in (6, 5))
    with torch.no_grad():
        expected = outer(F.pad(skip + inner(h), (0, 1, 0, 1)))
        torch.testing.assert_close(ComposedDownsample(inner, outer)(skip, h), expected, atol=1e-12, rtol=1e-12)


def test_under_autocast_it_rounds_no_more_than_the_two() -> None:
    torch.manual_seed(0)
    # Below 16 channels both would be noise on processors with AMX (torch 2.13).
    inner, outer = nn.Conv2d(16, 16, 3, padding=1), nn.Conv2d(16, 16, 8, stride=7)
    skip, h = torch.randn(2, 1, 16, 84, 84)
    with torch.no_grad():
        exact = outer(F.pad(skip + inner(h), (0, 1, 0, 1)))
        with torch.autocast("cpu", torch.bfloat16):
            two = outer(F.pad(skip.bfloat16() + inner(h), (0, 1, 0, 1)))
            one = ComposedDownsample(inner, outer)(skip.bfloat16(), h.bfloat16())
    errors = [(found.float() - exact).abs().mean() for found in (one, two)]
    assert errors[0] < 1.5 * errors[1]


@pytest.mark.parametrize("frames", [1, ENOUGH + 3])
def test_the_finest_level_is_plain_with_gradients_or_by_the_switch_and_else_the_same(
    frames: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(shortcuts, "IN_CACHE", 1 << 20)  # pieces of a few frames
    conv_in, level = nn.Conv2d(1, 8, 3, padding=1), Level(8, 8, blocks=2, groups=2)
    level.downsample = Downsample(8, 7)
    for module in (conv_in, level):
        initialise_orthogonal(module, torch.Generator().manual_seed(0))
    x = torch.randn(frames, 1, 84, 84, generator=torch.Generator().manual_seed(1))
    plain = level(conv_in(x))
    assert torch.equal(finest_level(conv_in, level, x), plain)
    with torch.no_grad():
        torch.testing.assert_close(finest_level(conv_in, level, x), plain, atol=1e-5, rtol=1e-5)
        with shortcuts.off():
            assert torch.equal(finest_level(conv_in, level, x), level(conv_in(x)))


@pytest.mark.parametrize(("height", "width", "bias"), [(4, 4, True), (1, 3, True), (5, 2, False)])
def test_doubling_and_a_convolution_are_four_small_ones(height: int, width: int, bias: bool) -> None:
    torch.manual_seed(0)
    conv = nn.Conv2d(5, 6, 3, padding=1, bias=bias).double()
    x = torch.randn(2, 5, height, width, dtype=torch.float64)
    with torch.no_grad():
        expected = conv(F.interpolate(x, scale_factor=2.0, mode="nearest"))
        torch.testing.assert_close(doubled(conv, x), expected, atol=1e-12, rtol=1e-12)


def test_an_upsample_is_plain_with_gradients_by_another_factor_or_by_the_switch_and_keeps_its_layout() -> None:
    torch.manual_seed(0)
    x = torch.randn(3, 16, 4, 4)
    upsample, third = Upsample(16, 2), Upsample(16, 3)
    plain = upsample.conv(F.interpolate(x, scale_factor=2.0, mode="nearest"))
    assert torch.equal(upsample(x), plain)
    with torch.no_grad():
        assert not torch.equal(upsample(x), plain)  # up to rounding
        torch.testing.assert_close(upsample(x), plain, atol=1e-5, rtol=1e-5)
        assert torch.equal(third(x), third.conv(F.interpolate(x, scale_factor=3.0, mode="nearest")))
        with shortcuts.off():
            assert torch.equal(upsample(x), plain)
        with torch.autocast("cpu", torch.bfloat16):
            moved = upsample(fastest_layout(x))
            assert moved.dtype == torch.bfloat16 and moved.is_contiguous(memory_format=torch.channels_last)
            assert float((moved.float() - plain).abs().max()) < 0.03


def test_only_bfloat16_on_a_cpu_has_its_channels_last() -> None:
    x = torch.randn(2, 1, 4, 4)
    assert fastest_layout(x) is x
    with torch.autocast("cpu", torch.bfloat16):
        moved = fastest_layout(x)
        assert torch.equal(moved, x) and moved.stride() == (16, 1, 4, 1)
        with shortcuts.off():
            assert fastest_layout(x) is x
