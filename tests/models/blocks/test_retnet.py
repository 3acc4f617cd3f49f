"""Retention: recorded numbers, its three forms alike, and that nothing is seen that must not be seen."""

from itertools import pairwise

import pytest
import torch
from torch import Tensor

from models.blocks.retnet import RetNet, angles, decays, parallel, recurrent, retained, rotated


def qkv(seed: int = 0, length: int = 60) -> list[Tensor]:
    draws = torch.Generator().manual_seed(seed)
    return [torch.randn(2, 4, length, 8, generator=draws, dtype=torch.float64) for _ in range(3)]


def test_decays_angles_and_a_turned_vector_are_the_recorded_ones() -> None:
    assert decays(4).tolist() == pytest.approx([0.96875, 0.9875984292814984, 0.9950784333988482, 0.998046875])
    assert angles(8)[::2].tolist() == pytest.approx([1, 0.0464158883361278, 0.0021544346900318825, 1e-4])
    turned = rotated(torch.arange(1.0, 9.0, dtype=torch.float64).view(1, 1, 1, 8), torch.tensor([3]))
    expected = [-1.27223251272018, -1.8388649851410237, 2.4157696930868227, 4.377677099782852]
    expected += [4.961116010193666, 6.032190972888713, 6.997599685036002, 8.002099639968502]
    assert turned.flatten().tolist() == pytest.approx(expected, abs=1e-7)


def test_a_core_of_formulas_gives_the_recorded_sums() -> None:
    h, n, d = (
        torch.arange(size, dtype=torch.float64).view(shape) for size, shape in ((4, (4, 1, 1)), (6, (6, 1)), (4, (4,)))
    )
    q, k, v = (each[None] for each in (torch.sin(1 + h + 2 * n + 3 * d), torch.cos(2 + h + n - d), h * 0))
    v = torch.sin(0.5 * h - n + 0.7 * d)[None]
    outputs, states = retained(q, k / 2, v, decays(4), block=3)
    recorded = [-1.2423944755836258, -0.49676077967564336, 0.48250727301509166, 1.2348446158227167]
    assert outputs[0, 0, 5].tolist() == pytest.approx(recorded, abs=1e-12)
    assert float(outputs.square().sum()) == pytest.approx(24.32012227876809)
    assert states.sum((0, 1, 3, 4)).tolist() == pytest.approx([-1.2282153532716218, -2.8700506133030124])


def test_the_three_forms_are_equal_in_float64_whatever_the_chunks() -> None:
    q, k, v = qkv()
    gammas = decays(4)
    whole = parallel(q, k, v, gammas)
    token_by_token, last = recurrent(q, k, v, gammas)
    assert float((whole - token_by_token).abs().max()) < 1e-12
    for block, per_chunk in ((60, 1), (12, 1), (12, 2), (12, 3), (12, 9), (1, 1), (5, 5)):
        outputs, states = retained(q, k, v, gammas, block=block, per_chunk=per_chunk)
        assert float((outputs - whole).abs().max()) < 1e-12, (block, per_chunk)
        assert float((states[:, :, -1] - last).abs().max()) < 1e-12
        for number in range(states.shape[2]):
            _, state = recurrent(*(x[:, :, : (number + 1) * block] for x in (q, k, v)), gammas)
            assert float((states[:, :, number] - state).abs().max()) < 1e-12


def test_reading_goes_on_from_a_state() -> None:
    q, k, v = qkv(1)
    gammas, found, state = decays(4), [], None
    for first, last in pairwise((0, 7, 8, 31, 60)):
        outputs, states = retained(*(x[:, :, first:last] for x in (q, k, v)), gammas, state)
        state, found = states[:, :, -1], [*found, outputs]
    assert float((torch.cat(found, dim=2) - parallel(q, k, v, gammas)).abs().max()) < 1e-12


def test_blocks_that_do_not_divide_are_refused() -> None:
    with pytest.raises(ValueError, match="60 tokens do not divide into blocks of 7: give whole blocks"):
        retained(*qkv(), decays(4), block=7)


# ---- the decoder ----

ORDER = ["norm1", *(f"retention.{name}_proj" for name in ("q", "k", "v", "g", "out")), "norm2", "linear1", "linear2"]


def by_formula() -> RetNet:
    """Two layers of width 32, parameter i set to 0.1 sin(0.37 j + i)."""
    net, number = RetNet(2, 4, 32, 0.0, torch.Generator()).double().eval(), 0
    for layer in net.layers:
        parameters = dict(layer.named_parameters())
        for name in (f"{part}.{kind}" for part in ORDER for kind in ("weight", "bias")):
            with torch.no_grad():
                size = parameters[name].numel()
                values = 0.1 * torch.sin(0.37 * torch.arange(size, dtype=torch.float64) + number)
                parameters[name].copy_(values.view_as(parameters[name]))
            number += 1
    return net


def formula_inputs() -> tuple[Tensor, Tensor]:
    """Four blocks of five tokens, and four prediction tokens for each."""
    x = torch.sin(0.11 * torch.arange(1280, dtype=torch.float64)).view(2, 20, 32)
    table = torch.cos(0.2 * torch.arange(160, dtype=torch.float64)).view(5, 32)
    return x, table[:4].expand(2, 4, 4, 32)


def pop(net: RetNet, x: Tensor, tokens: Tensor, per_chunk: int = 1) -> Tensor:
    """Of each block the outputs of its prediction tokens, then that of its last token: (2, 4, 5, 32)."""
    reading = net.read(x, block=5, per_chunk=per_chunk, predict=tokens, behind=slice(0, 4))
    return torch.cat([reading.predicted_NMPD, reading.outputs_NLD.unflatten(1, (4, 5))[:, :, 4:]], dim=2)


@torch.no_grad()
def test_a_decoder_of_formulas_gives_the_recorded_numbers() -> None:
    net = by_formula()
    y = net.read(torch.sin(0.11 * torch.arange(768, dtype=torch.float64)).view(2, 12, 32)).outputs_NLD
    recorded = [0.7717178625837608, 0.31366541625121387, 0.6233962623217024, 0.8603752074493954]
    assert y[0, 11, :4].tolist() == pytest.approx(recorded, abs=1e-10)
    assert float(y.sum()) == pytest.approx(36.46688614777197, abs=1e-8)
    found = pop(net, *formula_inputs())
    assert float(found.sum()) == pytest.approx(76.62017781291934, abs=1e-8)
    assert float(found.square().sum()) == pytest.approx(1021.8475400271495, abs=1e-7)
    recorded = [-0.9159799924155987, -1.3489236126287811, -0.9870072880605311]
    assert found[1, 3, 4, :3].tolist() == pytest.approx(recorded, abs=1e-9)


@torch.no_grad()
def test_predicting_in_one_pass_is_predicting_block_by_block() -> None:
    net, (x, tokens) = by_formula(), formula_inputs()
    fused = [pop(net, x, tokens, per_chunk) for per_chunk in (1, 2, 3, 4)]
    assert all(float((each - fused[0]).abs().max()) < 1e-12 for each in fused)
    whole, ends = (net.read(x, block=5, predict=tokens, behind=slice(0, 4), ends_only=only) for only in (False, True))
    assert float((whole.outputs_NLD[:, 4::5] - ends.outputs_NLD).abs().max()) < 1e-12
    assert float((whole.predicted_NMPD - ends.predicted_NMPD).abs().max()) < 1e-12
    assert all(float((one - other).abs().max()) < 1e-12 for one, other in zip(whole.states, ends.states, strict=True))
    nothing = tuple(torch.zeros(2, 4, 8, 8, dtype=torch.float64) for _ in net.layers)
    states = nothing
    for block in range(4):
        predicted = net.predict(tokens[:, block], states, 5 * block)
        assert float((predicted - fused[0][:, block, :4]).abs().max()) < 1e-12
        reading = net.read(x[:, 5 * block : 5 * block + 5], states if block else (), 5 * block)
        assert float((reading.outputs_NLD[:, 4] - fused[0][:, block, 4]).abs().max()) < 1e-12
        states = reading.last


@torch.no_grad()
def test_predictions_see_earlier_blocks_and_earlier_places_and_nothing_else() -> None:
    net, (x, tokens) = by_formula(), formula_inputs()
    plain, other, draws = pop(net, x, tokens), x.clone(), torch.Generator().manual_seed(0)
    other[:, 5 * 1 + 2] += torch.randn(32, generator=draws, dtype=torch.float64)  # a token of block 1
    moved_TC = (pop(net, other, tokens) - plain).abs().amax((0, 3)) > 1e-9
    assert moved_TC.tolist() == [[False] * 5, [False] * 4 + [True], [True] * 5, [True] * 5]
    turned = tokens.clone()
    turned[:, :, 2] += torch.randn(32, generator=draws, dtype=torch.float64)
    moved_TC = (pop(net, x, turned) - plain).abs().amax((0, 3)) > 1e-9
    assert moved_TC.tolist() == [[False, False, True, True, False]] * 4


def test_layers_begin_alike_and_weights_depend_on_the_seed_alone() -> None:
    same, again, other = (RetNet(2, 2, 16, 0.0, torch.Generator().manual_seed(seed)) for seed in (1, 1, 2))
    assert all(torch.equal(each, again.state_dict()[name]) for name, each in same.state_dict().items())
    first, second = (layer.linear1.weight for layer in same.layers)
    assert torch.equal(first, second) and first is not second
    assert not torch.equal(first, other.layers[0].linear1.weight)


def test_decays_can_be_other_ones_and_layers_can_begin_each_for_itself() -> None:
    assert decays(4, 34, 102).tolist() == pytest.approx([0.9705882, 0.97960705, 0.9858603, 0.99019605], abs=1e-6)
    net = RetNet(2, 4, 32, 0.0, torch.Generator(), horizons=(34, 102), alike=False)
    assert torch.equal(net.gammas, decays(4, 34, 102))
    first, second = (layer.linear1.weight for layer in net.layers)
    assert not torch.equal(first, second)
    first, second = (layer.linear1.weight for layer in RetNet(2, 4, 32, 0.0, torch.Generator()).layers)
    assert torch.equal(first, second)
