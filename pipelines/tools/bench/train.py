"""Training's two hot paths against the plain way, measured side by side: `worldline bench train`.

The settings are those in which JOWA's authors' code was measured: 2 threads, JOWA-40M, stage 2 on 8 segments of random
tokens (2,368 of them), and its tokenizer on 64 frames. Plain and ours take steps in turns in one process; the figures
are medians. The paper's sizes on a GPU are `train_device.py`'s.
"""

import copy
import statistics
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn

from models.api import Batch
from models.iris.config import WorldModelConfig
from models.jowa.agent import parameter_groups
from models.jowa.config import JowaConfig
from models.jowa.loss import sequence, world_action_loss
from models.jowa.model import Jowa
from models.tokenizers.config import TokenizerConfig
from models.tokenizers.vq import Tokenizer
from pipelines.progress import say
from pipelines.tools.bench import train_plain
from pipelines.tools.bench.row import Row
from pipelines.tools.bench.train_profile import top_lines
from pipelines.training import device
from pipelines.training.device import Device

THREADS = 2

ORIGINAL_STEP, ORIGINAL_FRAMES = 1.24, 47.0  # seconds, frames a second: on another machine, so compare with care

LR, WEIGHT_DECAY, CLIP = 1e-4, 0.01, 1.0

NO_BF16 = "bf16 was not measured: this processor has no instructions for it"


@dataclass(frozen=True)
class Sizes:
    """What is measured, and how often."""

    model: JowaConfig = field(default_factory=JowaConfig)
    tokenizer: TokenizerConfig = field(default_factory=TokenizerConfig)
    segments: int = 8
    frames: int = 64
    rounds: int = 7


FULL = Sizes()

QUICK = Sizes(
    JowaConfig(layers=1, heads=2, width=32, q_hidden=32),
    TokenizerConfig(vocab_size=64, embed_dim=16, z_channels=16, channels=8, res_blocks=1),
    segments=2,
    frames=8,
    rounds=2,
)


@dataclass(frozen=True)
class Taken:
    """Medians over the rounds, in seconds."""

    wall: float
    cpu: float


def run(sizes: Sizes = FULL) -> list[Row]:
    """Measure all rows, on `THREADS` threads."""
    with threads():
        return [*_steps(sizes), *_encodings(sizes)]


def profiles(sizes: Sizes = FULL) -> list[str]:
    """The profile of our side of each row, on `THREADS` threads, as tables."""
    say("Profiling ...")
    model, batch = Jowa(sizes.model), random_batch(sizes.model, sizes.segments)
    tokenizer, frames_BHW = Tokenizer(sizes.tokenizer).eval(), random_frames(sizes)
    with threads():
        return [
            top_lines(f"{what}, {'bf16' if bf16 else 'float32'}", call)
            for bf16 in (False, True)
            for what, call in (
                ("stage-2 step", partial(stage_2(copy.deepcopy(model), Device("cpu", bf16)), batch)),
                ("encode", partial(encode, tokenizer, frames_BHW, Device("cpu", bf16))),
            )
        ]


@contextmanager
def threads(number: int = THREADS) -> Iterator[None]:
    """So many of them, and afterwards as many as before."""
    before = torch.get_num_threads()
    torch.set_num_threads(number)
    try:
        yield
    finally:
        torch.set_num_threads(before)


class Step:
    """One training step, as the loop takes it: losses, gradients, clip, AdamW of the parameters' `groups`."""

    def __init__(
        self, model: nn.Module, groups: list[dict[str, Any]], loss: Callable[[Batch], Tensor], device: Device
    ) -> None:
        self.model, self.device, self._loss = model.train(), device, loss
        self.optimiser = torch.optim.AdamW(groups, lr=LR, fused=True)

    def __call__(self, batch: Batch) -> float:
        """The loss."""
        with self.device.autocast():
            loss = self._loss(batch)
        self.optimiser.zero_grad(set_to_none=True)
        loss.backward()
        nn.utils.clip_grad_norm_(self.model.parameters(), CLIP)
        self.optimiser.step()
        return float(loss.detach())


def stage_2(model: Jowa, device: Device) -> Step:
    """A step of stage 2, with all actions legal."""
    config = model.config
    legal_GA = torch.ones(config.num_games, config.num_actions, dtype=torch.bool, device=device.name)
    groups = parameter_groups(model, WEIGHT_DECAY)
    return Step(model, groups, lambda batch: world_action_loss(model, batch, legal_GA).total, device)


def random_batch(config: JowaConfig | WorldModelConfig, segments: int, seed: int = 0) -> Batch:
    """Whole segments of random tokens, actions, rewards and games, of one game for IRIS; no episode ends."""
    games = config.num_games if isinstance(config, JowaConfig) else 1
    generator = torch.Generator().manual_seed(seed)
    shape = (segments, config.max_steps)

    def draw(high: int, *size: int) -> Tensor:
        return torch.randint(0, high, size, generator=generator)

    return Batch(
        actions_BT=draw(config.num_actions, *shape),
        rewards_BT=draw(3, *shape).float() - 1,
        ends_BT=torch.zeros(shape, dtype=torch.bool),
        mask_BT=torch.ones(shape, dtype=torch.bool),
        games_B=draw(games, segments),
        tokens_BTK=draw(config.vocab_size, *shape, config.tokens_per_frame),
    )


def random_frames(sizes: Sizes) -> Tensor:
    """Frames (B, H, W) uint8 of noise."""
    shape = (sizes.frames, sizes.tokenizer.resolution, sizes.tokenizer.resolution)
    return torch.randint(0, 256, shape, dtype=torch.uint8, generator=torch.Generator().manual_seed(0))


def encode(tokenizer: Tokenizer, frames_BHW: Tensor, device: Device) -> Tensor:
    """Our tokens (B, K) of uint8 frames."""
    with device.autocast():
        return tokenizer.encode_tokens(frames_BHW[:, None])


def _steps(sizes: Sizes) -> list[Row]:
    say("Measuring training steps ...")
    model, batch = Jowa(sizes.model), random_batch(sizes.model, sizes.segments)
    plain = partial(train_plain.plain, tokens=sizes.model.max_tokens)
    steps = [stage_2(twin(model), Device("cpu", bf16)) for twin in (plain, copy.deepcopy) for bf16 in (False, True)]
    theirs, theirs_bf16, exact, rounded = in_turns(sizes.rounds, *(partial(step, batch) for step in steps))
    tokens = sizes.segments * sizes.model.max_tokens

    def text(taken: Taken) -> str:
        return f"{taken.wall:.2f} s, {tokens / taken.wall:,.0f} tokens/s, {taken.cpu:.2f} s CPU"

    what = f"stage-2 step, {sizes.segments} segments, {tokens:,} tokens"
    return [
        _row("step", f"{what}, float32", text, exact, theirs, 1.5, (_original(ORIGINAL_STEP / exact.wall),)),
        _row(
            "step-bf16",
            f"{what}, bf16",
            text,
            rounded,
            theirs,
            3.0,
            (
                _original(ORIGINAL_STEP / rounded.wall),
                f"the plain way in bf16 too: {text(theirs_bf16)}",
                *noise("model", lambda: (model.eval()(sequence(batch)[:1], batch.games_B[:1]).hidden_BLD,)),
            ),
        ),
    ]


def _encodings(sizes: Sizes) -> list[Row]:
    say("Measuring encoding ...")
    tokenizer, frames_BHW = Tokenizer(sizes.tokenizer).eval(), random_frames(sizes)
    theirs, exact, rounded = in_turns(
        sizes.rounds,
        partial(train_plain.encode, tokenizer, frames_BHW),
        *(partial(encode, tokenizer, frames_BHW, Device("cpu", bf16)) for bf16 in (False, True)),
    )

    def text(taken: Taken) -> str:
        return f"{sizes.frames / taken.wall:,.0f} frames/s, {taken.cpu / sizes.frames * 1e3:.1f} ms CPU a frame"

    def row(name: str, kind: str, taken: Taken, aim: float, *notes: str) -> Row:
        notes = (_original(sizes.frames / taken.wall / ORIGINAL_FRAMES), *notes)
        return _row(name, f"encode {sizes.frames} frames, {kind}", text, taken, theirs, aim, notes)

    wrong = noise("tokenizer", lambda: (tokenizer.encode(frames_BHW[:2, None].float() / 255).z,))
    return [row("encode", "float32", exact, 1.0), row("encode-bf16", "bf16", rounded, 4.0, *wrong)]


def noise(name: str, probe: Callable[[], tuple[Tensor, ...]]) -> tuple[str, ...]:
    """A note where bf16 is wrong on this machine, so that nobody admires the speed of noise."""
    error = device.compare(lambda: {name: probe()}, Device("cpu", True))[name]
    return (f"bf16 is NOISE here, relative error {error:.2f}: runs take float32",) if error > device.BF16_ERROR else ()


def in_turns(rounds: int, *calls: Callable[[], object]) -> list[Taken]:
    """Each call once to warm up, then `rounds` times, in turns."""
    taken: list[list[tuple[float, float]]] = [[] for _ in calls]
    for number in range(rounds + 1):
        for own, call in zip(taken, calls, strict=True):
            wall, cpu = time.perf_counter(), time.process_time()
            call()
            if number:
                own.append((time.perf_counter() - wall, time.process_time() - cpu))
    return [Taken(*(statistics.median(part) for part in zip(*own, strict=True))) for own in taken]


def _row(
    name: str, what: str, text: Callable[[Taken], str], ours: Taken, theirs: Taken, aim: float, notes: tuple[str, ...]
) -> Row:
    ratio, cpu_ratio = theirs.wall / ours.wall, theirs.cpu / ours.cpu
    return Row(name, what, "the plain way, float32", text(ours), text(theirs), ratio, aim, cpu_ratio, notes=notes)


def _original(ratio: float) -> str:
    return f"{ratio:.1f} times the original's rate as it was measured on another machine"


# ---- rows of both types ----


def kinds() -> tuple[bool, ...]:
    """Float32, and bf16 where the processor has it."""
    return (False, True) if device.cpu_has_bf16() else (False,)


def kind_row(
    name: str,
    what: str,
    text: Callable[[Taken], str],
    ours: Taken,
    theirs: Taken,
    aims: tuple[float, float],
    bf16: bool,
    same: tuple[str, bool],
    *notes: str,
    against: str = "the plain way, float32",
) -> Row:
    """Ours in one type against the plain way in float32. aims: in float32 and bf16, which rounds, so that what it makes
    of the same draws is said, not demanded.
    """
    return Row(
        name + ("-bf16" if bf16 else ""),
        f"{what}, {'bf16' if bf16 else 'float32'}",
        against,
        text(ours),
        text(theirs),
        theirs.wall / ours.wall,
        aims[bf16],
        theirs.cpu / ours.cpu,
        conditions=() if bf16 else (same,),
        notes=(*notes, *([same[0]] if bf16 else []), *([] if device.cpu_has_bf16() else [NO_BF16])),
    )
