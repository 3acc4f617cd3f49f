"""A tokenizer's loss: IRIS's recorded numbers at full size, and what each term weighs."""

from dataclasses import replace

import pytest
import torch

from models.iris.config import IrisConfig
from models.losses.frames import Lpips
from models.tokenizers.config import TokenizerConfig, TokenizerWeights
from models.tokenizers.loss import tokenizer_loss
from models.tokenizers.vq import Tokenizer
from tests.models.iris import hashed
from tests.models.iris.hashed import FACTS, agrees
from tests.models.iris.test_state_dict import THEIRS


def test_tokens_latents_and_losses_of_frames_are_the_recorded_ones() -> None:
    frames_NCHW = hashed.frames()[:, :2].flatten(0, 1)
    with torch.no_grad():
        out = hashed.tokenizer()(frames_NCHW.float() / 255)
        losses = tokenizer_loss(frames_NCHW.float() / 255, out, TokenizerWeights())
    tokens_BK = out.encoded.tokens_BK.tolist()
    assert (tokens_BK[0], tokens_BK[3]) == (FACTS["tokens_b0_t0"], FACTS["tokens_b1_t1"])
    assert agrees(out.encoded.z.unflatten(0, (2, 2)), FACTS["z"], 1e-5)
    assert agrees(out.encoded.z_quantized.unflatten(0, (2, 2)), FACTS["zq"])
    assert agrees(out.frames.unflatten(0, (2, 2)), FACTS["recon_unclamped"], 1e-5)
    assert float(losses.terms["commitment"]) == pytest.approx(FACTS["tok_commitment"], abs=2e-6)
    assert float(losses.terms["l1"]) == pytest.approx(FACTS["tok_l1"], abs=2e-6)
    assert losses.terms.keys() == {"commitment", "l1"}, "without its weights the perceptual term is left out"
    assert float(losses.total) == pytest.approx(FACTS["tok_commitment"] + FACTS["tok_l1"], abs=4e-6)


def test_the_perceptual_distance_is_the_recorded_one() -> None:
    prefix = "tokenizer.lpips."
    shapes = {name.removeprefix(prefix): tuple(s) for name, (_, *s) in THEIRS.items() if name.startswith(prefix)}
    lpips = Lpips(hashed.weights({name: s for name, s in shapes.items() if "scaling_layer" not in name}))
    frames = hashed.frames()[:, :2].float() / 255
    found = [float(lpips(row[:1], row[1:])) for row in frames]
    assert found == pytest.approx(FACTS["lpips_eval_obs0_vs_obs1"], abs=2e-6)


def test_every_term_counts_by_its_weight() -> None:
    frames = hashed.frames()[0, :1].float() / 255
    with torch.no_grad():
        out = hashed.tokenizer()(frames)
        nothing = TokenizerWeights(0, 0, 0, 0)
        only = {
            name: tokenizer_loss(frames, out, replace(nothing, **{name: 2.0}), lambda x, y: x.sum())
            for name in ("l1", "mse", "lpips", "commitment")
        }
        plain = tokenizer_loss(frames, out, TokenizerWeights(encoder=0.0))
    for name, losses in only.items():
        assert losses.terms.keys() == {name} and float(losses.total) == pytest.approx(2 * float(losses.terms[name]))
    assert float(only["mse"].terms["mse"]) == pytest.approx(float((2 * (out.frames - frames)).square().mean()))
    assert float(plain.terms["commitment"]) == pytest.approx(float(only["commitment"].terms["commitment"]) / 2)


SMALL = TokenizerConfig(
    8, 6, 5, 4, norm_groups=2, downsample=(2, 2), resolution=8, frame_channels=3, value_layers=(7,), initial="uniform"
)


def test_a_value_is_learned_from_returns_and_moves_the_encoder() -> None:
    tokenizer, frames, returns_n = Tokenizer(SMALL), torch.rand(3, 3, 8, 8), torch.tensor([5.0, -1.0, 0.0])
    weights = TokenizerWeights(0, 0, 0, 0, value=2.0, returns_scale=10.0)
    losses = tokenizer_loss(frames, tokenizer(frames), weights, returns_n=returns_n)
    values_n = tokenizer.critic(tokenizer(frames).encoded.straight_through)
    assert float(losses.terms["value"]) == pytest.approx(float((values_n - returns_n / 10).square().mean().detach()))
    assert float(losses.total) == pytest.approx(2 * float(losses.terms["value"]))
    losses.total.backward()
    assert tokenizer.encoder.conv_in.weight.grad.abs().sum() > 0
    assert tokenizer.decoder.conv_in.weight.grad is None


def test_without_a_critic_there_are_no_keys_and_without_returns_no_value() -> None:
    plain = Tokenizer(replace(SMALL, value_layers=()))
    assert [name for name in Tokenizer(SMALL).state_dict() if name not in plain.state_dict()] == [
        f"critic.layers.{place}.{kind}" for place in (1, 3) for kind in ("weight", "bias")
    ]
    frames = torch.rand(1, 3, 8, 8)
    assert plain(frames).values is None
    with pytest.raises(ValueError, match="give the batch returns, and value_layers"):
        tokenizer_loss(frames, Tokenizer(SMALL)(frames), TokenizerWeights(value=1.0))
    with pytest.raises(ValueError, match=r"weights\.value is 1\.0 and tokenizer\.value_layers \(\): a value is"):
        IrisConfig(weights=TokenizerWeights(value=1.0)).require_fit(20)
