"""What agents share that learn a tokenizer, a world model, and an actor-critic that practises in it.

Objectives: "tokenizer" on single frames; "world_model" on segments; "actor_critic" on segments whose last step is where
it begins to imagine, after a burn-in on those before. Segments may be of stored tokens, or of frames that the tokenizer
encodes as it is at the time. A family says what is its own: how its world model loses and is played, and what its actor
sees. Source of the plan: arXiv 2209.00588.

Shapes: B segments, T steps, K tokens a frame, N rows; X is what an actor sees.
"""

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any, ClassVar, Protocol

import torch
from torch import Tensor, nn
from torch.optim import Optimizer

from models.api import Acting, Batch, FrameBatch, Learning, Limits, Losses, Moment, share
from models.blocks.layers import evaluating
from models.family import Family
from models.limits import LONG
from models.losses.frames import Lpips
from models.practice.actor_critic import Actor
from models.practice.draws import Sampled, likeliest
from models.practice.imagination import imagine
from models.practice.interface import Interface
from models.practice.loss import actor_critic_loss
from models.practice.policy import ActorPolicy
from models.practice.world import PlayedWorld, Player, RememberingPlayer
from models.spaces import Spaces
from models.tokenizers.loss import tokenizer_loss
from models.tokenizers.vq import Tokenizer


class Original(Protocol):
    """A family's `state_dict.py`: its weights under the names of the original's checkpoints, there and back."""

    def load_original(self, name: str, network: nn.Module, state_dict: Mapping[str, Tensor]) -> None:
        """load_original(name, network, weights of it or of a whole checkpoint) -> None; ValueError says why not"""
        ...

    def own_weights(self, network: str, state_dict: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """own_weights(name, weights of it or of a whole checkpoint) -> its weights under our names"""
        ...

    def original_state_dict(self, network: nn.Module) -> dict[str, Tensor]:
        """original_state_dict(network) -> copies of its weights as the original's own loader wants them"""
        ...


class PracticeAgent(ABC):
    """All three networks of a config of `PracticeConfig`.

    changeable: by part of the config, what may be set anew while it learns on.
    """

    family: ClassVar[Family]
    original: ClassVar[Original]
    changeable: ClassVar[Mapping[str, tuple[str, ...]]]
    config: Any
    spaces: Spaces | None

    def __init__(self, config: Any, tokenizer: Tokenizer, world_model: nn.Module, actor_critic: Actor) -> None:
        self.config, self.spaces = config, None
        self.networks: dict[str, nn.Module] = {
            "tokenizer": tokenizer,
            "world_model": world_model,
            "actor_critic": actor_critic,
        }
        self.tokenizer, self._actor = tokenizer, actor_critic
        self._interface = Interface(config)
        self._player = self.player()

    # ---- a family's own ----

    @abstractmethod
    def player(self) -> RememberingPlayer:
        """How its world model is played."""

    @abstractmethod
    def see(self, tokens_NK: Tensor) -> Tensor:
        """What its actor sees (N, X) of frames' tokens (N, K)."""

    @abstractmethod
    def world_counts(self, batch: Batch) -> Tensor:
        """(2,) float64: tokens and steps from which the world model learns."""

    @abstractmethod
    def world_loss(self, batch: Batch, counts: Tensor) -> Losses:
        """What the world model loses on segments that have tokens, and actions by its own numbers."""

    @abstractmethod
    def optimiser(self, network: str, lr: float, weight_decay: float) -> tuple[type[Optimizer], list[dict[str, Any]]]:
        """See `models.api.Agent`."""

    def beginning(self, batch: Batch, moment: Moment) -> tuple[Player, Tensor, Tensor]:
        """What a rollout is played in, tokens (N, T, K) of frames up to that where it begins, and which (N, T) are
        real; the player stands at the last.
        """
        tokens_BTK = self.with_tokens(batch).tokens_BTK
        assert tokens_BTK is not None
        self._player.reset(tokens_BTK[:, -1])
        return self._player, tokens_BTK, batch.mask_BT

    def told(self, batch: Batch) -> Tensor | None:
        """Actions (N, T) of which its actor is told in burn-in, by its own numbers; None: of none."""
        return None

    @property
    def imagined_steps(self) -> int:
        """Steps of a rollout."""
        return int(self.config.actor_critic.horizon)

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
    def vocabulary(self) -> int:
        """Codes of the tokenizer."""
        return int(self.config.tokenizer.vocab_size)

    @property
    def tokens_per_frame(self) -> int:
        """Tokens K of one frame."""
        return int(self.config.tokenizer.tokens_per_frame)

    # ---- learning ----

    def reconfigure(self, **changes: Any) -> None:
        """Weights of the tokenizer's terms, and how the actor-critic imagines and learns. ValueError for others."""
        for name, value in changes.items():
            part = next((part for part, names in self.changeable.items() if name in names), None)
            if part is None:
                raise ValueError(f"The family {self.family.name} has no setting '{name}' that may change as it learns")
            self.config = replace(self.config, **{part: replace(getattr(self.config, part), **{name: value})})

    def start(self, learning: Learning, objectives: Sequence[str]) -> None:
        """See `models.api.Agent`. Without LPIPS weights the perceptual term is left out."""
        self._learning = learning
        trains = self.family.trains(tuple(objectives))
        for name, network in self.networks.items():
            network.requires_grad_(name in trains)
        self.tokenizer.follow(learning.gather)
        self._background_CHW = self._background() if "tokenizer" in objectives else None
        self._lpips = None
        if "lpips" in learning.outside:
            device = next(self.tokenizer.parameters()).device
            self._lpips = Lpips(dict(learning.outside["lpips"])).to(device).eval()

    def _background(self) -> Tensor | None:
        """The mean frame of what is stored, as the tokenizer sees it, where its loss asks for one."""
        if not self.config.weights.motion_gain:
            return None
        frames = list(self._learning.mean_frames().values())
        if not frames:
            raise ValueError(
                "weights.motion_gain weighs pixels against the mean of stored episodes, and none are: set it to 0, or "
                "learn from trajectories (learn.collect.steps=0)"
            )
        return self._interface.inward((frames[0] * 255).round().to(torch.uint8)).float() / 255

    def prepare(self, objective: str, batch: Any, moment: Moment) -> Any:
        """Nothing is augmented."""
        return batch

    def counts(self, objective: str, batch: Any) -> Tensor:
        """Frames of the tokenizer, rows of the actor-critic; of the world model see `world_counts`."""
        if objective == "world_model":
            return self.world_counts(batch)
        rows = batch.frames_nCHW if objective == "tokenizer" else batch.actions_BT
        return torch.tensor([len(rows)], dtype=torch.float64)

    def loss(self, objective: str, batch: Any, counts: Tensor, moment: Moment) -> Losses:
        """See `models.api.Agent`. What one objective trains, the others read in eval mode and without gradients."""
        if objective == "tokenizer":
            return self._tokenizer_loss(batch, counts)
        if objective == "actor_critic":
            return self._actor_critic_loss(batch, counts, moment)
        batch = self.with_tokens(batch)
        return self.world_loss(replace(batch, actions_BT=self.own_actions(batch)), counts)

    def _tokenizer_loss(self, batch: FrameBatch, counts: Tensor) -> Losses:
        frames_nCHW = self._interface.inward(batch.frames_nCHW).float() / 255
        with self._learning.autocast():
            out = self.tokenizer(frames_nCHW)
        losses = tokenizer_loss(
            frames_nCHW, out, self.config.weights, self._lpips, batch.returns_n, self._background_CHW
        )
        return share(losses, len(frames_nCHW) / float(counts[0]))

    def _actor_critic_loss(self, batch: Batch, counts: Tensor, moment: Moment) -> Losses:
        """Burn in on all steps but the last, and imagine from there."""
        config, learning, steps = self.config, self._learning, batch.actions_BT.shape[1]
        if steps != config.length("actor_critic"):
            raise ValueError(
                f"Segments of {steps} steps do not fit a burn-in of {config.actor_critic.burn_in}: give one more"
            )
        legal_NA = self._interface.legal(learning.legal_GA[batch.games_B]) if learning.legal_GA.numel() else None
        with evaluating(self.tokenizer, self.networks["world_model"]), learning.autocast():
            player, tokens_NTK, mask_NT = self.beginning(batch, moment)
            told_NT = self.told(batch)
            memory = self._actor.burn_in(
                (self.see(tokens_NK) for tokens_NK in tokens_NTK[:, :-1].unbind(1)),
                mask_NT[:, :-1],
                told_NT,
            )
            draw = Sampled(learning.seed, "imagination", moment)
            rollout = imagine(
                self._actor, player, self.see, tokens_NTK[:, -1], memory, self.imagined_steps, draw, legal_NA
            )
        return share(actor_critic_loss(rollout, config.actor_critic), len(tokens_NTK) / float(counts[0]))

    def with_tokens(self, batch: Batch) -> Batch:
        """Frames are encoded by the tokenizer as it is now."""
        if batch.frames_BTCHW is None or batch.tokens_BTK is not None:
            return batch
        with self._learning.autocast(), evaluating(self.tokenizer):
            return replace(batch, tokens_BTK=self.encode(batch.frames_BTCHW))

    def own_actions(self, batch: Batch) -> Tensor:
        """Actions (N, T) of a batch by the networks' own numbers."""
        return self._interface.own(batch.actions_BT, batch.mask_BT)

    def after_step(self, objectives: Sequence[str], step: int, target_every: int) -> None:  # noqa: B027
        """There are no target networks."""

    def work(self, objective: str, rows: int) -> int:
        """Tokens of frames, of the world model's sequences, or of what is imagined."""
        if objective == "tokenizer":
            return rows * self.tokens_per_frame
        steps = self.config.world_model.max_steps if objective == "world_model" else self.imagined_steps
        return rows * int(steps) * (self.tokens_per_frame + 1)

    # ---- the original's files ----

    def load_original(self, network: str, state_dict: Mapping[str, Tensor]) -> None:
        """See `Original`."""
        try:
            self.original.load_original(network, self.networks[network], state_dict)
        except ValueError as error:
            raise ValueError(f"does not fit: {error}") from error

    def original_weights(self, network: str, state_dict: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """See `Original`."""
        return self.original.own_weights(network, state_dict)

    def original_state_dict(self, network: str) -> dict[str, Tensor]:
        """See `Original`."""
        return self.original.original_state_dict(self.networks[network])

    # ---- seeing and acting ----

    @abstractmethod
    def probe(self) -> Mapping[str, tuple[Tensor, ...]]:
        """See `models.api.Agent`."""

    def noise(self, steps: int = 2) -> tuple[Tensor, Tensor]:
        """Frames (2, C, R, R) in [0, 1] and tokens (2, steps, K) for a `probe`, always the same."""
        sizes, draw = self.config.tokenizer, torch.Generator().manual_seed(0)
        device = next(self.tokenizer.parameters()).device
        frames = torch.rand((2, sizes.frame_channels, sizes.resolution, sizes.resolution), generator=draw).to(device)
        shape_NTK = (2, min(steps, self.config.world_model.max_steps), self.tokens_per_frame)
        return frames, torch.randint(0, self.vocabulary, shape_NTK, generator=draw).to(device)

    def encode(self, frames: Tensor) -> Tensor:
        """Tokens (..., K) int64 of uint8 frames (..., C, H, W)."""
        return self.tokenizer.encode_tokens(self._interface.inward(frames))

    def decode(self, observations: Tensor) -> Tensor:
        """Frames (..., C, H, W) in [0, 1] of tokens (..., K), of the size that it is shown."""
        return self._interface.outward(self.tokenizer.decode_tokens(observations))

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
        """See `ActorPolicy`."""
        self.tokenizer.eval()
        return ActorPolicy(self._actor, self.encode, self.see, self._interface, acting)
