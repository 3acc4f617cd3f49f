"""What agents share whose tokenizer reads single frames and whose world model predicts these tokens.

Objectives: "tokenizer" on single frames; "world_model" on segments; "actor_critic" on segments whose last step is where
it begins to imagine, after a burn-in on those before. Segments may be of stored tokens, or of frames that the tokenizer
encodes as it is at the time. A family says what is its own: how its world model loses and is played, and what its actor
sees. Source of the plan: arXiv 2209.00588.

Shapes: B segments, T steps, K tokens a frame, N rows; X is what an actor sees.
"""

from abc import abstractmethod
from collections.abc import Sequence
from dataclasses import replace
from functools import partial
from typing import Any, ClassVar, NamedTuple

import torch
from torch import Tensor, nn

from models.api import Batch, FrameBatch, Learning, Losses, Moment, share
from models.blocks.layers import evaluating
from models.losses.frames import Lpips
from models.practice.actor_critic import Actor, Memory
from models.practice.draws import Draw, Sampled
from models.practice.imagination import Rollout, imagine
from models.practice.loss import actor_critic_loss
from models.practice.outcome import outcome_errors
from models.practice.played import PlayedAgent
from models.practice.world import CuriousPlayer, Player
from models.tokenizers.loss import tokenizer_loss
from models.tokenizers.vq import Tokenizer


class Practised(NamedTuple):
    """What was imagined, the actor's memory before it, and the player that it was imagined in, at its end."""

    rollout: Rollout
    burnt: Memory
    player: Player


class PracticeAgent(PlayedAgent):
    """All three networks of a config of `PracticeConfig`."""

    last_entropy: ClassVar[bool] = False  # see `actor_critic_loss`
    _actor: Actor
    _player: CuriousPlayer

    def __init__(self, config: Any, tokenizer: Tokenizer, world_model: nn.Module, actor_critic: Actor) -> None:
        self.tokenizer = tokenizer
        super().__init__(config, tokenizer, world_model, actor_critic, actor_critic)

    # ---- a family's own ----

    @abstractmethod
    def world_counts(self, batch: Batch) -> Tensor:
        """(2,) float64 or more: tokens and steps from which the world model learns."""

    @abstractmethod
    def world_loss(self, batch: Batch, counts: Tensor, moment: Moment) -> Losses:
        """What the world model loses on segments that have tokens, and actions by its own numbers."""

    def beginning(self, batch: Batch, moment: Moment) -> tuple[Player, Tensor, Tensor]:
        """What a rollout is played in, tokens (N, T, K) of frames up to that where it begins, and which (N, T) are
        real; the player stands at the last.
        """
        tokens_BTK = self.with_tokens(batch).tokens_BTK
        assert tokens_BTK is not None
        player = self.rewarding(moment)
        player.reset(tokens_BTK[:, -1])
        return player, tokens_BTK, batch.mask_BT

    def rewarding(self, moment: Moment) -> CuriousPlayer:
        """The player that practice is played in, whose steps are worth what they are at this time."""
        actor = self.config.actor_critic
        self._player.worth = (actor.real_reward, actor.curiosity) if self.curious(moment) else None
        return self._player

    def curious(self, moment: Moment) -> bool:
        """Whether there is an ensemble, and play is still collected, which curiosity could lead."""
        if not self.config.world_model.ensemble:
            return False
        until = self._learning.plays_until
        return until is None or moment.step < until

    def outcome_terms(self, moment: Moment) -> dict[str, Any]:
        """What `token_world_loss` is to know of a world model's rewards and ensemble."""
        model: Any = self.networks["world_model"]

        def says(latents_BSD: Tensor) -> Tensor:
            with self._learning.autocast():
                return model.ensemble.logits(latents_BSD, moment.first, moment.count)

        rewarded = partial(outcome_errors, model, self.config.world_model)
        return {"rewarded": rewarded, "curious": says if self.curious(moment) else None}

    def told(self, batch: Batch) -> Tensor | None:
        """Actions (N, T) of which its actor is told in burn-in, by its own numbers; None: of none."""
        return self.own_actions(batch) if self.tells_burn_in else None

    # ---- what it can be asked for ----

    @property
    def vocabulary(self) -> int:
        """Codes of the tokenizer."""
        return int(self.config.tokenizer.vocab_size)

    @property
    def tokens_per_frame(self) -> int:
        """Tokens K of one frame."""
        return int(self.config.tokenizer.tokens_per_frame)

    # ---- learning ----

    def start(self, learning: Learning, objectives: Sequence[str]) -> None:
        """See `models.api.Agent`. Without LPIPS weights the perceptual term is left out."""
        super().start(learning, objectives)
        self.tokenizer.follow(learning.gather)
        self._actor.follow(learning.gather)
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
        return self.world_loss(replace(batch, actions_BT=self.own_actions(batch)), counts, moment)

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
        with evaluating(self.tokenizer, self.networks["world_model"]), learning.autocast():
            found = self.practised(batch, moment, Sampled(learning.seed, "imagination", moment), self.legal(batch))
        losses = actor_critic_loss(
            found.rollout, config.actor_critic, self._actor.bins, self._actor.return_scale, self.last_entropy
        )
        return share(losses, len(batch.actions_BT) / float(counts[0]))

    def practised(self, batch: Batch, moment: Moment, draw: Draw, legal_NA: Tensor | None = None) -> Practised:
        """A rollout from the last step of segments. legal_NA: see `imagine`."""
        player, tokens_NTK, mask_NT = self.beginning(batch, moment)
        seen = (self.see(tokens_NK) for tokens_NK in tokens_NTK[:, :-1].unbind(1))
        burnt = self._actor.burn_in(seen, mask_NT[:, :-1], self.told(batch))
        start_NK, steps = tokens_NTK[:, -1], self.imagined_steps
        rollout = imagine(self._actor, player, self.see, start_NK, burnt, steps, draw, legal_NA)
        return Practised(rollout, burnt, player)

    def with_tokens(self, batch: Batch) -> Batch:
        """Frames are encoded by the tokenizer as it is now."""
        if batch.frames_BTCHW is None or batch.tokens_BTK is not None:
            return batch
        with self._learning.autocast(), evaluating(self.tokenizer):
            return replace(batch, tokens_BTK=self.encode(batch.frames_BTCHW))

    def work(self, objective: str, rows: int) -> int:
        """Tokens of frames, of the world model's sequences, or of what is imagined."""
        if objective == "tokenizer":
            return rows * self.tokens_per_frame
        steps = self.config.world_model.max_steps if objective == "world_model" else self.imagined_steps
        return rows * int(steps) * (self.tokens_per_frame + 1)

    # ---- seeing ----

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
