"""Planning against the plain way, measured side by side: `worldline bench plan [--model 150m] [--quick]`.

The settings are those in which JOWA's authors' code was measured: 2 threads, random weights, 8 steps of context (a
search 2 steps deep leaves room for 6), all 18 actions legal. One environment: every one of the environments decides
alone, plain and ours in turns, and the figures are medians over them. All at once: the plain way decides one after the
other (greedy: in one batch), as the original does. Takes minutes, nearly all of them the plain tree search.
"""

import itertools
import statistics
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial

import torch
from torch import Tensor

from models.api import Context, Planner
from models.jowa.config import JowaConfig
from models.jowa.model import Jowa
from models.jowa.world import JowaWorld
from models.planning.beam import Beam, Greedy
from models.planning.mcts import Mcts
from models.tokenizers.config import TokenizerConfig
from models.tokenizers.vq import Tokenizer
from pipelines.errors import unknown
from pipelines.progress import say
from pipelines.recipes.jowa import jowa_40m, jowa_70m, jowa_150m
from pipelines.tools.bench import plan_plain
from pipelines.tools.bench.row import Row
from pipelines.tools.bench.train import THREADS, Taken, in_turns
from pipelines.training.device import Device

RECIPES = {"40m": jowa_40m, "70m": jowa_70m, "150m": jowa_150m}

AIM_ALONE, AIM_AT_ONCE = 3.0, 6.0

GPU_ENVIRONMENTS = (1, 16, 256)


@dataclass(frozen=True)
class Case:
    """One planner. `original`: seconds a decision of the original's, by model, measured on another machine."""

    name: str
    planner: Planner
    at_once: bool
    original: Mapping[str, float]

    @property
    def aim(self) -> float:
        return AIM_AT_ONCE if self.at_once else AIM_ALONE


_BEAM = {"40m": 0.69, "150m": 2.7}

_TREE = {"40m": 4.25, "150m": 17.0}

CASES = (
    Case("greedy", Greedy(), False, {"40m": 0.063, "150m": 0.29}),
    Case("greedy", Greedy(), True, {"40m": 1.12 / 16, "150m": 4.8 / 16}),  # the one that it decides in a batch
    Case("beam-2x2", Beam(2, 2), False, _BEAM),
    Case("beam-2x2", Beam(2, 2), True, _BEAM),
    Case("beam-4x2", Beam(4, 2), False, {"40m": 1.52, "150m": 4.8}),
    Case("mcts-20", Mcts(simulations=20), False, _TREE),
    Case("mcts-20", Mcts(simulations=20), True, _TREE),
)


@dataclass(frozen=True)
class Sizes:
    """What is measured, and how often. `original`: of which model the original's figures are to be named."""

    model: JowaConfig = field(default_factory=JowaConfig)
    tokenizer: TokenizerConfig = field(default_factory=TokenizerConfig)
    original: str = ""
    environments: int = 16
    rounds: int = 3
    threads: int = THREADS


def sizes(model: str = "40m", environments: int = 16) -> Sizes:
    """The sizes of a named model. Raises UsageError for an unknown one."""
    if model not in RECIPES:
        raise unknown("model", model, tuple(RECIPES), "they are the paper's sizes")
    networks = RECIPES[model]().pretrain.networks
    return Sizes(networks.model, networks.tokenizer, model, environments)


QUICK = Sizes(
    JowaConfig(layers=1, heads=2, width=32, q_hidden=32, vocab_size=64, tokens_per_frame=4),
    TokenizerConfig(vocab_size=64, embed_dim=16, z_channels=16, channels=8, res_blocks=1, resolution=28),
    environments=2,
    rounds=1,
    threads=1,
)


def run(sizes: Sizes) -> list[Row]:
    """Measure all rows, in inference mode."""
    before = torch.get_num_threads()
    torch.set_num_threads(sizes.threads)
    try:
        with torch.inference_mode():
            return list(_rows(sizes))
    finally:
        torch.set_num_threads(before)


class Ours:
    """A model with its world, and how it decides."""

    def __init__(self, model: Jowa, device: Device) -> None:
        self.model, self.device, self.world = model, device, JowaWorld(model)

    def plan(self, planner: Planner, context: Context) -> Tensor:
        """Actions (N,)."""
        legal_NA = _legal(context, self.model.config)
        with self.device.autocast():
            return planner.plan(self.world, context, legal_NA, self.model.config.gamma)


class Decisions:
    """Decides for the next of several contexts whenever it is called, round and round; keeps what was decided."""

    def __init__(self, plan: Callable[[Context], Tensor], contexts: Iterable[Context]) -> None:
        self._plan, self._left = plan, itertools.cycle(enumerate(contexts))
        self.found: dict[int, list[int]] = {}

    def __call__(self) -> None:
        number, context = next(self._left)
        self.found[number] = self._plan(context).tolist()

    def flat(self) -> list[int]:
        """All actions, context after context."""
        return [action for number in sorted(self.found) for action in self.found[number]]


def random_context(config: JowaConfig, environments: int, device: str = "cpu") -> Context:
    """The longest context of random tokens, actions and games."""
    generator = torch.Generator().manual_seed(0)

    def draw(high: int, *size: int) -> Tensor:
        return torch.randint(high, size, generator=generator).to(device)

    steps = config.max_steps
    return Context(
        draw(config.vocab_size, environments, steps, config.tokens_per_frame),
        draw(config.num_actions, environments, steps - 1),
        draw(config.num_games, environments),
    )


@dataclass(frozen=True)
class Side:
    """What one way of deciding took a decision, and decided."""

    taken: Taken
    actions: list[int]


def _rows(sizes: Sizes) -> Iterator[Row]:
    model, tokenizer = Jowa(sizes.model).eval(), Tokenizer(sizes.tokenizer).eval()
    plain = plan_plain.EveryHead(model)
    ours = [Ours(model, Device("cpu", bf16)) for bf16 in (False, True)]
    everyone = random_context(sizes.model, sizes.environments)
    alone: dict[str, Side] = {}  # the plain way's, by planner
    for case in CASES:
        say(f"Deciding, {_what(case, sizes)} ...")
        context = everyone.last(sizes.model.max_steps - case.planner.horizon)

        def plainly(context: Context, planner: Planner = case.planner) -> Tensor:
            return plan_plain.plan(plain, tokenizer, planner, context, _legal(context, sizes.model))

        mine = [partial(each.plan, case.planner) for each in ours]
        if not case.at_once:
            ones = [one(context, row) for row in range(sizes.environments)]
            sides = _sides([plainly, *mine], ones, sizes.environments)
            alone[case.name] = sides[0]
        elif case.planner.horizon:
            sides = [alone[case.name], *_sides(mine, [context], sizes.rounds)]
        else:
            sides = _sides([plainly, *mine], [context], sizes.rounds)
        theirs, exact, rounded = sides
        yield _row(case, sizes, exact, theirs, bf16=False)
        yield _row(case, sizes, rounded, theirs, bf16=True)


def _sides(plans: Sequence[Callable[[Context], Tensor]], contexts: Sequence[Context], rounds: int) -> list[Side]:
    """Every plan decides for one context a round, in turns."""
    decisions = [Decisions(plan, contexts) for plan in plans]
    many = len(contexts[0].games_N)
    return [
        Side(Taken(taken.wall / many, taken.cpu / many), each.flat())
        for taken, each in zip(in_turns(rounds, *decisions), decisions, strict=True)
    ]


def _row(case: Case, sizes: Sizes, ours: Side, theirs: Side, bf16: bool) -> Row:
    pairs = list(zip(ours.actions, theirs.actions, strict=True))
    same = sum(mine == other for mine, other in pairs)
    said = f"identical decisions: {'yes' if same == len(pairs) else 'no'} ({same} of {len(pairs)})"
    notes = [said] if bf16 else []
    if (original := case.original.get(sizes.original)) is not None:
        ratio = original / ours.taken.wall
        notes.append(f"{ratio:.1f} times as fast as the original's {original:.2g} s, measured on another machine")
    return Row(
        case.name + (f"-{sizes.environments}" if case.at_once else "") + ("-bf16" if bf16 else ""),
        _what(case, sizes) + (", bf16" if bf16 else ""),
        "the plain way, float32",
        _text(ours.taken),
        _text(theirs.taken),
        theirs.taken.wall / ours.taken.wall,
        None if bf16 else case.aim,
        theirs.taken.cpu / ours.taken.cpu,
        conditions=() if bf16 else ((said, same == len(pairs)),),
        notes=tuple(notes),
    )


def _what(case: Case, sizes: Sizes) -> str:
    return f"{case.name}, " + (f"each of {sizes.environments} at once" if case.at_once else "1 environment")


def gpu_lines(sizes: Sizes) -> list[str]:
    """Decisions a second on a GPU in bf16, or one line that says there is none."""
    counts = ", ".join(map(str, GPU_ENVIRONMENTS))
    if not torch.cuda.is_available():
        return [f"no GPU: decisions a second of {counts} environments were not measured"]
    return [
        f"{torch.cuda.get_device_name()}, bf16, {name}, {many} environments: {rate:,.1f} decisions/s"
        for name, planner in {case.name: case.planner for case in CASES}.items()
        for many, rate in rates(Ours(Jowa(sizes.model).eval().to("cuda"), Device("cuda", True)), planner)
    ]


def rates(
    ours: Ours, planner: Planner, counts: Iterable[int] = GPU_ENVIRONMENTS, rounds: int = 5
) -> Iterator[tuple[int, float]]:
    """Environments and decisions a second, the median of some rounds after a warm-up. Works on any device."""
    config, device = ours.model.config, ours.device.name
    for many in counts:
        context = random_context(config, many, device).last(config.max_steps - planner.horizon)
        taken = []
        for _ in range(rounds + 1):
            started = time.perf_counter()
            with torch.inference_mode():
                ours.plan(planner, context).tolist()  # to the CPU: waits for the device
            taken.append(time.perf_counter() - started)
        yield many, many / statistics.median(taken[1:])


def _legal(context: Context, config: JowaConfig) -> Tensor:
    shape = (len(context.games_N), config.num_actions)
    return torch.ones(shape, dtype=torch.bool, device=context.games_N.device)


def one(context: Context, row: int) -> Context:
    """One environment's."""
    only = slice(row, row + 1)
    return Context(context.tokens_NCK[only], context.actions_NC[only], context.games_N[only])


def _text(taken: Taken) -> str:
    return f"{taken.wall:.3g} s, {taken.cpu:.3g} s CPU"
