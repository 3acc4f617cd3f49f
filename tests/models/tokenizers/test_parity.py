from pathlib import Path

import numpy as np
import pytest
import torch

from models.tokenizers.config import TokenizerConfig
from models.tokenizers.parity import WEIGHTS, check, config_from_weights, read_tokenizer
from models.tokenizers.vq import Tokenizer

GOLDEN = Path(__file__).parents[2] / "golden"
FILES = sorted(path.name for path in GOLDEN.glob("jowa_*.npz"))


def load(name: str) -> dict[str, np.ndarray]:
    with np.load(GOLDEN / name, allow_pickle=False) as archive:
        wanted = ("tokenizer/", "tokenizer_loss/", "weights/tokenizer/")
        return {key: archive[key] for key in archive.files if key.startswith(wanted)}


def test_both_golden_files_are_here() -> None:
    assert FILES == ["jowa_c51_cql_q1.npz", "jowa_c51_cql_q3.npz"]


@pytest.mark.parametrize("name", FILES)
def test_tokenizer_agrees_with_the_original(name: str) -> None:
    arrays = load(name)
    checks = check(arrays)
    assert {one.name for one in checks} == {
        key for key in arrays if not key.startswith("weights/") and key != "tokenizer/input"
    }
    for one in checks:
        assert one.ok and one.covered, one


def test_a_changed_weight_fails_and_an_unknown_entry_is_not_covered() -> None:
    arrays = load(FILES[0])
    arrays["weights/tokenizer/decoder.conv_out.bias"] = arrays["weights/tokenizer/decoder.conv_out.bias"] + 0.01
    arrays["tokenizer/novelty"] = np.zeros(1)
    checks = {one.name: one for one in check(arrays)}
    assert checks["tokenizer/tokens"].ok and not checks["tokenizer/reconstruction"].ok
    assert not checks["tokenizer/novelty"].covered and not checks["tokenizer/novelty"].ok


@pytest.mark.parametrize(
    "config",
    [
        TokenizerConfig(vocab_size=64, embed_dim=16, z_channels=12, channels=8),
        TokenizerConfig(channels=4, attention=False, patch_stem=2, downsample=(7,), res_blocks=1, quantizer="ema"),
        TokenizerConfig(channels=4, attention=False, patch_stem=7, downsample=(2,), channel_mult=(1, 2), res_blocks=3),
    ],
)
def test_config_is_read_back_from_weights(config: TokenizerConfig) -> None:
    shapes = {name: tuple(value.shape) for name, value in Tokenizer(config).state_dict().items()}
    assert config_from_weights(shapes) == config


def test_weights_of_something_else_are_refused() -> None:
    with pytest.raises(ValueError, match=r"missing.*embedding\.weight|embedding\.weight.*missing"):
        config_from_weights({"linear.weight": (2, 2)})


@pytest.mark.parametrize(("groups", "resolution"), [(1, 84), (4, 84), (2, 28)])
def test_what_weights_do_not_tell_is_read_from_the_latents(groups: int, resolution: int) -> None:
    config = TokenizerConfig(
        vocab_size=16, embed_dim=8, z_channels=8, channels=8, norm_groups=groups, resolution=resolution
    )
    tokenizer = Tokenizer(config, seed=3).eval()
    frames = torch.rand(2, 1, resolution, resolution, generator=torch.Generator().manual_seed(0))
    arrays = {WEIGHTS + name: tensor.numpy() for name, tensor in tokenizer.state_dict().items()}
    arrays |= {WEIGHTS + "lpips.lin0.model.1.weight": np.ones(1), "tokenizer/input": frames.numpy()}
    arrays["tokenizer/z"] = tokenizer.encode(frames).z.detach().numpy()
    assert read_tokenizer(arrays).config == config
