"""REM's and Simulus's plain tokenizers: their sizes, and what a config of one may not ask for."""

from dataclasses import replace

import pytest
import torch

from models.rem.config import TOKENIZER
from models.tokenizers.config import TokenizerConfig
from models.tokenizers.vq import Tokenizer

SMALL = replace(TOKENIZER, vocab_size=16, embed_dim=6, z_channels=16, channels=4, norm_groups=2, resolution=32)


def test_at_full_size_it_has_the_originals_parameters() -> None:
    assert sum(each.numel() for each in Tokenizer(TOKENIZER).parameters()) == 3_189_667
    assert (TOKENIZER.tokens_per_frame, TOKENIZER.level_channels) == (64, (32, 64, 128, 256))


@pytest.mark.parametrize("stack", ["plain", "strided"])
def test_it_encodes_decodes_and_learns(stack: str) -> None:
    config = replace(SMALL, stack=stack)  # type: ignore[arg-type]
    tokenizer, frames = Tokenizer(config, seed=1), torch.rand(3, 3, 32, 32)
    found = tokenizer(frames)
    assert found.encoded.tokens_BK.shape == (3, 16) and found.frames.shape == frames.shape
    found.frames.square().mean().backward()
    learned = {name for name, each in tokenizer.named_parameters() if each.grad is not None and each.grad.any()}
    assert learned == {name for name, _ in tokenizer.named_parameters()} - {"embedding.weight"}
    pictures = (frames * 255).to(torch.uint8)
    tokens = tokenizer.encode_tokens(pictures)
    assert torch.equal(tokens[1], tokenizer.encode_tokens(pictures[1]))
    assert tokenizer.decode_tokens(tokens).shape == frames.shape


def test_a_strided_stack_has_one_convolution_a_level_and_mirrored_widths() -> None:
    config = replace(SMALL, stack="strided", z_channels=6)
    tokenizer = Tokenizer(config)
    assert config.decoder_channels == (32, 16, 8, 4) and all(len(block) == 3 for block in tokenizer.encoder.blocks)
    with pytest.raises(ValueError, match=r"Channels \(32, 16, 8, 4\) of the decoder do not divide into 2 norm"):
        replace(config, z_channels=7)


def test_a_decoder_of_other_norm_groups_has_the_same_weights_and_decodes_otherwise() -> None:
    wide = replace(SMALL, channels=8, z_channels=32)
    eight, other = Tokenizer(wide), Tokenizer(replace(wide, decoder_groups=8))
    other.load_state_dict(eight.state_dict())
    tokens = torch.arange(16)
    assert not torch.allclose(eight.decode_tokens(tokens), other.decode_tokens(tokens), atol=1e-3)


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"attention": True}, "has neither attention nor a patch stem"),
        ({"channel_mult": (1, 1, 1, 1)}, "doubles its channels"),
        ({"z_channels": 14}, r"Channels \(14, 7, 4, 4\) of the decoder do not divide into 2 norm groups"),
        ({"decoder_groups": 32}, "do not divide into 32 norm groups"),
    ],
)
def test_what_makes_no_plain_stack_is_refused(changes: dict, words: str) -> None:
    with pytest.raises(ValueError, match=words):
        replace(SMALL, **changes)
    with pytest.raises(ValueError, match=r"decoder_groups is of a plain stack: set it to 0"):
        TokenizerConfig(decoder_groups=2)
