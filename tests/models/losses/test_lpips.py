import math

import pytest
import torch
from torch import Tensor

from models.losses.lpips import SCALE, SHIFT, STAGES, Lpips

WIDTHS = (2, 3, 4, 3, 2)


def weights(prefix: str = "lpips.net.slice{stage}.", lin: str = "lpips.lin{stage}.model.1.weight") -> dict[str, Tensor]:
    generator, found, channels = torch.Generator().manual_seed(0), {}, 3
    for stage, (width, numbers) in enumerate(zip(WIDTHS, STAGES, strict=True)):
        for n in numbers:
            name = prefix.format(stage=stage + 1) + str(n)
            found[f"{name}.weight"] = torch.randn(width, channels, 3, 3, generator=generator) * 0.4
            found[f"{name}.bias"] = torch.rand(width, generator=generator)
            channels = width
        found[lin.format(stage=stage)] = torch.rand(1, width, 1, 1, generator=generator)
    return found


def frames(seed: int) -> Tensor:
    return torch.rand(2, 1, 20, 20, generator=torch.Generator().manual_seed(seed))


def by_hand(x: Tensor, y: Tensor) -> float:
    """Equation 1 place by place, over features from torch's own layers."""

    def features(frame: Tensor) -> list[Tensor]:
        found, h = [], torch.stack([(2 * frame[0] - 1 - SHIFT[c]) / SCALE[c] for c in range(3)])[None]
        tensors = weights()
        for stage, numbers in enumerate(STAGES):
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
    assert Lpips(weights())(frames(1), frames(2)).item() == pytest.approx(by_hand(frames(1), frames(2)), rel=1e-4)


def test_equal_pictures_have_no_distance_and_grey_is_three_equal_colours() -> None:
    distance, x, y = Lpips(weights()), frames(1), frames(2)
    assert distance(x, x).item() == 0
    assert distance(x, y).item() == distance(x.expand(-1, 3, -1, -1), y.expand(-1, 3, -1, -1)).item()


def test_the_pictures_get_a_gradient_and_the_weights_are_no_parameters() -> None:
    distance, x = Lpips(weights()), frames(1).requires_grad_()
    distance(x, frames(2)).backward()
    assert x.grad is not None and torch.isfinite(x.grad).all() and bool(x.grad.any())
    assert list(distance.parameters()) == [] and distance.state_dict() == {}


@pytest.mark.parametrize(
    ("prefix", "lin"),
    [("features.", "lin{stage}.model.1.weight"), ("_orig_mod.lpips.net.slice{stage}.", "lin{stage}.model.0.weight")],
)
def test_weights_under_other_names_are_the_same(prefix: str, lin: str) -> None:
    other = weights(prefix, lin)
    assert Lpips(other)(frames(1), frames(2)).item() == Lpips(weights())(frames(1), frames(2)).item()


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
    assert pytest.approx([2 * mean - 1 for mean in means]) == SHIFT
    assert pytest.approx([2 * deviation for deviation in deviations]) == SCALE
