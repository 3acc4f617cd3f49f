import pytest

from models.tokenizers.config import TokenizerConfig


def test_the_original_has_36_tokens_a_frame() -> None:
    config = TokenizerConfig()
    assert (config.tokens_per_frame, config.grid, config.levels, config.level_channels) == (36, 6, 3, (64, 64, 64))


@pytest.mark.parametrize(("stem", "downsample"), [(1, (7, 2)), (2, (7,)), (7, (2,)), (1, (14,))])
def test_stems_and_downsamples_share_the_stride(stem: int, downsample: tuple[int, ...]) -> None:
    assert TokenizerConfig(patch_stem=stem, downsample=downsample).tokens_per_frame == 36


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"patch_stem": 5}, "choose factors whose product divides"),
        ({"downsample": ()}, "one factor or more"),
        ({"downsample": (7, 0)}, "at least 1"),
        ({"vocab_size": 0}, "at least 1"),
        ({"channel_mult": (1, 2)}, "2 factors for 3 levels"),
        ({"channels": 9}, "norm groups"),
        ({"channel_mult": (1, 0, 1)}, "channel_mult 1,0,1 is impossible"),
        ({"vocab_size": 70_000}, "vocab_size 70000 is impossible: it must be at most 65536"),
        ({"quantizer": "lfq"}, "tokenizer.quantizer 'lfq' is unknown"),
        ({"kmeans_start": True}, "tokenizer.kmeans_start True has no effect on codes of 'straight_through': set"),
        ({"revive_below": 1.0}, "set tokenizer.quantizer=ema, or leave it 0.0"),
        ({"revive": "anywhere"}, "tokenizer.revive anywhere has no effect"),
        ({"ema_decay": 0.9}, "set tokenizer.quantizer=ema, or leave it 0.99"),
        ({"quantizer": "ema", "ema_decay": 1.0}, "ema_decay"),
        ({"quantizer": "ema", "revive_below": -1.0}, "revive_below"),
    ],
)
def test_impossible_sizes_say_what_to_change(changes: dict, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        TokenizerConfig(**changes)
