import pytest
import torch
from torch import nn

from models.blocks.layers import (
    Downsample,
    EnsembleMLP,
    Level,
    ResidualBlock,
    SpatialAttention,
    Upsample,
    initialise_orthogonal,
)


def test_downsample_pads_right_and_bottom_only() -> None:
    down = Downsample(1, stride=2)
    nn.init.ones_(down.conv.weight)
    nn.init.zeros_(down.conv.bias)
    out = down(torch.arange(16.0).view(1, 1, 4, 4))
    # 3x3 sums at rows and columns 0 and 2; the last column and row reach one past the frame, into zeros.
    assert out.tolist() == [[[[45.0, 39.0], [66.0, 50.0]]]]


@pytest.mark.parametrize(("side", "stride"), [(84, 7), (12, 2), (42, 7), (12, 3)])
def test_down_and_up_are_exact_multiples(side: int, stride: int) -> None:
    x = torch.zeros(1, 2, side, side)
    small = Downsample(2, stride)(x)
    assert small.shape == (1, 2, side // stride, side // stride)
    assert Upsample(2, stride)(small).shape == x.shape


def test_residual_block_is_the_identity_when_its_last_convolution_is_zero() -> None:
    block = ResidualBlock(4, 4, groups=2)
    nn.init.zeros_(block.conv2.weight)
    nn.init.zeros_(block.conv2.bias)
    x = torch.randn(2, 4, 5, 5, generator=torch.Generator().manual_seed(0))
    assert torch.equal(block(x), x)
    assert ResidualBlock(4, 6, groups=2)(x).shape == (2, 6, 5, 5)


def test_attention_mixes_positions_as_written_out() -> None:
    attention = SpatialAttention(4, groups=2)
    initialise_orthogonal(attention, torch.Generator().manual_seed(1))
    x = torch.randn(2, 4, 3, 3, generator=torch.Generator().manual_seed(0))
    h = attention.norm(x)
    q, k, v = (layer(h).flatten(2) for layer in (attention.q, attention.k, attention.v))  # (B, C, N)
    shares = torch.softmax(torch.einsum("bcn,bcm->bnm", q, k) / 4**0.5, dim=-1)
    expected = x + attention.proj_out(torch.einsum("bnm,bcm->bcn", shares, v).view_as(x))
    torch.testing.assert_close(attention(x), expected)


def test_initialisation_is_orthogonal_with_relu_gain_and_follows_its_generator() -> None:
    levels = [Level(4, 4, blocks=1, groups=2, attention=True) for _ in range(2)]
    for level in levels:
        initialise_orthogonal(level, torch.Generator().manual_seed(3))
    weight = levels[0].attn[0].q.weight.flatten(1)
    torch.testing.assert_close(weight @ weight.T, 2 * torch.eye(4), atol=1e-5, rtol=0)
    assert not levels[0].block[0].conv1.bias.any()
    for ours, theirs in zip(levels[0].parameters(), levels[1].parameters(), strict=True):
        assert torch.equal(ours, theirs)


def filled(members: int, dropout: float = 0.0) -> EnsembleMLP:
    ensemble = EnsembleMLP(members, (6, 5, 4, 3), dropout)
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for parameter in ensemble.params:
            parameter.copy_(torch.randn(parameter.shape, generator=generator))
    return ensemble


def test_each_member_equals_an_mlp_of_its_own_parameters() -> None:
    ensemble, x = filled(3), torch.randn(2, 7, 6, generator=torch.Generator().manual_seed(1))
    ours = ensemble(x)
    assert ours.shape == (3, 2, 7, 3)
    for member in range(3):
        alone = nn.Sequential(
            nn.Linear(6, 5), nn.LayerNorm(5), nn.Mish(), nn.Linear(5, 4), nn.LayerNorm(4), nn.Mish(), nn.Linear(4, 3)
        )
        names = [name for name, _ in alone.named_parameters()]  # weight, bias, norm weight, norm bias, ...
        alone.load_state_dict({name: tensor[member] for name, tensor in zip(names, ensemble.params, strict=True)})
        torch.testing.assert_close(ours[member], alone(x))


def test_dropout_is_on_in_training_and_off_in_eval() -> None:
    ensemble, x = filled(2, dropout=0.5), torch.randn(9, 6)
    assert not torch.equal(ensemble.train()(x), ensemble(x))
    assert torch.equal(ensemble.eval()(x), ensemble(x))


def test_parameters_are_stacked_in_the_released_order() -> None:
    shapes = [tuple(parameter.shape) for parameter in filled(2).params]
    hidden = [(2, 5, 6), (2, 5), (2, 5), (2, 5), (2, 4, 5), (2, 4), (2, 4), (2, 4)]
    assert shapes == [*hidden, (2, 3, 4), (2, 3)]
    assert [name for name, _ in filled(2).named_parameters()] == [f"params.{i}" for i in range(10)]
