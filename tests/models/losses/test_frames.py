import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from models.losses.frames import (
    VGG_SCALE,
    VGG_SHIFT,
    VGG_STAGES,
    Lpips,
    code_perplexity,
    commitment,
    motion_weight,
    reconstruction_l1,
)

WIDTHS = (2, 3, 4, 3, 2)


def frames(*values: float) -> torch.Tensor:
    return torch.tensor(values).view(1, 1, 1, -1)


def test_reconstruction_is_measured_on_the_scale_from_minus_one_to_one() -> None:
    assert reconstruction_l1(frames(0.0, 1.0), frames(0.5, 0.75)).item() == pytest.approx(2 * (0.5 + 0.25) / 2)


def test_weights_move_the_loss_without_scaling_it() -> None:
    x, x_hat, weight = frames(0.0, 1.0), frames(0.5, 0.75), frames(1.0, 3.0)
    expected = 2 * (0.5 * 0.5 + 1.5 * 0.25) / 2  # weights over their mean: 0.5 and 1.5
    assert reconstruction_l1(x, x_hat, weight).item() == pytest.approx(expected)
    assert reconstruction_l1(x, x_hat, 7 * weight).item() == pytest.approx(expected)


def test_shapes_that_would_broadcast_are_refused() -> None:
    with pytest.raises(ValueError, match="differ in shape"):
        reconstruction_l1(torch.zeros(2, 1, 4, 4), torch.zeros(2, 4, 4))


def test_commitment_moves_each_side_by_its_own_term() -> None:
    z = torch.tensor([1.0, 2.0], requires_grad=True)
    codes = torch.tensor([0.0, 4.0], requires_grad=True)
    loss = commitment(z, codes, beta=0.5)
    assert loss.item() == pytest.approx(1.5 * (1 + 4) / 2)
    loss.backward()
    assert codes.grad is not None and codes.grad.tolist() == [-1.0, 2.0]  # 2 (z_q - z) / 2
    assert z.grad is not None and z.grad.tolist() == [0.5, -1.0]  # beta 2 (z - z_q) / 2


def test_losses_are_float32_under_bfloat16() -> None:
    z = torch.full((4,), 1.0, dtype=torch.bfloat16)
    assert commitment(z, z + 1).dtype == torch.float32
    assert reconstruction_l1(z, z).dtype == torch.float32


def test_perplexity_of_hand_counted_tokens() -> None:
    assert code_perplexity(torch.tensor([[3, 3], [3, 3]]), 8).item() == pytest.approx(1.0)
    assert code_perplexity(torch.tensor([0, 1, 1, 1]), 2).item() == pytest.approx(4 / 3**0.75)


@given(st.integers(1, 50), st.integers(1, 4))
def test_perplexity_of_evenly_used_codes_is_their_number(codes: int, times: int) -> None:
    tokens = torch.arange(codes).repeat(times)
    assert math.isclose(code_perplexity(tokens, 64).item(), codes, rel_tol=1e-4)


@pytest.mark.parametrize("tokens", [[-1], [8], []])
def test_perplexity_refuses_tokens_outside_the_vocabulary(tokens: list[int]) -> None:
    with pytest.raises(ValueError, match=r"tokens in 0\.\.7"):
        code_perplexity(torch.tensor(tokens, dtype=torch.int64), 8)


def test_motion_weighs_what_differs_from_the_background() -> None:
    background = frames(0.25, 0.25)[0]  # (1, H, W)
    now = torch.cat([frames(0.25, 0.75), frames(0.0, 0.25)])
    assert motion_weight(now, background, gain=8.0).flatten(1).tolist() == [[1.0, 17.0], [17.0, 1.0]]


def weights(prefix: str = "lpips.net.slice{stage}.", lin: str = "lpips.lin{stage}.model.1.weight") -> dict[str, Tensor]:
    generator, found, channels = torch.Generator().manual_seed(0), {}, 3
    for stage, (width, numbers) in enumerate(zip(WIDTHS, VGG_STAGES, strict=True)):
        for n in numbers:
            name = prefix.format(stage=stage + 1) + str(n)
            found[f"{name}.weight"] = torch.randn(width, channels, 3, 3, generator=generator) * 0.4
            found[f"{name}.bias"] = torch.rand(width, generator=generator)
            channels = width
        found[lin.format(stage=stage)] = torch.rand(1, width, 1, 1, generator=generator)
    return found


def pictures(seed: int) -> Tensor:
    return torch.rand(2, 1, 20, 20, generator=torch.Generator().manual_seed(seed))


def by_hand(x: Tensor, y: Tensor) -> float:
    """Equation 1 place by place, over features from torch's own layers."""

    def features(frame: Tensor) -> list[Tensor]:
        found, h = [], torch.stack([(2 * frame[0] - 1 - VGG_SHIFT[c]) / VGG_SCALE[c] for c in range(3)])[None]
        tensors = weights()
        for stage, numbers in enumerate(VGG_STAGES):
            h = h if stage == 0 else torch.nn.MaxPool2d(2, 2)(h)
            for n in numbers:
                weight = tensors[f"lpips.net.slice{stage + 1}.{n}.weight"]
                layer = torch.nn.Conv2d(weight.shape[1], weight.shape[0], 3, padding=1)
                layer.load_state_dict({"weight": weight, "bias": tensors[f"lpips.net.slice{stage + 1}.{n}.bias"]})
                h = torch.nn.ReLU()(layer(h)).detach()
            found.append(h[0])
        return found

    total = 0.0
    for one, other in zip(x, y, strict=True):
        for stage, (a, b) in enumerate(zip(features(one), features(other), strict=True)):
            lin, places = weights()[f"lpips.lin{stage}.model.1.weight"].flatten().tolist(), []
            for i in range(a.shape[1]):
                for j in range(a.shape[2]):
                    p, q = a[:, i, j].tolist(), b[:, i, j].tolist()
                    p_len, q_len = (math.sqrt(sum(v * v for v in vector)) + 1e-10 for vector in (p, q))
                    places.append(sum(w * (u / p_len - v / q_len) ** 2 for w, u, v in zip(lin, p, q, strict=True)))
            total += sum(places) / len(places)
    return total / len(x)


def test_it_is_the_papers_equation() -> None:
    assert Lpips(weights())(pictures(1), pictures(2)).item() == pytest.approx(
        by_hand(pictures(1), pictures(2)), rel=1e-4
    )


def test_equal_pictures_have_no_distance_and_grey_is_three_equal_colours() -> None:
    distance, x, y = Lpips(weights()), pictures(1), pictures(2)
    assert distance(x, x).item() == 0
    assert distance(x, y).item() == distance(x.expand(-1, 3, -1, -1), y.expand(-1, 3, -1, -1)).item()


def test_the_pictures_get_a_gradient_and_the_weights_are_no_parameters() -> None:
    distance, x = Lpips(weights()), pictures(1).requires_grad_()
    distance(x, pictures(2)).backward()
    assert x.grad is not None and torch.isfinite(x.grad).all() and bool(x.grad.any())
    assert list(distance.parameters()) == [] and distance.state_dict() == {}


@pytest.mark.parametrize(
    ("prefix", "lin"),
    [("features.", "lin{stage}.model.1.weight"), ("_orig_mod.lpips.net.slice{stage}.", "lin{stage}.model.0.weight")],
)
def test_weights_under_other_names_are_the_same(prefix: str, lin: str) -> None:
    other = weights(prefix, lin)
    assert Lpips(other)(pictures(1), pictures(2)).item() == Lpips(weights())(pictures(1), pictures(2)).item()


def test_what_is_missing_or_misshapen_is_named() -> None:
    incomplete = weights()
    del incomplete["lpips.net.slice3.12.bias"]
    with pytest.raises(ValueError, match="conv12_bias missing"):
        Lpips(incomplete)
    misshapen = weights() | {"lpips.lin4.model.1.weight": torch.ones(1, 5, 1, 1)}
    with pytest.raises(ValueError, match=r"weighting 4 is \(1, 5, 1, 1\)"):
        Lpips(misshapen)
    with pytest.raises(ValueError, match="convolution 5 is"):
        Lpips(weights() | {"lpips.net.slice2.5.weight": torch.ones(3, 9, 3, 3)})


def test_colours_are_scaled_as_imagenets_are() -> None:
    """VGG16 learned from pictures less ImageNet's mean over its deviation, of colours in [0, 1]."""
    means, deviations = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
    assert pytest.approx([2 * mean - 1 for mean in means]) == VGG_SHIFT
    assert pytest.approx([2 * deviation for deviation in deviations]) == VGG_SCALE
