"""Checks the tokenizer against a golden file of the original (entries `tokenizer/*` and `tokenizer_loss/*`)."""

import math
from collections.abc import Mapping
from dataclasses import replace

import numpy as np
import torch

from models.losses.vq import commitment, reconstruction_l1
from models.parity import TOLERANCE, Check, compare, compare_exact, uncovered
from models.tokenizers.config import TokenizerConfig
from models.tokenizers.vq import Tokenizer

WEIGHTS = "weights/tokenizer/"
SECTIONS = ("tokenizer/", "tokenizer_loss/")
INPUTS = WEIGHTS + r".+|tokenizer/input"  # what is read and not compared


def config_from_weights(shapes: Mapping[str, tuple[int, ...]]) -> TokenizerConfig:
    """The configuration that gives a state_dict of these names and shapes (without prefix).

    What leaves no trace in the weights keeps its default: norm groups, resolution, cosine, EMA's numbers.
    Raises ValueError naming a weight that is missing.
    """

    def count(prefix: str) -> int:
        return len({name.removeprefix(prefix).split(".")[0] for name in shapes if name.startswith(prefix)})

    try:
        vocab_size, embed_dim = shapes["embedding.weight"]
        channels, stem_channels, *_ = shapes["encoder.conv_in.weight"]
        levels = range(count("encoder.down."))
        widths = [shapes[f"encoder.down.{level}.block.0.conv2.weight"][0] for level in levels]
        factors = tuple(width // channels for width in widths)
        return TokenizerConfig(
            vocab_size=vocab_size,
            embed_dim=embed_dim,
            z_channels=shapes["encoder.conv_out.weight"][0],
            channels=channels,
            channel_mult=() if set(factors) == {1} else factors,
            res_blocks=count("encoder.down.0.block."),
            attention="encoder.mid.attn_1.q.weight" in shapes,
            # A downsample's kernel is one wider than its stride.
            downsample=tuple(shapes[f"encoder.down.{level}.downsample.conv.weight"][2] - 1 for level in levels[:-1]),
            patch_stem=math.isqrt(stem_channels),
            quantizer="ema" if "embedding.cluster_size" in shapes else "straight_through",
        )
    except KeyError as missing:
        raise ValueError(f"These are not a tokenizer's weights: {missing} is missing") from missing


def read_tokenizer(arrays: Mapping[str, np.ndarray]) -> Tokenizer:
    """The tokenizer of a golden file's weights; its number of norm groups is that which comes nearest to `tokenizer/z`.

    Weights of a perceptual loss among them are ignored. Raises ValueError where one is missing or none fits.
    """
    named = {name.removeprefix(WEIGHTS): array for name, array in arrays.items() if name.startswith(WEIGHTS)}
    weights = {
        name: torch.from_numpy(np.array(array)) for name, array in named.items() if not name.startswith("lpips.")
    }
    config = config_from_weights({name: tuple(weight.shape) for name, weight in weights.items()})
    config = replace(config, resolution=_resolution(arrays, config))
    others = (count for count in range(1, config.channels + 1) if count != config.norm_groups)
    tried: list[tuple[float, Tokenizer]] = []
    for groups in (config.norm_groups, *others):
        if any(channels % groups for channels in config.level_channels):
            continue
        tokenizer = Tokenizer(replace(config, norm_groups=groups))
        tokenizer.load_state_dict(weights)
        tried.append((_error(tokenizer, arrays), tokenizer))
        if tried[-1][0] <= TOLERANCE:
            break
    if not tried:
        raise ValueError(f"No number of norm groups divides the tokenizer's channels {config.level_channels}")
    return min(tried, key=lambda one: one[0])[1]


def _resolution(arrays: Mapping[str, np.ndarray], config: TokenizerConfig) -> int:
    frames = next((arrays[name] for name in ("tokenizer/input", "batch/observations") if name in arrays), None)
    return config.resolution if frames is None else frames.shape[-1]


def _error(tokenizer: Tokenizer, arrays: Mapping[str, np.ndarray]) -> float:
    """How far the tokenizer is from the recorded latents; 0 where there are none."""
    if not {"tokenizer/input", "tokenizer/z"} <= arrays.keys():
        return 0.0
    with torch.no_grad():
        encoded = tokenizer.encode(_input(arrays))
    error = compare("tokenizer/z", encoded.z.numpy(), arrays["tokenizer/z"]).error
    return math.inf if math.isnan(error) else error


def _input(arrays: Mapping[str, np.ndarray]) -> torch.Tensor:
    return torch.from_numpy(np.array(arrays["tokenizer/input"])).float()


def check(arrays: Mapping[str, np.ndarray]) -> list[Check]:
    """Run the tokenizer on the golden input and compare latents, tokens, frames, losses and gradient norms.

    `arrays` holds a whole golden file; float32 on the CPU. Raises ValueError where the file has no tokenizer's weights.
    `grad_norm` is the norm over all parameters of the gradient of reconstruction + commitment, `grad_codebook` that of
    the codebook's part.
    """
    tokenizer = read_tokenizer(arrays)
    if not any(name.startswith(SECTIONS) for name in arrays):
        return []
    frames = _input(arrays)
    tokenized = tokenizer(frames)
    encoded = tokenized.encoded
    reconstruction_loss = reconstruction_l1(frames, tokenized.frames)
    commitment_loss = commitment(encoded.z, encoded.z_quantized)
    (reconstruction_loss + commitment_loss).backward()
    gradients = [parameter.grad for parameter in tokenizer.parameters() if parameter.grad is not None]
    codebook_gradient = tokenizer.embedding.weight.grad
    assert codebook_gradient is not None, "the commitment loss reaches the codebook"
    ours = {
        "tokenizer/z": encoded.z,
        "tokenizer/z_quantized": encoded.z_quantized,
        "tokenizer/reconstruction": tokenized.frames,
        "tokenizer_loss/reconstruction_loss": reconstruction_loss,
        "tokenizer_loss/commitment_loss": commitment_loss,
        "tokenizer_loss/grad_norm": torch.nn.utils.get_total_norm(gradients),
        "tokenizer_loss/grad_codebook": codebook_gradient.norm(),
    }
    checks = []
    if "tokenizer/tokens" in arrays:
        checks.append(compare_exact("tokenizer/tokens", encoded.tokens_BK.numpy(), arrays["tokenizer/tokens"]))
    checks += [compare(name, value.detach().numpy(), arrays[name]) for name, value in ours.items() if name in arrays]
    return checks + uncovered([name for name in arrays if name.startswith(SECTIONS)], checks, INPUTS)
