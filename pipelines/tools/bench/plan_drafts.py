"""Draft and verify against one by one: `worldline bench plan --experiment demo --game Boxing`.

A checkpoint decides for real frames of its game's recorded episodes, drawn by seed, and dreams on from them; so does a
model of the same sizes with random weights, for which no draft is right. Both ways decide in turns, on 2 threads. What
they decide must be the same but for rounding: where it is not, the two actions' values lie a margin apart that is said.

Shapes: N environments, C steps of context, A actions, K tokens a frame.
"""

import itertools
import statistics
from collections.abc import Iterator, Sequence
from functools import partial

import numpy as np
import torch
from torch import Tensor

from models.api import Context, Imagined, Planner
from models.iris.agent import IrisAgent
from models.jowa.agent import JowaAgent
from models.jowa.model import Jowa
from models.jowa.world import JowaWorld, context_values
from models.planning.beam import Beam
from models.planning.mcts import Mcts
from pipelines.environments.actions import to_shared
from pipelines.environments.registry import game_id
from pipelines.errors import UsageError
from pipelines.play.source import PlaySource
from pipelines.play.tensors import Eyes
from pipelines.progress import say
from pipelines.tools.bench import imagine_drafts
from pipelines.tools.bench.plan import one
from pipelines.tools.bench.row import Row
from pipelines.tools.bench.train import THREADS, Taken, in_turns

AIM = 3.0
PLANNERS: dict[str, Planner] = {"beam-2x2": Beam(2, 2), "mcts-20": Mcts(simulations=20)}


def real_context(source: PlaySource, environments: int, steps: int) -> Context:
    """So many places of recorded episodes, as the agent sees them. Raises UsageError where there are no episodes."""
    episodes, eyes, draws = source.episodes("recorded"), Eyes(source), np.random.default_rng(0)
    long = [each for each, length in enumerate(episodes.lengths) if length >= steps]
    if not long:
        raise UsageError(f"No recorded episode of {source.game} has {steps} steps: collect longer ones")
    tokens, actions = [], []
    for _ in range(environments):
        episode = int(draws.choice(long))
        first = int(draws.integers(episodes.lengths[episode] - steps + 1))
        piece = episodes.read(episode, first, first + steps)
        tokens.append(eyes.tokens(piece.frames).cpu())
        actions.append(torch.from_numpy(to_shared(source.game, piece.actions[:-1]).astype(np.int64)))
    return Context(torch.stack(tokens), torch.stack(actions), torch.full((environments,), game_id(source.game)))


class Counting(JowaWorld):
    """Keeps the passes of every step."""

    def __init__(self, model: Jowa, drafts: bool) -> None:
        super().__init__(model, drafts=drafts)
        self.counted: list[int] = []

    def step(self, actions_M: Tensor, parents_M: Tensor | None = None) -> Imagined:
        """See `JowaWorld`."""
        here = super().step(actions_M, parents_M)
        self.counted.append(self.passes)
        return here


class Way:
    """One way of imagining; `found` is what it decided, or dreamt last, of each environment."""

    def __init__(self, model: Jowa, drafts: bool) -> None:
        self.world, self.found = Counting(model, drafts), list[Tensor]()

    def decide(self, planner: Planner, contexts: Sequence[Context], legal_A: Tensor) -> None:
        """Once for every context."""
        gamma = self.world.model.config.gamma
        self.found = [
            planner.plan(self.world, context, legal_A.expand(len(context.games_N), -1), gamma) for context in contexts
        ]

    def dream(self, contexts: Sequence[Context]) -> None:
        """On from every context, as long as there is room."""
        self.found = []
        for context in contexts:
            self.world.reset(context)
            for step in range(room(self.world.model, context)):
                here = self.world.step(torch.full_like(context.games_N, step % 3))
            self.found.append(here.tokens_NK)


def room(model: Jowa, context: Context) -> int:
    """Steps that can be imagined behind a context."""
    return model.config.max_steps - context.tokens_NCK.shape[1]


def run(agent: object, contexts: Context, legal_A: Tensor, rounds: int = 3) -> list[Row]:
    """All rows, of the checkpoint and of random weights; of IRIS those of `imagine_drafts`.

    Raises UsageError for an agent without drafts.
    """
    if isinstance(agent, IrisAgent):
        return imagine_drafts.run(agent, contexts, rounds)
    if not isinstance(agent, JowaAgent):
        raise UsageError("Only JOWA and IRIS draft what they imagine: name an experiment of their recipes")
    before = torch.get_num_threads()
    torch.set_num_threads(THREADS)
    models = {"trained": agent.model.eval(), "random": Jowa(agent.model.config).eval()}
    try:
        with torch.inference_mode():
            return [
                row for weights, model in models.items() for row in _rows(weights, model, contexts, legal_A, rounds)
            ]
    finally:
        torch.set_num_threads(before)


def _rows(weights: str, model: Jowa, whole: Context, legal_A: Tensor, rounds: int) -> Iterator[Row]:
    many = len(whole.games_N)
    alone = [one(whole, row) for row in range(many)]
    for (name, planner), at_once in itertools.product(PLANNERS.items(), (False, True)):
        where = f"each of {many} at once" if at_once else "1 environment"
        say(f"Deciding, {weights} weights, {name}, {where} ...")
        contexts = [whole] if at_once else alone
        ours, theirs = Way(model, drafts=True), Way(model, drafts=False)
        calls = (partial(way.decide, planner, contexts, legal_A) for way in (ours, theirs))
        taken = in_turns(rounds, *calls)
        apart = _apart(model, whole, torch.cat(ours.found), torch.cat(theirs.found))
        aim = AIM if weights == "trained" and not at_once else None
        named = f"{weights}-{name}" + (f"-{many}" if at_once else "")
        yield _row(named, f"{weights} weights, {name}, {where}", (ours, theirs), taken, many, "decisions", aim, apart)
    say(f"Dreaming, {weights} weights ...")
    ours, theirs = Way(model, drafts=True), Way(model, drafts=False)
    taken = in_turns(rounds, *(partial(way.dream, alone) for way in (ours, theirs)))
    same = sum(torch.equal(mine, other) for mine, other in zip(ours.found, theirs.found, strict=True))
    frames = many * room(model, whole)
    said = f"identical dreams: {same} of {many}"
    yield _row(f"{weights}-dream", f"{weights} weights, dream", (ours, theirs), taken, frames, "frames", None, said)


def _apart(model: Jowa, whole: Context, ours_N: Tensor, theirs_N: Tensor) -> str:
    """How many decisions are the same, and how far apart by Q those are that are not."""
    values_NA, same_N = context_values(model, whole), ours_N == theirs_N
    said = f"identical decisions: {int(same_N.sum())} of {len(same_N)}"
    if bool(same_N.all()):
        return said
    margin_N = (values_NA.gather(1, ours_N[:, None]) - values_NA.gather(1, theirs_N[:, None])).abs()[:, 0]
    return f"{said}, the others' Q at most {float(margin_N.max()):.2g} apart"


def _row(
    name: str,
    what: str,
    ways: tuple[Way, Way],
    taken: Sequence[Taken],
    many: int,
    unit: str,
    aim: float | None,
    said: str,
) -> Row:
    mine, other = (
        f"{many / took.wall:.3g} {unit}/s, {statistics.mean(way.world.counted):.1f} passes a frame"
        for way, took in zip(ways, taken, strict=True)
    )
    ours, theirs = taken
    ratio, by_cpu = theirs.wall / ours.wall, theirs.cpu / ours.cpu
    return Row(name, what, "one by one", mine, other, ratio, aim, by_cpu, notes=(said,))
