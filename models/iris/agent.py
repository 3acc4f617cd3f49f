"""IRIS as a `models.api.Agent`: a tokenizer, a world model, and an actor-critic that practises in it.

Objectives: "tokenizer" on single frames; "world_model" on segments; "actor_critic" on segments whose last step is where
it begins to imagine, after a burn-in on those before. Segments may be of stored tokens, or of frames that the tokenizer
encodes as it is at the time. Source: arXiv 2209.00588.
"""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor, nn
from torch.optim import Optimizer

from models.api import Acting, Batch, FrameBatch, Learning, Limits, Losses, Moment, share
from models.blocks.layers import decay_groups, evaluating
from models.blocks.transformer import Transformer
from models.iris import state_dict as original
from models.iris.config import IrisConfig
from models.iris.emulator import EmulatorPlayer
from models.iris.family import IRIS
from models.iris.gpt2 import freeze, gpt2_blocks
from models.iris.loss import world_model_counts, world_model_loss
from models.iris.world import new_world_model, player_of
from models.iris.world_model import WorldModel
from models.limits import LONG
from models.losses.frames import Lpips
from models.practice.actor_critic import ActorCritic
from models.practice.draws import Sampled, likeliest
from models.practice.imagination import imagine
from models.practice.interface import Interface
from models.practice.loss import actor_critic_loss
from models.practice.policy import ActorPolicy
from models.practice.world import PlayedWorld, Player
from models.spaces import Spaces
from models.tokenizers.loss import tokenizer_loss
from models.tokenizers.vq import Tokenizer

CHANGEABLE = {  # by part of the config, what may be set anew while it learns on
    "weights": ("l1", "mse", "lpips", "commitment", "encoder"),
    "actor_critic": ("horizon", "burn_in", "gamma", "lambda_", "value", "entropy"),
}


class IrisAgent:
    """All three networks. `seed` fixes their first weights."""

    spaces: Spaces | None

    def __init__(self, config: IrisConfig, seed: int = 0) -> None:
        self.config, self.spaces = config, None
        self.tokenizer = Tokenizer(config.tokenizer, seed=seed)
        self.world_model = new_world_model(config.world_model, seed=seed)
        self.actor_critic = ActorCritic(config.actor_critic, seed=seed)
        self.networks: dict[str, nn.Module] = {
            "tokenizer": self.tokenizer,
            "world_model": self.world_model,
            "actor_critic": self.actor_critic,
        }
        self._interface = Interface(config)
        self._player: Player = player_of(self.world_model)

    @property
    def limits(self) -> Limits:
        """Games are not told apart, and steps that have positions."""
        return Limits(LONG, self.config.world_model.max_steps)

    @property
    def gamma(self) -> float:
        """The discount of its values."""
        return self.config.actor_critic.gamma

    @property
    def vocabulary(self) -> int:
        """Codes of the tokenizer."""
        return self.config.tokenizer.vocab_size

    @property
    def tokens_per_frame(self) -> int:
        """Tokens K of one frame."""
        return self.config.tokenizer.tokens_per_frame

    # ---- learning ----

    def reconfigure(self, **changes: Any) -> None:
        """Weights of the tokenizer's terms, and how the actor-critic imagines and learns. ValueError for others."""
        for name, value in changes.items():
            part = next((part for part, names in CHANGEABLE.items() if name in names), None)
            if part is None:
                raise ValueError(f"An IRIS has no setting '{name}' that could change while it learns on")
            self.config = replace(self.config, **{part: replace(getattr(self.config, part), **{name: value})})

    def start(self, learning: Learning, objectives: Sequence[str]) -> None:
        """See `models.api.Agent`. Without LPIPS weights the perceptual term is left out."""
        self._learning = learning
        trains = IRIS.trains(tuple(objectives))
        for name, network in self.networks.items():
            network.requires_grad_(name in trains)
        self.tokenizer.follow(learning.gather)
        if isinstance(self.world_model, WorldModel):
            self._start_transformer(self.world_model.transformer, learning)
        if self.config.oracle and "actor_critic" in objectives and learning.emulators is None:
            raise ValueError(
                "oracle practises in the game, and none is played here: set learn.collect.steps, or oracle=false"
            )
        self._emulators: dict[int, EmulatorPlayer] = {}
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

    def _start_transformer(self, transformer: Transformer, learning: Learning) -> None:
        """Freeze what the config says; blocks that have learned nothing yet get GPT-2's weights where it names them."""
        config = self.config.world_model
        if config.frozen:
            freeze(transformer, config.learning_blocks)
        if "gpt2" in learning.outside and learning.fresh:
            blocks = gpt2_blocks(learning.outside["gpt2"], config.layers, config.width)
            transformer.load_state_dict({**transformer.state_dict(), **blocks.weights})

    def prepare(self, objective: str, batch: Any, moment: Moment) -> Any:
        """Nothing is augmented."""
        return batch

    def counts(self, objective: str, batch: Any) -> Tensor:
        """Frames of the tokenizer, rows of the actor-critic; of the world model see `world_model_counts`."""
        if objective == "world_model":
            return world_model_counts(batch, self.config.world_model)
        rows = batch.frames_nCHW if objective == "tokenizer" else batch.actions_BT
        return torch.tensor([len(rows)], dtype=torch.float64)

    def loss(self, objective: str, batch: Any, counts: Tensor, moment: Moment) -> Losses:
        """See `models.iris.loss`. What one objective trains, the others read in eval mode and without gradients."""
        if objective == "tokenizer":
            return self._tokenizer_loss(batch, counts)
        if objective == "world_model":
            with self._learning.autocast():
                batch = self._with_tokens(batch)
                actions_BT = self._interface.own(batch.actions_BT, batch.mask_BT)
                outputs = self.world_model(batch.tokens_BTK, actions_BT)
            return world_model_loss(outputs, batch, counts)
        return self._actor_critic_loss(batch, counts, moment)

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
        config, learning = self.config.actor_critic, self._learning
        if batch.actions_BT.shape[1] != config.burn_in + 1:
            raise ValueError(
                f"Segments of {batch.actions_BT.shape[1]} steps do not fit a burn-in of {config.burn_in}: give one more"
            )
        legal_NA = self._interface.legal(learning.legal_GA[batch.games_B]) if learning.legal_GA.numel() else None
        decode = self.tokenizer.decode_tokens
        with evaluating(self.tokenizer, self.world_model), learning.autocast():
            player, tokens_BTK, mask_BT = self._beginning(batch, moment)
            memory = self.actor_critic.burn_in(decode(tokens_BTK[:, :-1]).unbind(1), mask_BT[:, :-1])
            player.reset(tokens_BTK[:, -1])
            draw = Sampled(learning.seed, "imagination", moment)
            rollout = imagine(
                self.actor_critic,
                player,
                decode,
                tokens_BTK[:, -1],
                memory,
                config.horizon,
                draw,
                legal_NA,
            )
        return share(actor_critic_loss(rollout, config), len(tokens_BTK) / float(counts[0]))

    def _beginning(self, batch: Batch, moment: Moment) -> tuple[Player, Tensor, Tensor]:
        """What a rollout is played in, tokens of frames up to that where it begins, and which of these are real."""
        if self.config.oracle:
            games = self._emulator(moment, len(batch.mask_BT))
            return games, *games.recent(self.config.actor_critic.burn_in + 1)
        tokens_BTK = self._with_tokens(batch).tokens_BTK
        assert tokens_BTK is not None
        return self._player, tokens_BTK, batch.mask_BT

    def _emulator(self, moment: Moment, rows: int) -> EmulatorPlayer:
        """The games of these rows of a batch, which go on from step to step."""
        assert self._learning.emulators is not None, "`start` asks for them"
        if moment.first not in self._emulators:
            games = self._learning.emulators(moment.first, rows)
            device = self.actor_critic.actor_linear.weight.device
            self._emulators[moment.first] = EmulatorPlayer(games, self.encode, self._interface.theirs, device)
        return self._emulators[moment.first]

    def _with_tokens(self, batch: Batch) -> Batch:
        """Frames are encoded by the tokenizer as it is now."""
        if batch.frames_BTCHW is None or batch.tokens_BTK is not None:
            return batch
        with evaluating(self.tokenizer):
            return replace(batch, tokens_BTK=self.encode(batch.frames_BTCHW))

    def optimiser(self, network: str, lr: float, weight_decay: float) -> tuple[type[Optimizer], list[dict[str, Any]]]:
        """AdamW for a transformer, which decays linear weights alone; Adam without decay for the others."""
        if network != "world_model" or self.config.world_model.kind != "transformer":
            return torch.optim.Adam, [{"params": list(self.networks[network].parameters()), "lr": lr}]
        return torch.optim.AdamW, [{**group, "lr": lr} for group in decay_groups(self.world_model, weight_decay)]

    def after_step(self, objectives: Sequence[str], step: int, target_every: int) -> None:
        """There are no target networks."""

    def work(self, objective: str, rows: int) -> int:
        """Tokens of frames, of the world model's sequences, or of what is imagined."""
        steps = {"world_model": self.config.world_model.max_steps, "actor_critic": self.config.actor_critic.horizon}
        if objective == "tokenizer":
            return rows * self.tokens_per_frame
        return rows * steps[objective] * (self.tokens_per_frame + 1)

    # ---- the original's files ----

    def load_original(self, network: str, state_dict: Mapping[str, Tensor]) -> None:
        """See `state_dict.load_original`."""
        try:
            original.load_original(network, self.networks[network], state_dict)
        except ValueError as error:
            raise ValueError(f"does not fit: {error}") from error

    def original_weights(self, network: str, state_dict: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """See `state_dict.own_weights`."""
        return original.own_weights(network, state_dict)

    def original_state_dict(self, network: str) -> dict[str, Tensor]:
        """See `state_dict.original_state_dict`."""
        return original.original_state_dict(self.networks[network])

    # ---- seeing and acting ----

    def probe(self) -> dict[str, tuple[Tensor, ...]]:
        """Latents and pictures of noise, logits of two steps, and what the actor says of noise."""
        sizes, world = self.config.tokenizer, self.config.world_model
        device, draw = next(self.tokenizer.parameters()).device, torch.Generator().manual_seed(0)
        frames = torch.rand((2, sizes.frame_channels, sizes.resolution, sizes.resolution), generator=draw).to(device)
        shape_NTK = (2, min(2, world.max_steps), self.tokens_per_frame)
        tokens_NTK = torch.randint(0, world.vocab_size, shape_NTK, generator=draw).to(device)
        outputs = self.world_model(tokens_NTK, torch.zeros_like(tokens_NTK[..., 0]))
        judged = self.actor_critic(frames, self.actor_critic.fresh(2))
        return {
            "tokenizer": (self.tokenizer.encode(frames).z, self.tokenizer.decode_tokens(tokens_NTK[:, 0])),
            "world_model": (outputs.hidden_BLD,),
            "actor_critic": (judged.logits_NA, judged.values_N),
        }

    def encode(self, frames: Tensor) -> Tensor:
        """Tokens (..., K) int64 of uint8 frames (..., C, H, W)."""
        return self.tokenizer.encode_tokens(self._interface.inward(frames))

    def decode(self, observations: Tensor) -> Tensor:
        """Frames (..., C, H, W) in [0, 1] of tokens (..., K), of the size that it is shown."""
        return self._interface.outward(self.tokenizer.decode_tokens(observations))

    def world(self) -> PlayedWorld:
        """The world model imagines what is likeliest."""
        self.world_model.eval()
        return PlayedWorld(player_of(self.world_model), own=self._interface.own)

    def dream(self, seed: int = 0, sample: bool | None = None) -> PlayedWorld:
        """Its practice draws what it imagines."""
        self.world_model.eval()
        draw = Sampled(seed, "dream", Moment(0)) if sample in (None, True) else likeliest
        return PlayedWorld(player_of(self.world_model), draw, self._interface.own)

    def policy(self, acting: Acting) -> ActorPolicy:
        """See `ActorPolicy`."""
        self.tokenizer.eval()
        return ActorPolicy(self.actor_critic, self.encode, self.tokenizer.decode_tokens, self._interface, acting)
