"""What every shortcut of `models/cpu` gains on this processor: `python -m pipelines.tools.bench.shortcuts`.

One thread. The same call with and without shortcuts, in turns in one process, at the sizes of JOWA-40M; the figures are
medians, and CPU time is what to compare on a shared machine. A shortcut that some kind of processor runs slower than
the plain way has no place in `models/cpu`.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from functools import partial

import torch
from torch import Tensor

from models.blocks.layers import Upsample
from models.blocks.transformer import KVCache, Transformer
from models.cpu import shortcuts
from models.cpu.shortcuts import Dropout, PackedModule, causal_attention
from models.tokenizers.config import TokenizerConfig
from models.tokenizers.vq import Encoder
from pipelines.tools.bench.row import Row, table
from pipelines.tools.bench.train import in_turns

PASSES = 20  # of one token, timed together


@dataclass(frozen=True)
class Sizes:
    """What is measured, and how often. A transformer reads `tokens` of each row, a search continues half of them."""

    layers: int = 4
    heads: int = 8
    width: int = 512
    dropout: float = 0.1
    batch: int = 8
    tokens: int = 296
    rows: tuple[int, ...] = (1, 2, 4, 8, 16)
    tokenizer: TokenizerConfig = field(default_factory=TokenizerConfig)
    frames: tuple[int, ...] = (1, 8, 32)
    doubled: tuple[tuple[int, int], ...] = (
        (128, 8),
        (64, 32),
    )  # channels and side, in IRIS's and Delta-IRIS's decoders
    learning: int = 8  # frames that are encoded with gradients
    rounds: int = 7


QUICK = Sizes(
    layers=1,
    heads=2,
    width=32,
    batch=2,
    tokens=12,
    rows=(1, 2),
    tokenizer=TokenizerConfig(channels=16, res_blocks=1),
    frames=(1,),
    doubled=((4, 4),),
    learning=1,
    rounds=1,
)


def run(sizes: Sizes) -> list[Row]:
    """Measure all rows, each in float32 and in bfloat16, on one thread."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        return [
            _row(f"{what}, {'bf16' if bf16 else 'float32'}", bf16, call, sizes.rounds)
            for calls in (_training, _playing, _encoding)
            for bf16 in (False, True)
            for what, call in calls(sizes, torch.bfloat16 if bf16 else torch.float32)
        ]
    finally:
        torch.set_num_threads(before)


def _row(what: str, bf16: bool, call: Callable[[], object], rounds: int) -> Row:
    def autocast() -> None:
        with torch.autocast("cpu", torch.bfloat16, enabled=bf16):
            call()

    def plain() -> None:
        with shortcuts.off():
            autocast()

    theirs, ours = in_turns(rounds, plain, autocast)
    ms_ours, ms_theirs = (f"{taken.cpu * 1e3:.1f} ms" for taken in (ours, theirs))
    return Row(what, what, "the plain way", ms_ours, ms_theirs, theirs.wall / ours.wall, None, theirs.cpu / ours.cpu)


def _training(sizes: Sizes, dtype: torch.dtype) -> Iterator[tuple[str, Callable[[], object]]]:
    shape = (sizes.batch, sizes.heads, sizes.tokens, sizes.width // sizes.heads)
    query, key, value = (torch.randn(shape, dtype=dtype, requires_grad=True) for _ in range(3))
    attention = partial(causal_attention, query, key, value, sizes.dropout)
    x_BLD = torch.randn(sizes.batch, sizes.tokens, sizes.width, dtype=dtype)
    transformer = Transformer(sizes.layers, sizes.heads, sizes.width, sizes.dropout)
    yield f"dropout of {tuple(x_BLD.shape)}", partial(Dropout(sizes.dropout), x_BLD)
    yield f"attention with dropout, {shape}", attention
    yield "attention with dropout and gradients", lambda: attention().sum().backward()
    yield "transformer with gradients", lambda: transformer(x_BLD.float()).sum().backward()


def _playing(sizes: Sizes, dtype: torch.dtype) -> Iterator[tuple[str, Callable[[], object]]]:
    transformer = Transformer(sizes.layers, sizes.heads, sizes.width, sizes.dropout).eval()
    packed, start = PackedModule(transformer), sizes.tokens // 2
    for rows in sizes.rows:
        with torch.autocast("cpu", torch.bfloat16, enabled=dtype == torch.bfloat16):
            cache = transformer.empty_cache(rows, sizes.tokens)
        x_N1D = torch.randn(rows, 1, sizes.width)

        @torch.no_grad()
        def read(cache: KVCache = cache, x_N1D: Tensor = x_N1D) -> None:
            player = packed.current()
            for _ in range(PASSES):
                cache.length = start
                player(x_N1D, cache)

        yield f"{PASSES} passes of a token, {rows} row{'s' * (rows > 1)}", read


def _encoding(sizes: Sizes, dtype: torch.dtype) -> Iterator[tuple[str, Callable[[], object]]]:
    encoder, side = Encoder(sizes.tokenizer), sizes.tokenizer.resolution
    yield "encoder with gradients", lambda: encoder(torch.rand(sizes.learning, 1, side, side)).sum().backward()
    for frames in sizes.frames:
        x_BCHW = torch.rand(frames, 1, side, side)
        yield f"encoder, {frames} frame{'s' * (frames > 1)}", torch.no_grad()(partial(encoder, x_BCHW))
    for channels, side in sizes.doubled:
        upsample, x_NCHW = Upsample(channels, 2), torch.randn(max(sizes.frames), channels, side, side)
        what = f"doubling {max(sizes.frames)} x {channels} x {side} x {side} and a convolution"
        yield what, torch.no_grad()(partial(upsample, x_NCHW))


if __name__ == "__main__":
    print(table(run(Sizes())))
