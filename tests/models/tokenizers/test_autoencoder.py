"""What a CPU does without gradients, pieces and composed kernels, gives what training sees."""

import pytest
import torch

from models.cpu import convolution
from models.cpu.convolution import ENOUGH
from models.tokenizers.autoencoder import Encoder
from models.tokenizers.config import TokenizerConfig

# Below 16 channels torch 2.13 computes noise in bf16 on AMX; `pipelines.training.device` guards real runs.
SMALL = {"embed_dim": 16, "z_channels": 16, "channels": 16}


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
    monkeypatch.setattr(convolution, "IN_CACHE", 1 << 20)  # pieces of a few frames
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
