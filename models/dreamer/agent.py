"""The Dreamer family as a `models.api.Agent`: a world learned from play or videos, and an actor that practises in it.

Objectives: "world" on segments of episodes or videos; "behaviour" on segments of which every step is a state from which
it imagines, in the world as it is at the time: in eval mode and without gradients to its weights. Episodes hold an
action beside the frame at which it was chosen; here an action stands beside the frame that it led to, as in the
originals. So a segment is read with the step before it, which at an episode's beginning is padding. The originals
imagine from the states of the world's own update; here segments are drawn anew, as all agents of the house practise.

Shapes: B segments, T steps, A numbers of an action, C channels of R x R pixels, K of an observation (`played.py`).
"""

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.optim import Adam, Optimizer

from models.api import Acting, Batch, Learning, Limits, Losses, Moment, share
from models.blocks.layers import evaluating
from models.dreamer.actor_critic import ActorCritic, actor_critic_loss, imagine
from models.dreamer.config import ADAM_EPS, DreamerConfig
from models.dreamer.family import BEHAVIOUR, DREAMER, WORLD
from models.dreamer.film import predicted
from models.dreamer.loss import world_loss
from models.dreamer.optimiser import SPLIT, behaviour_parts, frozen, world_parts
from models.dreamer.played import PlayedWorld, pictures, seen_alone, sizes
from models.dreamer.policy import DreamerPolicy
from models.dreamer.state_dict import load_module, module_weights, original_module
from models.dreamer.world_model import Segments, WorldModel
from models.limits import LONG
from models.rssm.chance import Seeded
from models.spaces import Spaces


class DreamerAgent:
    """Both networks; a world of videos has no behaviour. `seed` fixes their first weights."""

    spaces: Spaces | None = None

    def __init__(self, config: DreamerConfig, seed: int = 0) -> None:
        self.config = config
        self.world_model = WorldModel(config, seed)
        self.behaviour = ActorCritic(config, seed) if config.practises else None
        self.networks: dict[str, nn.Module] = {"world_model": self.world_model}
        if self.behaviour is not None:
            self.networks["behaviour"] = self.behaviour

    # ---- what it can be asked for ----

    @property
    def limits(self) -> Limits:
        """Games are not told apart, and steps have no positions."""
        return Limits(LONG, LONG)

    @property
    def gamma(self) -> float:
        """The discount of its values."""
        return self.config.behaviour.discount

    @property
    def vocabulary(self) -> int:
        """It has no tokens."""
        return 0

    @property
    def tokens_per_frame(self) -> int:
        """K."""
        return sum(sizes(self.config))

    # ---- learning ----

    def reconfigure(self, **changes: Any) -> None:
        """Raises ValueError: nothing may change as it learns."""
        for name in changes:
            raise ValueError(f"The family {DREAMER.name} has no setting '{name}' that may change as it learns")

    def start(self, learning: Learning, objectives: Sequence[str]) -> None:
        """See `models.api.Agent`. Raises ValueError as `DreamerConfig.require_fit`, and without behaviour."""
        if WORLD in objectives:
            self.config.require_fit(self.config.segment)
        if BEHAVIOUR in objectives and self.behaviour is None:
            raise ValueError(
                f"reads={self.config.reads} learns videos and has no behaviour: practise with reads=environment or "
                "reads=encoded"
            )
        self._learning = learning
        trains = DREAMER.trains(tuple(objectives))
        for name, network in self.networks.items():
            network.requires_grad_(name in trains)
        if self.behaviour is not None:
            self.behaviour.target.requires_grad_(False)

    def prepare(self, objective: str, batch: Batch, moment: Moment) -> Batch:
        """Nothing is augmented."""
        return batch

    def counts(self, objective: str, batch: Batch) -> Tensor:
        """Segments."""
        return torch.tensor([len(batch.actions_BT)], dtype=torch.float64)

    def loss(self, objective: str, batch: Batch, counts: Tensor, moment: Moment) -> Losses:
        """See `models.api.Agent`."""
        segments = self.segments(batch)
        draws = Seeded(self._learning.seed, objective, moment)
        found = self._world_loss(segments, draws) if objective == WORLD else self._behaviour_loss(segments, draws)
        return share(found, len(batch.actions_BT) / float(counts[0]))

    def segments(self, batch: Batch) -> Segments:
        """What a batch is to a world. Raises ValueError for stored tokens, and for padding within a segment."""
        if batch.frames_BTCHW is None:
            raise ValueError("This family learns frames, and the batch has tokens: give trajectories or videos")
        if not self.config.practises:
            if not bool(batch.mask_BT.all()):
                raise ValueError(f"A video is shorter than a segment of {self.config.segment} frames: lower segment")
            return Segments(batch.frames_BTCHW, _firsts(batch.mask_BT))
        if not bool(batch.mask_BT[:, 1:].all()):
            raise ValueError(f"An episode is shorter than a segment of {self.config.segment} steps: lower segment")
        led = slice(None, -1)
        return Segments(
            batch.frames_BTCHW[:, 1:],
            _firsts(batch.mask_BT[:, 1:]),
            batch.actions_BT[:, led].float(),
            batch.rewards_BT[:, led].float(),
        )

    def _world_loss(self, segments: Segments, draws: Seeded) -> Losses:
        with self._learning.autocast():
            lost = world_loss(self.world_model, segments, draws)
        told = {name: term.detach() for name, term in lost.terms.items()}
        if lost.paid is not None:
            told["bonus"] = lost.paid.bonus_BM.mean()
        return Losses(lost.total(self.config), told)

    def _behaviour_loss(self, segments: Segments, draws: Seeded) -> Losses:
        """What actor and critic lose on a rollout from every step of the segments."""
        assert self.behaviour is not None, "`start` asks for it"
        world, config = self.world_model, self.config
        with evaluating(world), frozen(world), self._learning.autocast():
            with torch.no_grad():
                start = world.observe(segments, draws).posterior.flatten()
            imagined = imagine(world, self.behaviour.actor, start, None, config.behaviour.horizon, draws)
            found = actor_critic_loss(world, self.behaviour, imagined, config.faults.entropy_in_targets)
        terms = {
            "actor": found.actor.detach(),
            "critic": found.critic.detach(),
            "imagined_reward": found.rewards_NH.detach().mean(),
            "imagined_return": found.returns_NH.mean(),
            "entropy": found.entropies_NH.detach().mean(),
        }
        return Losses(found.actor + found.critic, terms)

    def optimiser(self, network: str, lr: float, weight_decay: float) -> tuple[type[Optimizer], list[dict[str, Any]]]:
        """Adam whose decay is added to gradients; parts that learn apart are groups, each clipped by its own norm."""
        parts = world_parts(self.world_model) if network == "world_model" else behaviour_parts(self._acting_networks())
        return Adam, [
            {
                "params": list(parameters.values()),
                "lr": lr,
                "eps": ADAM_EPS,
                "weight_decay": weight_decay,
                "apart": True,
                "delay": self.config.delay if part == SPLIT else 0,
            }
            for part, parameters in parts.items()
        ]

    def _acting_networks(self) -> ActorCritic:
        if self.behaviour is None:
            raise ValueError(f"A world of videos (reads={self.config.reads}) cannot act: fine-tune it first")
        return self.behaviour

    def after_step(self, objectives: Sequence[str], step: int, target_every: int) -> None:
        """The target critic follows as the config says, whatever `target_every` of the schedule is."""
        if BEHAVIOUR in objectives:
            self._acting_networks().follow()

    def work(self, objective: str, rows: int) -> int:
        """Frames."""
        return rows * self.config.segment

    def take_over(self, other: Any) -> None:
        """Encoder, decoder and state-space model of a world that learned videos. Raises ValueError as `WorldModel`."""
        self.world_model.take_over(other.world_model)

    # ---- the originals' files ----

    def load_original(self, network: str, state_dict: Mapping[str, Tensor]) -> None:
        """See `state_dict.load_module`."""
        load_module(self.networks[network], self.networks.values(), self.config, state_dict)

    def original_weights(self, network: str, state_dict: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """See `state_dict.module_weights`."""
        return module_weights(self.networks[network], self.config, state_dict)

    def original_state_dict(self, network: str) -> dict[str, Tensor]:
        """As PreLAR's repository names them."""
        return original_module(self.networks[network], self.config)

    def probe(self) -> Mapping[str, tuple[Tensor, ...]]:
        """Features and pictures of noise, and what the actor and the critic say of these features."""
        size, draw = self.config.frames.resolution, torch.Generator().manual_seed(0)
        frames = torch.randint(256, (2, 3, size, size), generator=draw, dtype=torch.uint8)
        observed = self.encode(frames.to(next(self.world_model.parameters()).device))
        found: dict[str, tuple[Tensor, ...]] = {"world_model": (observed, self.decode(observed))}
        if self.behaviour is not None:
            feature = observed.split(sizes(self.config), dim=-1)[1]
            found["behaviour"] = (self.behaviour.actor.policy(feature).mean, self.behaviour.critic(feature))
        return found

    # ---- seeing and acting ----

    def encode(self, frames: Tensor) -> Tensor:
        """Observations (..., K) of uint8 frames (..., C, R, R): see `played.seen_alone`."""
        return seen_alone(self.world_model, frames)

    def decode(self, observations: Tensor) -> Tensor:
        """Frames (..., C, R, R) in [0, 1] of the features in observations (..., K)."""
        return pictures(self.world_model, observations)

    def foresee(self, frames: Tensor, seen: int) -> Tensor:
        """See `models.worlds.Foresees`. Latent actions are told by the whole video, where the world reads such."""
        segments = Segments(frames, _firsts(torch.ones(frames.shape[:2], dtype=torch.bool, device=frames.device)))
        draws = Seeded(0, "foresee", Moment(0))
        return predicted(self.world_model.eval(), segments, draws, seen).clamp(0, 1)

    def world(self) -> PlayedWorld:
        """It imagines what is likeliest."""
        return PlayedWorld(self.world_model.eval())

    def dream(self, seed: int = 0, sample: bool | None = None) -> PlayedWorld:
        """Its practice draws what it imagines."""
        drawn = sample in (None, True)
        return PlayedWorld(self.world_model.eval(), Seeded(seed, "dream", Moment(0)) if drawn else None)

    def policy(self, acting: Acting) -> DreamerPolicy:
        """See `DreamerPolicy`. Raises ValueError for a world of videos."""
        return DreamerPolicy(
            self.world_model,
            self._acting_networks(),
            len(acting.games_N),
            temperature=acting.temperature,
            epsilon=acting.epsilon,
        )


def _firsts(mask_BT: Tensor) -> Tensor:
    """A segment begins anew at its first step, of whose past nothing is read."""
    first_BT = torch.zeros_like(mask_BT)
    first_BT[:, 0] = True
    return first_BT
