"""Finite scalar quantisation: codes by hand, tokens there and back, gradients, and what a config may not ask for."""

from dataclasses import replace

import pytest
import torch

from models.api import Learning
from models.rem.agent import RemAgent
from models.rem.config import TOKENIZER
from models.tokenizers.config import TokenizerConfig
from models.tokenizers.fsq import FSQ
from models.tokenizers.vq import Tokenizer
from tests.models.practice.learning import LEGAL, OBJECTIVES, SMALL_SIZES, frames_of, gradients, segments
from tests.models.rem.small_rem import CONFIG as SMALL_REM
from tests.models.rem.small_rem import STEPS

SMALL = replace(TOKENIZER, vocab_size=60, quantizer="fsq", fsq_levels=(5, 4, 3), **SMALL_SIZES)


def test_every_token_has_a_code_of_its_own_and_rounding_finds_it_back() -> None:
    book = FSQ(SMALL)
    codes_VF = book.codes()
    assert codes_VF.shape == (60, 3) and len(codes_VF.unique(dim=0)) == 60
    assert codes_VF[0].tolist() == [-1, -1, -1] and codes_VF[-1].tolist() == [1, 0.5, 1]
    assert codes_VF[1].tolist() == [-0.5, -1, -1] and codes_VF[5].tolist() == [-1, -0.5, -1]
    inside_VF = ((codes_VF * book.steps_F + book.offset_F) / book.half_F).clamp(-0.9999, 0.9999)
    latents_VF = inside_VF.atanh() - (book.offset_F / book.half_F).tan()
    found = book.quantize(latents_VF.T.reshape(1, 3, 6, 10))
    assert found.tokens_BK[0].tolist() == list(range(60))
    assert torch.equal(found.z_quantized, book.look_up(found.tokens_BK.view(1, 6, 10)))


def test_the_furthest_latents_still_have_tokens() -> None:
    far = torch.tensor([-1e9, 1e9, 0.0]).repeat(3, 1).T.reshape(3, 3, 1, 1)
    assert FSQ(SMALL).quantize(far).tokens_BK.flatten().tolist()[:2] == [0, 59]


def test_gradients_pass_the_rounding_and_grow_small_far_out() -> None:
    z = torch.tensor([0.0, 9.0]).repeat(3, 1).T.reshape(2, 3, 1, 1).requires_grad_()
    FSQ(SMALL).quantize(z).straight_through.sum().backward()
    assert z.grad is not None and float(z.grad[0].min()) > 0.5 and float(z.grad[1].max()) < 1e-4


def test_a_tokenizer_of_it_has_no_codebook_to_save_and_shows_mapped_codes() -> None:
    tokenizer, frames = Tokenizer(SMALL, seed=1), torch.rand(2, 3, 32, 32)
    assert not [name for name in tokenizer.state_dict() if name.startswith("embedding.")]
    found = tokenizer(frames)
    found.frames.square().mean().backward()
    assert all(each.grad is not None and bool(each.grad.any()) for each in tokenizer.parameters())
    tokens_BK = found.encoded.tokens_BK
    assert tokenizer.table().shape == (60, 16) and tokenizer.maps(tokens_BK).shape == (2, 16, 4, 4)
    assert torch.allclose(tokenizer.maps(tokens_BK), tokenizer.post_quant_conv(found.encoded.z_quantized), atol=1e-6)
    assert torch.allclose(tokenizer.decode_tokens(tokens_BK), found.frames.clamp(0, 1), atol=1e-5)


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"fsq_levels": ()}, r"fsq_levels \(\) make 1 tokens, vocab_size is 60: give levels of 2 or more"),
        ({"fsq_levels": (60, 1)}, "give levels of 2 or more whose product it is"),
        ({"vocab_size": 512}, r"fsq_levels \(5, 4, 3\) make 60 tokens, vocab_size is 512"),
        ({"quantizer": "ema"}, "fsq_levels are of FSQ: leave them empty"),
        ({"embed_dim": 8}, r"set tokenizer.embed_dim \(8\) to z_channels \(16\)"),
        ({"kmeans_start": True}, "kmeans_start True has no effect on codes of 'fsq': set tokenizer.quantizer=ema"),
        ({"ema_smoothing": 1e-5}, "ema_smoothing 1e-05 has no effect on codes of 'fsq'"),
    ],
)
def test_what_makes_no_fsq_is_refused(changes: dict, words: str) -> None:
    with pytest.raises(ValueError, match=words):
        replace(SMALL, **changes)
    with pytest.raises(ValueError, match=r"Without tokenizer.quant_convs codes are latents: embed_dim 8"):
        TokenizerConfig(quant_convs=False, embed_dim=8)


def test_another_family_of_tokens_can_take_it() -> None:
    """REM's world model and actor read mapped codes."""
    rem = replace(
        SMALL_REM,
        tokenizer=replace(SMALL_REM.tokenizer, quantizer="fsq", fsq_levels=(4, 4)),
        weights=replace(SMALL_REM.weights, commitment=0.0),
    )
    agent = RemAgent(rem, seed=1)
    agent.config.require_fit(STEPS)
    agent.start(Learning(0, LEGAL), OBJECTIVES)
    for objective, steps in (("world_model", STEPS), ("actor_critic", rem.length("actor_critic") or 0)):
        _, found = gradients(agent, objective, segments(steps=steps, side="right"))
        assert found and all(name.startswith(objective) for name in found)
    _, found = gradients(agent, "tokenizer", frames_of(segments(), 0))
    assert found.keys() == {f"tokenizer.{name}" for name, _ in agent.tokenizer.named_parameters()}
