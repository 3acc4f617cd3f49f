"""What agents share that learn a tokenizer, a world model that is played, and an actor-critic that practises in it.

A family says what an observation is, how its networks lose, how its world model is played and what its actor sees.

Shapes: K numbers of an observation, N rows; X is what an actor sees.
"""

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any, ClassVar

from torch import Tensor, nn
from torch.optim import Optimizer

from models.api import Acting, Batch, Learning, Limits, Losses, Moment
from models.family import Family
from models.limits import LONG
from models.planning.rollouts import Rollouts
from models.practice.actor_critic import Actor
from models.practice.draws import Sampled, likeliest
from models.practice.interface import Interface
from models.practice.original_names import OriginalNames
from models.practice.policy import ActorPolicy
from models.practice.search import JudgedWorld, RolloutPolicy
from models.practice.world import PlayedWorld, RememberingPlayer
from models.spaces import Spaces

OTHER_HEADS = (("world_model", "reward_bins"), ("world_model", "ensemble"), ("actor_critic", "value_bins"))
"""options that Simulus brought to other families"""


class PlayedAgent(ABC):
    """The networks "tokenizer", "world_model" and "actor_critic" of a config of `PlayedConfig`.

    actor: what plays, the network "actor_critic" or a part of it. changeable: by part of the config, what may be set
    anew while it learns on. beyond_original: options, by part, of heads that the original's checkpoints do not have.
    """

    family: ClassVar[Family]
    original: ClassVar[OriginalNames]
    changeable: ClassVar[Mapping[str, tuple[str, ...]]]
    beyond_original: ClassVar[tuple[tuple[str, str], ...]] = ()
    config: Any
    spaces: Spaces | None

    def __init__(
        self, config: Any, tokenizer: nn.Module, world_model: nn.Module, actor_critic: nn.Module, actor: Actor
    ) -> None:
        self.config, self.spaces = config, None
        self.networks: dict[str, nn.Module] = {
            "tokenizer": tokenizer,
            "world_model": world_model,
            "actor_critic": actor_critic,
        }
        self._actor = actor
        self._interface = Interface(config)
        self._player = self.player()

    # ---- a family's own ----

    @abstractmethod
    def player(self) -> RememberingPlayer:
        """How its world model is played."""

    @abstractmethod
    def see(self, tokens_NK: Tensor) -> Tensor:
        """What its actor sees (N, X) of observations (N, K)."""

    @abstractmethod
    def encode(self, frames: Tensor) -> Tensor:
        """Observations (..., K) of uint8 frames (..., C, H, W)."""

    @abstractmethod
    def decode(self, observations: Tensor) -> Tensor:
        """Frames (..., C, H, W) in [0, 1] of observations (..., K), of the size that it is shown."""

    @abstractmethod
    def counts(self, objective: str, batch: Any) -> Tensor:
        """See `models.api.Agent`."""

    @abstractmethod
    def loss(self, objective: str, batch: Any, counts: Tensor, moment: Moment) -> Losses:
        """See `models.api.Agent`. What one objective trains, the others read in eval mode and without gradients."""

    @abstractmethod
    def optimiser(self, network: str, lr: float, weight_decay: float) -> tuple[type[Optimizer], list[dict[str, Any]]]:
        """See `models.api.Agent`."""

    @property
    @abstractmethod
    def vocabulary(self) -> int:
        """See `models.api.Agent`."""

    @property
    @abstractmethod
    def tokens_per_frame(self) -> int:
        """Numbers K of one observation."""

    @abstractmethod
    def probe(self) -> Mapping[str, tuple[Tensor, ...]]:
        """See `models.api.Agent`."""

    # ---- what it can be asked for ----

    @property
    def limits(self) -> Limits:
        """Games are not told apart, and steps that have positions."""
        return Limits(LONG, self.config.world_model.max_steps)

    @property
    def gamma(self) -> float:
        """The discount of its values."""
        return float(self.config.actor_critic.gamma)

    @property
    def imagined_steps(self) -> int:
        """Steps of a rollout."""
        return int(self.config.actor_critic.horizon)

    @property
    def tells_burn_in(self) -> bool:
        """Whether its actor is told in burn-in of the actions that were done."""
        return False

    # ---- learning ----

    def reconfigure(self, **changes: Any) -> None:
        """What its losses weigh, and how the actor-critic imagines and learns. ValueError for others."""
        for name, value in changes.items():
            part = next((part for part, names in self.changeable.items() if name in names), None)
            if part is None:
                raise ValueError(f"The family {self.family.name} has no setting '{name}' that may change as it learns")
            self.config = replace(self.config, **{part: replace(getattr(self.config, part), **{name: value})})

    def start(self, learning: Learning, objectives: Sequence[str]) -> None:
        """See `models.api.Agent`."""
        self._learning = learning
        trains = self.family.trains(tuple(objectives))
        for name, network in self.networks.items():
            network.requires_grad_(name in trains)

    def prepare(self, objective: str, batch: Any, moment: Moment) -> Any:
        """Nothing is augmented."""
        return batch

    def after_step(self, objectives: Sequence[str], step: int, target_every: int) -> None:  # noqa: B027
        """There are no target networks."""

    def own_actions(self, batch: Batch) -> Tensor:
        """Actions (N, T) of a batch by the networks' own numbers."""
        return self._interface.own(batch.actions_BT, batch.mask_BT)

    def legal(self, batch: Batch) -> Tensor | None:
        """Which of our actions (N, A) the games of a batch have; None where nobody told."""
        table_GA = self._learning.legal_GA
        return self._interface.legal(table_GA[batch.games_B]) if table_GA.numel() else None

    # ---- the original's files ----

    def load_original(self, network: str, state_dict: Mapping[str, Tensor]) -> None:
        """See `OriginalNames`."""
        try:
            self.original.load_original(network, self.networks[network], state_dict)
        except ValueError as error:
            raise ValueError(f"does not fit: {error}") from error

    def original_weights(self, network: str, state_dict: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """See `OriginalNames`."""
        return self.original.theirs(self.original.own_weights(network, state_dict))

    def original_state_dict(self, network: str) -> dict[str, Tensor]:
        """See `OriginalNames`. Raises ValueError where the original has no such heads."""
        for part, option in self.beyond_original:
            if getattr(getattr(self.config, part), option):
                raise ValueError(
                    f"{part}.{option} gives this agent weights that the original's checkpoints do not have: export one "
                    "that learned without it"
                )
        return self.original.original_state_dict(self.networks[network])

    # ---- acting ----

    def world(self) -> PlayedWorld:
        """The world model imagines what is likeliest."""
        self.networks["world_model"].eval()
        return PlayedWorld(self.player(), own=self._interface.own)

    def dream(self, seed: int = 0, sample: bool | None = None) -> PlayedWorld:
        """Its practice draws what it imagines."""
        self.networks["world_model"].eval()
        draw = Sampled(seed, "dream", Moment(0)) if sample in (None, True) else likeliest
        return PlayedWorld(self.player(), draw, self._interface.own)

    def policy(self, acting: Acting) -> ActorPolicy:
        """See `ActorPolicy`, and `RolloutPolicy` where rollouts are to choose."""
        self.networks["tokenizer"].eval()
        burn_in, told = self.config.actor_critic.burn_in, self.tells_burn_in
        parts = (self._actor, self.encode, self.see, self._interface, acting, burn_in, told)
        if not isinstance(acting.planner, Rollouts):
            return ActorPolicy(*parts)
        self.networks["world_model"].eval()
        world = JudgedWorld(self.player(), self._actor, self.see)
        return RolloutPolicy(world, acting.planner, self.gamma, *parts)
