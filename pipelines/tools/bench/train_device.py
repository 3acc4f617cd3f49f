"""Stage 2 at the paper's size on a GPU: `worldline bench train --only gpu --model 150m --batch 512`.

A step is the training loop's own: batches that worker processes read from tokens files, losses, gradients, clip and
AdamW, under bf16 autocast and torch.compile as `loop.compile=auto` has it. Steps are timed as a block, after others
that compile and warm up; the device is waited for at both ends.

    model FLOP utilisation = FLOPs of a step (pipelines/tools/bench/flops.py) / (seconds a step * rate)

with `rate` the operations a second of large square bf16 matrix products, measured in the same run on the same device.
The code is the same for a CPU, where tests run it at a tiny size.
"""

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from itertools import count
from pathlib import Path

import torch

from models.jowa.agent import JowaAgent
from models.jowa.config import JowaAgentConfig, JowaConfig
from models.tokenizers.config import TokenizerConfig
from models.tokenizers.vq import Tokenizer
from pipelines.errors import WorldlineError, ran_out_of_memory, unknown
from pipelines.progress import say, track
from pipelines.stages.tokenize import TokenizeConfig
from pipelines.tools.bench.flops import stage_2_flops
from pipelines.tools.bench.plan import RECIPES
from pipelines.tools.bench.train_data import token_sources
from pipelines.tools.bench.train_profile import top_lines
from pipelines.training.device import Device, compile_for
from pipelines.training.distributed.ranks import ALONE
from pipelines.training.inputs import legal_actions
from pipelines.training.schedule import LoopConfig, Phase, Use
from pipelines.training.step import update
from pipelines.training.task import Task

UTILISATION, WAIT = 0.45, 0.02  # aims: of the measured matrix rate, at least; of a step's time, below

LOWER = "--batch, or take a smaller --model"

EXTRAPOLATED = 250_000  # steps


@dataclass(frozen=True)
class DeviceSizes:
    """What is measured, and how often."""

    name: str = "jowa_150m"
    model: JowaConfig = field(default_factory=JowaConfig)
    tokenizer: TokenizerConfig = field(default_factory=TokenizerConfig)
    batch: int = 512  # segments
    workers: int = 4
    episodes: int = 200  # a game, of 1,000 transitions
    frames: int = 4096  # encoded, in batches of the stage's size
    warm_up: int = 10  # steps
    steps: int = 40
    matrix: int = 8192  # side of the square products that give the rate


@dataclass(frozen=True)
class Speed:
    """What was measured; rates a second."""

    sizes: DeviceSizes
    device: str
    parameters: int
    seconds: float  # a step
    waited: float  # seconds a step, for the loader
    matrix_flops: float
    frames: float
    peak_bytes: int | None  # None: this device does not tell

    @property
    def utilisation(self) -> float:
        """Model FLOP utilisation, by the formula above."""
        return stage_2_flops(self.sizes.model, self.sizes.batch) / (self.seconds * self.matrix_flops)

    @property
    def wait_share(self) -> float:
        """Share of a step in which the loader is waited for."""
        return self.waited / self.seconds

    @property
    def reached(self) -> bool:
        """Whether both aims are."""
        return self.utilisation >= UTILISATION and self.wait_share < WAIT

    def plain(self) -> dict[str, float | int | str | bool | None]:
        """For JSON."""
        return {
            "name": self.sizes.name,
            "device": self.device,
            "segments": self.sizes.batch,
            "parameters": self.parameters,
            "seconds_a_step": self.seconds,
            "tokens_a_second": self.sizes.batch * self.sizes.model.max_tokens / self.seconds,
            "flops_a_step": stage_2_flops(self.sizes.model, self.sizes.batch),
            "matrix_flops_a_second": self.matrix_flops,
            "utilisation": self.utilisation,
            "peak_bytes": self.peak_bytes,
            "hours_250k_steps": self.seconds * EXTRAPOLATED / 3600,
            "frames_a_second": self.frames,
            "wait_share": self.wait_share,
            "reached": self.reached,
        }

    def table(self) -> str:
        """As Markdown."""
        sizes, flops = self.sizes, stage_2_flops(self.sizes.model, self.sizes.batch)
        tokens = sizes.batch * sizes.model.max_tokens
        peak = "not told by this device" if self.peak_bytes is None else f"{self.peak_bytes / 1e9:.1f} GB"
        rows = [
            (
                f"stage-2 step, {sizes.name} ({self.parameters / 1e6:.1f} M), {sizes.batch} segments of "
                f"{sizes.model.max_tokens} tokens",
                f"{self.seconds * 1e3:,.1f} ms, {tokens / self.seconds:,.0f} tokens/s",
                "",
            ),
            (
                "model FLOP utilisation = FLOPs of a step / (seconds a step x bf16 matrix rate)",
                f"{self.utilisation:.1%} = {flops / 1e12:.3g} TFLOP / ({self.seconds:.4f} s x "
                f"{self.matrix_flops / 1e12:.3g} TFLOP/s)",
                _aim(f"{UTILISATION:.0%}", self.utilisation >= UTILISATION),
            ),
            (f"time of {EXTRAPOLATED:,} steps, extrapolated", f"{self.seconds * EXTRAPOLATED / 3600:,.1f} h", ""),
            ("peak memory of tensors", peak, ""),
            (
                f"waiting for the loader, {sizes.workers} workers, share of a step",
                f"{self.wait_share:.2%}",
                _aim(f"below {WAIT:.0%}", self.wait_share < WAIT),
            ),
            ("encode, frames from and tokens to the host", f"{self.frames:,.0f} frames/s", ""),
        ]
        lines = [f"| on {self.device}, {sizes.steps} steps | figure | aim |", "|---|---|---|"]
        return "\n".join([*lines, *(f"| {' | '.join(row)} |" for row in rows)])


def run(sizes: DeviceSizes, device: Device, folder: Path) -> Speed:
    """Measure everything on `device`; tokens files are kept in `folder`.

    Raises WorldlineError for memory, naming what to lower.
    """
    say(f"Measuring stage 2 of {sizes.name} on {device} ...")
    with _fits(f"{sizes.name} with batches of {sizes.batch}", LOWER):
        task = training(sizes, device, folder)
        _forget_peak(device)
        seconds, waited = time_steps(task, sizes)
        peak = torch.cuda.max_memory_allocated() if _is_gpu(device) else None
        parameters = sum(parameter.numel() for parameter in task.modules["model"].parameters())
    del task
    with _fits(f"Encoding batches of {TokenizeConfig().batch_frames} frames", "what else runs on this device"):
        frames = encoding_rate(sizes, device)
    rate = matrix_rate(sizes.matrix, device)
    return Speed(sizes, _name(device), parameters, seconds, waited, rate, frames, peak)


def sizes_of(model: str, batch: int) -> DeviceSizes:
    """The sizes of a named model. Raises UsageError for an unknown one."""
    if model not in RECIPES:
        raise unknown("model", model, RECIPES, "they are the paper's sizes")
    recipe = RECIPES[model]()
    networks = recipe.pretrain.networks
    return DeviceSizes(recipe.name, networks.model, networks.tokenizer, batch)


def missing(sizes: DeviceSizes) -> str:
    """One line where there is no GPU, else nothing."""
    if torch.cuda.is_available():
        return ""
    return (
        f"no GPU: tokens/s, model FLOP utilisation, peak memory, loader wait and frames/s of {sizes.name} with batches "
        f"of {sizes.batch} were not measured"
    )


def profiles(sizes: DeviceSizes, device: Device, folder: Path) -> list[str]:
    """The profile of a step, as a table."""
    say(f"Profiling stage 2 of {sizes.name} on {device} ...")
    with _fits(f"{sizes.name} with batches of {sizes.batch}", LOWER):
        task = training(sizes, device, folder)
        phase = phase_of(sizes)
        optimisers, steps = task.optimisers(phase), count()
        step = top_lines(
            f"stage-2 step, {sizes.name}",
            lambda: update(task, phase, next(steps), optimisers, ALONE, Path()),
            _is_gpu(device),
        )
    return [step]


def phase_of(sizes: DeviceSizes) -> Phase:
    """The phase that is measured."""
    return Phase("bench", sizes.warm_up + sizes.steps, (Use("world_action", sizes.batch, lr=5e-5),))


def training(sizes: DeviceSizes, device: Device, folder: Path) -> Task:
    """The task that the stage itself would train."""
    sources = token_sources(folder, sizes.episodes, sizes.model.tokens_per_frame, sizes.model.vocab_size)
    games = tuple(source.trajectories.game for source in sources)
    loop = LoopConfig(workers=sizes.workers)
    agent = JowaAgent(JowaAgentConfig(tokenizer=sizes.tokenizer, model=sizes.model))
    for network in agent.networks.values():
        network.to(device.name)
    compile_for(device, agent.model.train(), loop.compile)
    legal_GA = legal_actions(games).to(device.name)
    return Task(agent, sources, ("world_action",), loop, 0, device, length=sizes.model.max_steps, legal_GA=legal_GA)


def time_steps(task: Task, sizes: DeviceSizes) -> tuple[float, float]:
    """Seconds a step, and of them seconds in which the loader was waited for."""
    phase = phase_of(sizes)
    optimisers = task.optimisers(phase)

    def take(first: int, count: int, title: str) -> float:
        with track(title, total=count, unit="steps") as advance:
            started = _now(task.device)
            for step in range(first, first + count):
                update(task, phase, step, optimisers, ALONE, Path())
                advance(1)
            return _now(task.device) - started

    take(0, sizes.warm_up, "Warm up")
    before = task.waited
    seconds = take(sizes.warm_up, sizes.steps, "Steps")
    return seconds / sizes.steps, (task.waited - before) / sizes.steps


@torch.no_grad()
def encoding_rate(sizes: DeviceSizes, device: Device) -> float:
    """Frames a second of the tokenizer, in the batches of stage `tokens`, from the host's memory and back to it."""
    tokenizer = Tokenizer(sizes.tokenizer).eval().to(device.name)
    side = sizes.tokenizer.resolution
    generator = torch.Generator().manual_seed(0)
    frames_NHW = torch.randint(0, 256, (sizes.frames, side, side), dtype=torch.uint8, generator=generator)

    def encode() -> None:
        for part in frames_NHW.split(TokenizeConfig().batch_frames):
            tokenizer.encode_tokens(part[:, None].to(device.name)).cpu()

    with device.autocast():
        return sizes.frames / _quickest(encode, device)


def matrix_rate(side: int, device: Device, products: int = 10) -> float:
    """Floating-point operations a second of bf16 products of two (side, side) matrices."""
    a, b = torch.randn(2, side, side, device=device.name).to(torch.bfloat16)

    def multiply() -> None:
        for _ in range(products):
            torch.mm(a, b)

    return products * 2 * side**3 / _quickest(multiply, device)


def _quickest(call: Callable[[], None], device: Device, rounds: int = 3) -> float:
    """Seconds of the best of some rounds after one that warms up."""
    taken = []
    for _ in range(rounds + 1):
        started = _now(device)
        call()
        taken.append(_now(device) - started)
    return min(taken[1:])


def _now(device: Device) -> float:
    """The time once the device has done all it was asked for."""
    if _is_gpu(device):
        torch.cuda.synchronize()
    return time.perf_counter()


def _is_gpu(device: Device) -> bool:
    return device.name.startswith("cuda")


def _forget_peak(device: Device) -> None:
    if _is_gpu(device):
        torch.cuda.reset_peak_memory_stats()


def _name(device: Device) -> str:
    return f"{torch.cuda.get_device_name()}, bf16" if _is_gpu(device) else str(device)


def _aim(text: str, met: bool) -> str:
    return f"{text}: {'met' if met else '**missed**'}"


@contextmanager
def _fits(what: str, lower: str) -> Iterator[None]:
    """What memory does not hold as one line."""
    try:
        yield
    except (MemoryError, RuntimeError, WorldlineError) as error:
        # The loop's own line names settings of a run, which the benchmark does not have.
        if not ran_out_of_memory(error.__cause__ if isinstance(error, WorldlineError) else error):
            raise
        raise WorldlineError(f"{what} does not fit this device's memory: lower {lower}") from error
