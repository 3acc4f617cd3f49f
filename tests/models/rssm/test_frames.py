"""Encoders and decoders: plain, residual, and in the context of one frame."""

from dataclasses import replace

import pytest
import torch

from models.api import Moment
from models.rssm.chance import Seeded
from models.rssm.config import FramesConfig
from models.rssm.context import ContextDecoder, ContextEncoder, Glance, blanked
from models.rssm.convolutions import PlainDecoder, PlainEncoder, ResidualLayer, ResnetDecoder, Trunk

SMALL = FramesConfig("context", 16, channels=4, stages=2, context_channels=4, heads=2)
FEATURE = 6


def draws(name: str = "test") -> Seeded:
    return Seeded(0, name, Moment(0))


@pytest.mark.parametrize("channels", [4, 8])
def test_frames_become_numbers_and_numbers_frames(channels: int) -> None:
    plain, resnet = FramesConfig("plain", channels=channels), FramesConfig("resnet", 32, channels, stages=2)
    for config, encoder, decoder in ((plain, PlainEncoder, PlainDecoder), (resnet, Trunk, ResnetDecoder)):
        frames = torch.rand(2, 3, config.resolution, config.resolution)
        assert encoder(config)(frames).shape == (2, config.embedded)
        assert decoder(config, FEATURE)(torch.rand(2, FEATURE)).shape == frames.shape
    assert (plain.embedded, resnet.embedded) == (8 * channels * 4, 2 * channels * 16)


def test_sizes_at_full_width() -> None:
    def size(module: torch.nn.Module) -> int:
        return sum(each.numel() for each in module.parameters())

    with torch.device("meta"):
        plain, resnet, context = (FramesConfig(kind) for kind in ("plain", "resnet", "context"))
        assert (size(PlainEncoder(plain)), size(PlainDecoder(plain, 2048))) == (1_551_312, 11_152_275)
        assert (size(Trunk(resnet)), size(ResnetDecoder(resnet, 2048))) == (1_562_112, 7_519_227)
        assert size(ContextEncoder(context)) == 3_124_224
        assert size(ContextDecoder(context, 2048)) == 7_705_275 + 73_728


def test_a_residual_layer_adds_what_it_reads_to_what_goes_past() -> None:
    layer = ResidualLayer(2, 2).eval()
    x, read = torch.rand(1, 2, 4, 4), torch.rand(1, 2, 4, 4)
    torch.nn.init.zeros_(layer.conv2.weight)
    assert torch.equal(layer(x, read), x)
    torch.nn.init.ones_(layer.conv2.weight)
    assert not torch.equal(layer(x, read), layer(x))


def test_a_rectangle_of_some_contexts_is_left_blank_while_it_is_learned_from() -> None:
    frames = torch.full((4_000, 3, 16, 16), 0.3)
    found = blanked(frames, 0.5, draws())
    assert torch.equal(blanked(frames, 0.5, draws()), found) and {*found.unique().tolist()} == {
        0.0,
        frames[0, 0, 0, 0].item(),
    }
    assert torch.equal(blanked(frames, 0.0, draws()), frames)
    gone = found[:, 0] == 0
    assert torch.equal(gone[:, None].expand_as(found), found == 0)
    some = gone[gone.flatten(1).any(1)]
    assert 0.46 < len(some) / len(frames) < 0.54
    heights, widths = some.any(2).sum(1), some.any(1).sum(1)
    assert torch.equal(some.sum((1, 2)), heights * widths), "a rectangle each"
    shares, ratios = heights * widths / 256, heights / widths
    assert shares.min() > 0.01 and shares.max() < 0.37 and 0.16 < shares.mean() < 0.19
    assert ratios.min() > 0.19 and ratios.max() < 5.1
    assert 0.46 < (ratios > 1).float().mean() + (ratios == 1).float().mean() / 2 < 0.54
    everywhere = some.float().mean(0)
    assert everywhere.min() > 0.005 and (everywhere - everywhere.flip(0)).abs().max() < 0.05


def test_only_learning_sees_a_blanked_context() -> None:
    config = replace(SMALL, context_frame="first", blanked=1.0)
    encoder, frames = ContextEncoder(config), torch.rand(5, 2, 3, 16, 16)
    shown = torch.zeros_like(frames[:, 0])
    encoder.context.read = lambda seen: (shown.copy_(seen), [])  # type: ignore[assignment, method-assign]
    encoder.eval().see(frames, draws())
    assert torch.equal(shown, frames[:, 0])
    encoder.train().see(frames, draws())
    assert torch.equal(shown, blanked(frames[:, 0], 1.0, draws())) and (shown == 0).flatten(1).any(1).all()
    with pytest.raises(ValueError, match=r"frames\.blanked is of a context, and frames.kind=resnet has none"):
        FramesConfig("resnet", blanked=0.5)


def test_a_glance_is_attention_to_the_places_that_were_drawn() -> None:
    glance, rows, steps, side = Glance(SMALL, 4, 4).eval(), 2, 3, 4
    torch.nn.init.normal_(glance.drawn_at)
    torch.nn.init.normal_(glance.context_at)
    x, context = torch.rand(rows * steps, 4, side, side), torch.rand(rows, 4, side, side)
    found = glance.look(x, context, draws())
    kept = draws().some("places16", rows * steps, 16, 4)
    queries = x.flatten(2).transpose(1, 2) + glance.drawn_at
    shown = (context.flatten(2).transpose(1, 2) + glance.context_at).repeat_interleave(steps, dim=0)
    keys = shown.gather(1, kept[..., None].expand(-1, -1, 4))
    expected, _ = glance.attention(queries, keys, keys, need_weights=False)
    torch.testing.assert_close(found, expected)


def test_pictures_repeat_where_draws_do() -> None:
    torch.manual_seed(0)  # of so few channels all may be dead
    decoder, encoder = ContextDecoder(SMALL, FEATURE).eval(), ContextEncoder(SMALL).eval()
    frames = torch.rand(2, 3, 3, 16, 16)
    context = encoder.see(frames, draws())
    assert {side: tuple(each.shape) for side, each in context.items()} == {8: (2, 4, 8, 8), 4: (2, 8, 4, 4)}
    features = torch.rand(6, FEATURE)
    first, again, other = (decoder.draw(features, context, draws(name)) for name in ("a", "a", "b"))
    assert torch.equal(first, again) and not torch.equal(first, other) and first.shape == (6, 3, 16, 16)
    assert len(decoder.positions) == 2


@pytest.mark.parametrize(("which", "at"), [("first", [0, 0]), ("last", [2, 2]), ("random", None)])
def test_the_frame_of_a_context(which: str, at: list[int] | None) -> None:
    config = FramesConfig("context", 16, 4, 2, context_channels=4, heads=2, context_frame=which)
    encoder, frames = ContextEncoder(config).eval(), torch.rand(2, 3, 3, 16, 16)
    at = draws().steps("context", 2, 3).tolist() if at is None else at
    shown = encoder.context.read(frames[torch.arange(2), at])[1]
    assert torch.equal(encoder.see(frames, draws())[8], shown[0])


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"kind": "plain", "resolution": 32}, "64 x 64 pixels alone, not 32"),
        ({"resolution": 36}, "36 is halved 4 times"),
        ({"kind": "context", "context_channels": 24}, "24 are looked at by a drawer of 48"),
        ({"kind": "context", "heads": 5}, "48 do not divide into 5 heads"),
        ({"kind": "transformer"}, "'transformer' is unknown"),
    ],
)
def test_sizes_that_cannot_be(changes: dict, words: str) -> None:
    with pytest.raises(ValueError, match=words):
        FramesConfig(**changes)
