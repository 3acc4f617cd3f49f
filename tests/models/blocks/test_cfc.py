"""CfC layers in series: recorded numbers of `ncps`, steps against sequences, gradients, masks."""

import pytest
import torch

from models.blocks.cfc import WiredCfc
from models.blocks.wiring import auto_ncp


def recorded_case() -> tuple[WiredCfc, torch.Tensor]:
    """Weights and input by formula, in float64: (network of 16 units, x (2, 3, 5))."""
    network = WiredCfc(auto_ncp(inputs=5, units=16, outputs=4)).double()
    for i, parameter in enumerate(network.parameters()):
        values = 0.3 * torch.sin(0.37 * torch.arange(parameter.numel(), dtype=torch.float64) + i)
        parameter.data = values.reshape(parameter.shape)
    return network, torch.sin(0.5 * torch.arange(30, dtype=torch.float64)).reshape(2, 3, 5)


@pytest.mark.parametrize(
    "wired, motor, total",
    [
        (
            True,
            (-0.10029041961947993, -0.13417114282738096, 0.016119299671178547, -0.0655419384139461),
            -2.6475405289232112,
        ),
        (
            False,
            (-0.042487702755802076, -0.16370972858659955, 0.055622418486107446, -0.08704234269333938),
            -3.0239809773240722,
        ),
    ],
)
def test_recorded_numbers(wired: bool, motor: tuple[float, ...], total: float) -> None:
    network, x_BTI = recorded_case()
    if not wired:
        for layer in network.children():
            layer.sparsity_mask.fill_(1)
    y_BTM, state_BU = network(x_BTI, network.empty_state(2))
    torch.testing.assert_close(y_BTM[0, 2], torch.tensor(motor, dtype=torch.float64), rtol=1e-13, atol=1e-14)
    assert state_BU.sum().item() == pytest.approx(total, rel=1e-13)


def test_a_sequence_is_its_steps_with_the_state_carried() -> None:
    network, x_BTI = recorded_case()
    whole_BTM, last_BU = network(x_BTI, network.empty_state(2))
    state_BU, steps = network.empty_state(2), []
    for x_BI in x_BTI.unbind(1):
        y_B1M, state_BU = network(x_BI[:, None], state_BU)
        steps.append(y_B1M)
    torch.testing.assert_close(torch.cat(steps, 1), whole_BTM, rtol=1e-13, atol=1e-14)
    torch.testing.assert_close(state_BU, last_BU, rtol=1e-13, atol=1e-14)


def test_masked_weights_neither_act_nor_learn() -> None:
    network, x_BTI = recorded_case()
    layer = network.get_submodule("layer_0")
    absent = layer.sparsity_mask == 0
    before, _ = network(x_BTI, network.empty_state(2))
    layer.ff1.weight.data[absent] += 5
    after, _ = network(x_BTI, network.empty_state(2))
    torch.testing.assert_close(before, after, rtol=0, atol=0)
    after.sum().backward()
    assert (layer.ff1.weight.grad[absent] == 0).all() and (layer.ff2.weight.grad[absent] == 0).all()
    assert (layer.time_a.weight.grad[absent] != 0).any()  # the gate reads every input


def test_gradient_is_the_numerical_one() -> None:
    network, x_BTI = recorded_case()
    x_BTI = x_BTI[:1, :2].clone().requires_grad_()
    state_BU = torch.full((1, 16), 0.2, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(lambda x, state: network(x, state), (x_BTI, state_BU))


def test_names_are_those_of_ncps_and_masks_are_no_parameters() -> None:
    network = WiredCfc(auto_ncp(5, 16, 4))
    linear = [f"{part}.{kind}" for part in ("ff1", "ff2", "time_a", "time_b") for kind in ("weight", "bias")]
    expected = {f"layer_{i}.{name}" for i in range(3) for name in ["sparsity_mask", *linear]}
    assert set(network.state_dict()) == expected
    assert not any("sparsity_mask" in name for name, _ in network.named_parameters())


def test_seed_fixes_the_weights() -> None:
    first, same = (WiredCfc(auto_ncp(5, 16, 4), torch.Generator().manual_seed(3)) for _ in range(2))
    for ours, theirs in zip(first.parameters(), same.parameters(), strict=True):
        assert torch.equal(ours, theirs)


def test_bfloat16_stays_near_float32() -> None:
    network, x_BTI = recorded_case()
    network, x_BTI = network.float(), x_BTI.float()
    exact, _ = network(x_BTI, network.empty_state(2))
    with torch.autocast("cpu", torch.bfloat16):
        rough, _ = network(x_BTI, network.empty_state(2))
    assert (rough.float() - exact).abs().max() < 0.02
