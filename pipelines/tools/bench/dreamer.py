"""The Dreamer family against the plain way, side by side: `worldline bench dreamer [--rows 4] [--quick]`.

PreLAR's published sizes with random weights, on 2 threads: an update on videos (16 segments of 25 frames), an update of
fine-tuning (50 segments of 50 steps: the world, then actor and critic on a rollout from every step), and that rollout
alone with its losses and gradients. `--rows` takes fewer segments, and the rows say how many; what a rollout takes goes
by segments, but a state-space model walks through time as long for one as for all. Both ways (`dreamer_plain.py`) are
first given the same draws, and their losses and gradients are compared; a row whose sides differ has not reached its
aim. Then they work in turns in one process; the figures are medians.
"""

import copy
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from functools import partial

import torch
from torch import Tensor, nn
from torch.optim import Optimizer

from models.api import Batch, Learning, Moment
from models.blocks.layers import evaluating
from models.dreamer.actor_critic import ActorCritic, actor_critic_loss, imagine
from models.dreamer.agent import DreamerAgent
from models.dreamer.config import BehaviourConfig, DreamerConfig
from models.dreamer.loss import world_loss
from models.dreamer.optimiser import frozen
from models.dreamer.systems import prelar, prelar_pretrain
from models.dreamer.world_model import Segments, WorldModel
from models.rssm.chance import Draws, Seeded
from models.rssm.config import (
    ActionEncoderConfig,
    BonusConfig,
    FramesConfig,
    HeadConfig,
    LatentActionConfig,
    RssmConfig,
)
from models.rssm.model import State
from pipelines.progress import say
from pipelines.tools.bench.dreamer_plain import PlainWorld, plain_behaviour_loss, plain_optimiser, plain_world_loss
from pipelines.tools.bench.row import Row
from pipelines.tools.bench.train import THREADS, Taken, in_turns, kind_row, kinds, threads
from pipelines.training.device import Device

AIMS, AIMS_IMAGINED = (1.5, 3.0), (2.0, 2.0)  # in float32 and in bf16
# Relative; of gradients, of the norm of all: rounding alone, through batch norms and deep stages, makes 2e-3 of it.
SAME_LOSS, SAME_GRADIENT = 1e-5, 1e-2
LR, DECAY, CLIP = 3e-4, 1e-6, 100.0
WORLD, BEHAVIOUR = "world", "behaviour"


@dataclass(frozen=True)
class Sizes:
    """What is measured, and how often: segments of updates; those of fine-tuning are also where rollouts begin.

    most: segments that an update takes at most; None: all.
    """

    pretrain: DreamerConfig = field(default_factory=lambda: replace(prelar_pretrain(), segment=25))
    finetune: DreamerConfig = field(default_factory=prelar)
    videos: int = 16
    episodes: int = 50
    most: int | None = None
    rounds: int = 1
    threads: int = THREADS


FULL = Sizes()

_SMALL = DreamerConfig(
    frame=(16, 16, 3),
    rssm=RssmConfig(deter=8, hidden=7, stoch=3, discrete=4),
    frames=FramesConfig("resnet", 16, 4, stages=1),
    latent_action=LatentActionConfig(width=3, hidden=5, channels=4),
    action_encoder=ActionEncoderConfig(width=3, hidden=5),
    heads=HeadConfig(1, 6),
    behaviour=BehaviourConfig(HeadConfig(1, 6), HeadConfig(1, 6), horizon=3),
    segment=6,
)
_BONUS = BonusConfig(weight=1.0, neighbours=2, window=3, queue=20, width=4)
QUICK = Sizes(
    replace(_SMALL, reads="video", consistency="sign"),
    replace(_SMALL, reads="encoded", bonus=_BONUS, weights=prelar().weights),
    videos=3,
    episodes=3,
    threads=1,
)


def run(sizes: Sizes) -> list[Row]:
    """Measure all rows."""
    with threads(sizes.threads):
        return [*_pretraining(sizes), *_finetuning(sizes)]


# ---- what both sides are given ----


def episodes(config: DreamerConfig, rows: int) -> Batch:
    """Segments of noise: frames, actions from -1 to 1 and rewards."""
    draws, shape = torch.Generator().manual_seed(0), (rows, config.length(WORLD) or config.segment)
    size = config.frames.resolution
    return Batch(
        actions_BT=torch.rand(*shape, config.actions, generator=draws) * 2 - 1,
        rewards_BT=torch.rand(shape, generator=draws),
        ends_BT=torch.zeros(shape, dtype=torch.bool),
        mask_BT=torch.ones(shape, dtype=torch.bool),
        games_B=torch.zeros(rows, dtype=torch.long),
        frames_BTCHW=torch.randint(256, (*shape, 3, size, size), generator=draws, dtype=torch.uint8),
    )


class Noted(Seeded):
    """Draws that note every class that they gave; given noted ones they give these again, whatever rounding says."""

    def __init__(self, again: "Noted | None" = None) -> None:
        super().__init__(0, "bench", Moment(0))
        self.noted = dict[str, list[Tensor]]()
        self._again = {what: iter(found) for what, found in again.noted.items()} if again else {}

    def classes(self, what: str, logits: Tensor) -> Tensor:
        """See `Draws`."""
        found = next(self._again[what]) if what in self._again else super().classes(what, logits)
        self.noted.setdefault(what, []).append(found)
        return found


@dataclass(frozen=True)
class Side:
    """Networks, and what they lose: the world on segments; actor and critic, each, on a rollout from states."""

    world: WorldModel
    behaviour: ActorCritic | None
    world_loss: Callable[[Segments, Draws], tuple[Tensor, State]]
    behaviour_losses: Callable[[State, Draws], tuple[Tensor, Tensor]]


def plain_side(agent: DreamerAgent) -> Side:
    """A copy that computes plainly; behaviour asks for no gradient of the world."""
    world, behaviour = PlainWorld(agent.world_model), copy.deepcopy(agent.behaviour)

    def of_world(segments: Segments, draws: Draws) -> tuple[Tensor, State]:
        lost = plain_world_loss(world, segments, draws)
        return lost.total(world.config), lost.observed.posterior.flatten()

    def of_behaviour(start: State, draws: Draws) -> tuple[Tensor, Tensor]:
        assert behaviour is not None, "it practises"
        with evaluating(world), frozen(world):
            return plain_behaviour_loss(world, behaviour, start, draws)

    return Side(world, behaviour, of_world, of_behaviour)


def our_side(agent: DreamerAgent) -> Side:
    """A copy that computes as the agent does."""
    world, behaviour = copy.deepcopy(agent.world_model), copy.deepcopy(agent.behaviour)

    def of_world(segments: Segments, draws: Draws) -> tuple[Tensor, State]:
        lost = world_loss(world, segments, draws)
        return lost.total(world.config), lost.observed.posterior.flatten()

    def of_behaviour(start: State, draws: Draws) -> tuple[Tensor, Tensor]:
        assert behaviour is not None, "it practises"
        with evaluating(world), frozen(world):
            imagined = imagine(world, behaviour.actor, start, None, world.config.behaviour.horizon, draws)
            found = actor_critic_loss(world, behaviour, imagined, entropy_in_targets=False)
        return found.actor, found.critic

    return Side(world, behaviour, of_world, of_behaviour)


# ---- are they the same ----


def apart(config: DreamerConfig, batch: Batch, objective: str) -> tuple[float, float]:
    """How far losses and gradients of both sides are apart, relative, where they draw the same."""
    agent, noted = DreamerAgent(config), Noted()
    sides, segments = (plain_side(agent), our_side(agent)), agent.segments(batch)
    with torch.no_grad(), evaluating(agent.world_model):
        start = agent.world_model.observe(segments, Noted()).posterior.flatten()
    found = []
    for side, draws in zip(sides, (noted, None), strict=True):
        draws = Noted(noted) if draws is None else draws
        losses = side.world_loss(segments, draws)[:1] if objective == WORLD else side.behaviour_losses(start, draws)
        torch.stack(losses).sum().backward()
        module = side.world if objective == WORLD else side.behaviour
        assert module is not None, "it practises"
        found.append((torch.stack(losses).detach(), {name: each.grad for name, each in module.named_parameters()}))
    (lost, theirs), (ours, mine) = found
    return float((ours - lost).abs().sum() / lost.abs().sum()), _distance(theirs, mine)


def _distance(theirs: dict[str, Tensor | None], mine: dict[str, Tensor | None]) -> float:
    """Of all gradients, relative. A weight without one has one of zeros."""
    pairs = [(theirs[name], mine[name]) for name in theirs if theirs[name] is not None or mine[name] is not None]
    whole, differing = 0.0, 0.0
    for one, other in pairs:
        one = torch.zeros_like(other) if one is None and other is not None else one
        other = torch.zeros_like(one) if other is None and one is not None else other
        assert one is not None and other is not None
        whole += float(one.double().square().sum())
        differing += float((one.double() - other.double()).square().sum())
    return float((differing / whole) ** 0.5)


def same(config: DreamerConfig, batch: Batch, *objectives: str) -> tuple[str, bool]:
    """Whether both sides lose the same, and have the same gradients, in words."""
    found = [apart(config, batch, objective) for objective in objectives]
    loss, gradient = (max(each) for each in zip(*found, strict=True))
    said = f"of the same draws losses are apart by {loss:.1g} ({SAME_LOSS:g} is asked for), gradients by "
    return f"{said}{gradient:.1g} ({SAME_GRADIENT:g})", loss <= SAME_LOSS and gradient <= SAME_GRADIENT


# ---- an update ----


def plain_update(agent: DreamerAgent, batch: Batch, objectives: Sequence[str]) -> Callable[[], None]:
    """Losses, gradients, clip and step of each network; practice begins where the world's own update saw states."""
    side, segments = plain_side(agent), agent.segments(batch)
    modules = [side.world, *([side.behaviour] if side.behaviour is not None else [])]
    optimisers = [plain_optimiser(module, LR, DECAY) for module in modules]

    def update() -> None:
        draws = Seeded(0, "bench", Moment(0))
        loss, start = side.world_loss(segments, draws)
        _step(optimisers[:1], loss)
        if BEHAVIOUR in objectives:
            _step(optimisers[1:], torch.stack(side.behaviour_losses(start, draws)).sum())

    return update


def our_update(agent: DreamerAgent, batch: Batch, objectives: Sequence[str], bf16: bool) -> Callable[[], None]:
    """The same by the agent's losses and optimisers, as a training takes them."""
    own = DreamerAgent(agent.config)
    own.start(Learning(0, torch.ones(0, 0), autocast=Device("cpu", bf16).autocast), objectives)
    optimisers = []
    for name in own.networks:
        kind, groups = own.optimiser(name, LR, DECAY)
        optimisers.append(kind(groups, fused=True))  # type: ignore[call-arg]

    def update() -> None:
        for objective, optimiser in zip(objectives, optimisers, strict=True):
            own.networks["world_model" if objective == WORLD else "behaviour"].train()
            moment = Moment(0, 0, len(batch.actions_BT))
            _step([optimiser], own.loss(objective, batch, own.counts(objective, batch), moment).total)

    return update


def _step(optimisers: Sequence[Optimizer], loss: Tensor) -> None:
    for optimiser in optimisers:
        optimiser.zero_grad(set_to_none=True)
    loss.backward()
    for optimiser in optimisers:
        for group in optimiser.param_groups:
            nn.utils.clip_grad_norm_(group["params"], CLIP)
        optimiser.step()


# ---- rows ----


def _pretraining(sizes: Sizes) -> Iterator[Row]:
    say("Updating a world of videos ...")
    rows = _rows(sizes, sizes.videos)
    yield from _updates("prelar-pretrain", "update on videos", sizes, sizes.pretrain, rows, (WORLD,))


def _finetuning(sizes: Sizes) -> Iterator[Row]:
    rows = _rows(sizes, sizes.episodes)
    say("Imagining ...")
    yield from _imagination(sizes, rows)
    say("Updating a world, an actor and a critic ...")
    yield from _updates("prelar-finetune", "update of fine-tuning", sizes, sizes.finetune, rows, (WORLD, BEHAVIOUR))


def _rows(sizes: Sizes, wanted: int) -> int:
    return wanted if sizes.most is None else min(wanted, sizes.most)


def _text(taken: Taken) -> str:
    return f"{taken.wall:.2f} s, {taken.cpu:.2f} s CPU"


def _updates(
    name: str, what: str, sizes: Sizes, config: DreamerConfig, rows: int, objectives: tuple[str, ...]
) -> Iterator[Row]:
    agent, batch = DreamerAgent(config), episodes(config, rows)
    alike = same(config, batch, *objectives)
    calls = [plain_update(agent, batch, objectives), *(our_update(agent, batch, objectives, bf16) for bf16 in kinds())]
    theirs, *taken = in_turns(sizes.rounds, *calls)
    what = f"{what}, {rows} segments x {config.segment} frames"
    for bf16, ours in zip(kinds(), taken, strict=True):
        yield kind_row(name, what, _text, ours, theirs, AIMS, bf16, alike)


def _imagination(sizes: Sizes, rows: int) -> Iterator[Row]:
    config = sizes.finetune
    agent, batch = DreamerAgent(config), episodes(config, rows)
    with torch.no_grad(), evaluating(agent.world_model):
        start = agent.world_model.observe(agent.segments(batch), Seeded(0, "bench", Moment(0))).posterior.flatten()

    def practise(side: Side, bf16: bool) -> None:
        assert side.behaviour is not None, "it practises"
        side.behaviour.zero_grad(set_to_none=True)
        with Device("cpu", bf16).autocast():
            losses = side.behaviour_losses(start, Seeded(0, "bench", Moment(0)))
        torch.stack(losses).sum().backward()

    alike = same(config, batch, BEHAVIOUR)
    calls = [
        partial(practise, plain_side(agent), False),
        *(partial(practise, our_side(agent), bf16) for bf16 in kinds()),
    ]
    theirs, *taken = in_turns(sizes.rounds, *calls)
    horizon = config.behaviour.horizon
    what = f"rollout of {rows} x {config.segment} rows x {horizon} steps, its losses and gradients"
    for bf16, ours in zip(kinds(), taken, strict=True):
        yield kind_row("dreamer-imagination", what, _text, ours, theirs, AIMS_IMAGINED, bf16, alike)
