import pytest
import torch
from torch import Tensor

from models.cpu import shortcuts
from models.cpu.shortcuts import ENOUGH
from models.losses.frames import commitment, reconstruction_l1
from models.tokenizers.config import TokenizerConfig
from models.tokenizers.vq import Encoder, Tokenizer, random_shift

# Below 16 channels torch 2.13 computes noise in bf16 on AMX; `pipelines.training.device` guards real runs.
SMALL = {"embed_dim": 16, "z_channels": 16, "channels": 16}
TINY = TokenizerConfig(vocab_size=32, embed_dim=8, z_channels=8, channels=4, attention=False, res_blocks=1)
CHEAP = TokenizerConfig(
    vocab_size=32, embed_dim=8, z_channels=8, channels=8, attention=False, res_blocks=1, patch_stem=7, downsample=(2,)
)


@pytest.mark.parametrize(
    "config",
    [
        TokenizerConfig(**SMALL),
        TokenizerConfig(**SMALL, res_blocks=1, attention=False),
        TokenizerConfig(**SMALL, patch_stem=2, downsample=(3, 7), channel_mult=(1, 2, 1)),
        TokenizerConfig(**SMALL, downsample=(7,)),
    ],
)
@pytest.mark.parametrize("frames", [1, ENOUGH + 3])
def test_without_gradients_latents_are_the_same(
    config: TokenizerConfig, frames: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(shortcuts, "IN_CACHE", 1 << 20)  # pieces of a few frames
    torch.manual_seed(0)
    network = Encoder(config).eval()
    x = torch.rand(frames, 1, 84, 84) * 2 - 1
    learning = network(x)
    with torch.no_grad():
        frozen = network(x)
        with torch.autocast("cpu", torch.bfloat16):
            rounded = network(x)
    torch.testing.assert_close(frozen, learning, atol=1e-5, rtol=1e-5)
    assert rounded.dtype == torch.bfloat16
    assert (rounded.float() - frozen).abs().mean() < 0.02 * frozen.abs().mean()


def frames_uint8(*shape: int, seed: int = 0) -> Tensor:
    return torch.randint(0, 256, (*shape, 84, 84), dtype=torch.uint8, generator=torch.Generator().manual_seed(seed))


def test_the_default_is_the_original_size_and_has_its_names() -> None:
    tokenizer = Tokenizer(TokenizerConfig())
    assert round(sum(p.numel() for p in tokenizer.parameters()) / 1e6, 2) == 4.05
    names = {name.rsplit(".", 1)[0] for name in tokenizer.state_dict()}
    assert {
        "encoder.down.0.downsample.conv", "encoder.down.2.attn.1.proj_out", "encoder.mid.attn_1.q", "embedding",
        "decoder.up.2.upsample.conv", "decoder.up.1.block.2.norm2", "decoder.mid.attn_1.norm", "post_quant_conv",
    } <= names  # fmt: skip
    assert not any("decoder.up" in name and "attn" in name for name in names)


@pytest.mark.parametrize(
    "changes",
    [
        {},
        {"attention": True},
        {"patch_stem": 2, "downsample": (7,), "quantizer": "ema", "kmeans_start": True},
        {"patch_stem": 7, "downsample": (2,), "channel_mult": (1, 3)},
    ],
)
def test_shapes_hold_for_every_stem_and_width(changes: dict) -> None:
    sizes = {"vocab_size": 32, "embed_dim": 8, "z_channels": 6, "channels": 4, "attention": False, "res_blocks": 1}
    tokenizer = Tokenizer(TokenizerConfig(**(sizes | changes)))
    out = tokenizer(frames_uint8(2, 1) / 255)
    assert out.frames.shape == (2, 1, 84, 84)
    assert out.encoded.z.shape == out.encoded.z_quantized.shape == (2, 8, 6, 6)
    assert out.encoded.tokens_BK.shape == (2, 36) and out.encoded.tokens_BK.dtype == torch.int64


def test_tokens_round_trip_through_leading_axes() -> None:
    tokenizer = Tokenizer(CHEAP).eval()
    frames = frames_uint8(2, 3)[:, :, None]
    tokens_BTK = tokenizer.encode_tokens(frames)
    assert tokens_BTK.shape == (2, 3, 36)
    out = tokenizer(frames.flatten(0, 1) / 255)
    assert torch.equal(tokens_BTK.flatten(0, 1), out.encoded.tokens_BK)
    decoded = tokenizer.decode_tokens(tokens_BTK.to(torch.int32))
    assert decoded.shape == (2, 3, 1, 84, 84)
    torch.testing.assert_close(decoded.flatten(0, 1), out.frames.clamp(0, 1))
    assert torch.equal(tokenizer.encode_tokens(frames[0, 0]), tokens_BTK[0, 0])


def test_encoding_tokens_leaves_an_ema_codebook_alone_while_training() -> None:
    tokenizer = Tokenizer(TokenizerConfig(**{**vars(CHEAP), "quantizer": "ema", "kmeans_start": True}))
    before = tokenizer.embedding.weight.clone()
    tokenizer.encode_tokens(frames_uint8(4, 1))
    assert torch.equal(tokenizer.embedding.weight, before)
    assert "embedding.cluster_size" in tokenizer.state_dict()


def test_frames_of_colours_have_a_tokenizer_of_their_own() -> None:
    tokenizer = Tokenizer(TokenizerConfig(**{**vars(CHEAP), "frame_channels": 3})).eval()
    tokens = tokenizer.encode_tokens(frames_uint8(2, 3))
    assert tokens.shape == (2, tokenizer.config.tokens_per_frame)
    assert tokenizer.decode_tokens(tokens).shape == (2, 3, 84, 84)
    with pytest.raises(ValueError, match=r"of shape \(B, 3, 84, 84\)"):
        tokenizer.encode_tokens(frames_uint8(2, 1))


@pytest.mark.parametrize(
    "frames",
    [torch.zeros(2, 84, 84), torch.zeros(2, 3, 84, 84), torch.zeros(2, 1, 64, 64), torch.zeros(2, 1, 84, 84).byte()],
)
def test_other_frames_are_refused(frames: Tensor) -> None:
    with pytest.raises(ValueError, match=r"do not fit the tokenizer: give floats in \[0, 1\]"):
        Tokenizer(TINY).encode(frames)


def test_other_tokens_and_types_are_refused() -> None:
    tokenizer = Tokenizer(CHEAP)
    with pytest.raises(ValueError, match="uint8 frames"):
        tokenizer.encode_tokens(torch.zeros(2, 84, 84))
    with pytest.raises(ValueError, match="last axis must be 36"):
        tokenizer.decode_tokens(torch.zeros(2, 35, dtype=torch.int64))


def test_the_seed_decides_the_weights() -> None:
    same, again, other = (Tokenizer(CHEAP, seed=seed).state_dict() for seed in (1, 1, 2))
    assert all(torch.equal(value, again[name]) for name, value in same.items())
    assert not torch.equal(same["encoder.conv_in.weight"], other["encoder.conv_in.weight"])
    assert not torch.equal(same["embedding.weight"], other["embedding.weight"])


@pytest.mark.parametrize("quantizer", [pytest.param("straight_through", marks=pytest.mark.slow), "ema"])
def test_it_learns_and_every_parameter_gets_a_gradient(quantizer: str) -> None:
    tokenizer = Tokenizer(TokenizerConfig(**{**vars(CHEAP), "quantizer": quantizer}))
    optimizer = torch.optim.Adam(tokenizer.parameters(), lr=3e-3)
    frames = torch.zeros(8, 1, 84, 84)
    for i in range(8):
        frames[i, 0, 10 * i : 10 * i + 14, 20:62] = 1.0
    losses = []
    for _ in range(40):
        out = tokenizer(frames)
        loss = reconstruction_l1(frames, out.frames) + commitment(out.encoded.z, out.encoded.z_quantized)
        optimizer.zero_grad()
        loss.backward()
        assert all(p.grad is not None for p in tokenizer.parameters())
        optimizer.step()
        losses.append(loss.item())
    assert losses[-1] < losses[0] / 2


def ramp(batch: int) -> torch.Tensor:
    """Frames (batch, 1, 10, 12) whose pixel is 12 * row + column: its value tells where it came from."""
    return torch.arange(120).view(1, 1, 10, 12).repeat(batch, 1, 1, 1)


def test_every_frame_is_the_original_moved_by_whole_pixels() -> None:
    shifted = random_shift(ramp(200), 3, torch.Generator().manual_seed(0))
    moves = set()
    for frame in shifted[:, 0]:
        down, right = divmod(int(frame[5, 5]), 12)
        down, right = down - 5, right - 5
        moves.add((down, right))
        rows = (torch.arange(10) + down).clamp(0, 9)
        columns = (torch.arange(12) + right).clamp(0, 11)
        assert torch.equal(frame, ramp(1)[0, 0][rows][:, columns])
    assert {down for down, _ in moves} == {right for _, right in moves} == set(range(-3, 4))


@pytest.mark.parametrize("dtype", [torch.uint8, torch.float32])
def test_type_survives_and_the_generator_decides(dtype: torch.dtype) -> None:
    first, second = (random_shift(ramp(4).to(dtype), 3, torch.Generator().manual_seed(7)) for _ in range(2))
    assert first.dtype == dtype and torch.equal(first, second)
    assert torch.equal(random_shift(ramp(4), 0, torch.Generator()), ramp(4))
