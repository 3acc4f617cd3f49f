"""Delta-IRIS as a `models.api.Agent`: see `PlayedAgent`. An observation is the frame itself, its bytes in a row.

Objectives: "tokenizer" on segments, of whose changes it learns; "world_model" on segments, whose changes the tokenizer
tells in float32 as it is at the time; "actor_critic" on segments whose last step is where it begins to imagine: the
world model and both memories read those before. Source: arXiv 2406.19320.

Shapes: B segments or N rows, T steps, C channels of R x R pixels, K tokens a change, P changes; S numbers of a frame.
"""

from collections.abc import Sequence
from dataclasses import replace
from typing import Any, ClassVar

import torch
from torch import Tensor
from torch.optim import Optimizer

from models.api import Batch, Learning, Losses, Moment, share
from models.blocks.layers import decay_groups, evaluating
from models.delta_iris import state_dict
from models.delta_iris.actor_critic import ActorCritic
from models.delta_iris.config import DeltaIrisConfig
from models.delta_iris.family import DELTA_IRIS
from models.delta_iris.imagination import imagine
from models.delta_iris.loss import (
    actor_critic_loss,
    changes_between,
    tokenizer_counts,
    tokenizer_loss,
    world_model_counts,
    world_model_loss,
)
from models.delta_iris.tokenizer import Change, DeltaTokenizer, as_shown
from models.delta_iris.world import DeltaPlayer, as_frames, as_observations
from models.delta_iris.world_model import WorldModel
from models.practice.draws import Sampled
from models.practice.played import PlayedAgent


class DeltaIrisAgent(PlayedAgent):
    """All three networks. `seed` fixes their first weights."""

    family: ClassVar = DELTA_IRIS
    original: ClassVar = state_dict.NAMES
    changeable: ClassVar = {
        "weights": ("commitment", "l1", "l2", "worst", "motion_gain"),
        "world_model": ("latents_weight", "rewards_weight", "ends_weight"),
        "actor_critic": ("horizon", "burn_in", "gamma", "lambda_", "value", "entropy", "target_decay"),
    }
    config: DeltaIrisConfig

    def __init__(self, config: DeltaIrisConfig, seed: int = 0) -> None:
        self.tokenizer = DeltaTokenizer(config.tokenizer, seed=seed)
        self.world_model = WorldModel(config.world_model, config.tokenizer, seed=seed)
        self.actor_critic = ActorCritic(config.actor_critic, seed=seed)
        super().__init__(config, self.tokenizer, self.world_model, self.actor_critic, self.actor_critic.model)
        self._followed = -1  # the step for which the target was moved last
        self._practice = self.player()

    def player(self) -> DeltaPlayer:
        """See `DeltaPlayer`."""
        return DeltaPlayer(self.world_model, self.tokenizer)

    def see(self, tokens_NK: Tensor) -> Tensor:
        """Frames (N, C, R, R) in [0, 1]."""
        return as_frames(tokens_NK, self.config.tokenizer)

    @property
    def vocabulary(self) -> int:
        """None: a token tells a change, and a frame is its own observation."""
        return 0

    @property
    def tokens_per_frame(self) -> int:
        """Numbers S of a frame."""
        sizes = self.config.tokenizer
        return sizes.frame_channels * sizes.resolution**2

    # ---- learning ----

    def start(self, learning: Learning, objectives: Sequence[str]) -> None:
        """See `PlayedAgent`. The target network learns nothing, it follows."""
        super().start(learning, objectives)
        self.actor_critic.target_model.requires_grad_(False)
        self.tokenizer.follow(learning.gather)

    def counts(self, objective: str, batch: Batch) -> Tensor:
        """What means are over: see `tokenizer_counts` and `world_model_counts`; rows of the actor-critic."""
        faults, mask_BT = self.config.faults, batch.real_mask()
        if objective == "tokenizer":
            return tokenizer_counts(mask_BT, faults.padded_codes)
        if objective == "world_model":
            return world_model_counts(mask_BT, self.config.tokenizer.tokens_per_frame, faults.padded_targets)
        return torch.tensor([len(mask_BT)], dtype=torch.float64)

    def loss(self, objective: str, batch: Batch, counts: Tensor, moment: Moment) -> Losses:
        """See `models.api.Agent`. Raises ValueError for segments without frames."""
        if batch.frames_BTCHW is None:
            raise ValueError("Segments without frames tell no changes: take data that keeps frames, not tokens")
        frames_BTCRR = self._interface.inward(batch.frames_BTCHW).float() / 255
        batch = replace(batch, actions_BT=self.own_actions(batch))
        if objective == "tokenizer":
            return self._tokenizer_loss(frames_BTCRR, batch, counts)
        if objective == "world_model":
            return self._world_model_loss(frames_BTCRR, batch, counts)
        return self._actor_critic_loss(frames_BTCRR, batch, counts, moment)

    def _tokenizer_loss(self, frames_BTCRR: Tensor, batch: Batch, counts: Tensor) -> Losses:
        """Changes into padding are left out altogether, unless they are to be told as in the original."""
        mask_BT = batch.real_mask()
        counted_P = changes_between(mask_BT).flatten()
        change = changes(frames_BTCRR, batch.actions_BT)
        if not self.config.faults.padded_codes:
            change, counted_P = change.of(counted_P), counted_P[counted_P]
        with self._learning.autocast():
            drawn = self.tokenizer(change)
        codes, revived = self.tokenizer.quantizer, 0
        if self.tokenizer.training and torch.is_grad_enabled():
            revived = codes.follow(drawn.told.latents_nE, drawn.told.tokens_n)
        losses = tokenizer_loss(drawn, change, counted_P, counts, self.config.weights)
        part = len(counted_P) / max(float(counts[1]), 1.0)
        told = {"codebook_entropy": codes.entropy(), "codewords_revived": float(revived)}
        shared = {name: counts.new_tensor(value * part).float() for name, value in told.items()}
        return replace(losses, terms={**losses.terms, **shared})

    def _world_model_loss(self, frames_BTCRR: Tensor, batch: Batch, counts: Tensor) -> Losses:
        faults = self.config.faults
        latents_BTK = self.latents(frames_BTCRR, batch.actions_BT)
        hidden_BT = None if faults.padding_seen else ~batch.mask_BT
        with self._learning.autocast():
            found = self.world_model(frames_BTCRR, batch.actions_BT, latents_BTK, hidden_BT)
        return world_model_loss(found, batch, latents_BTK, counts, self.config.world_model, faults.padded_targets)

    def latents(self, frames_BTCRR: Tensor, actions_BT: Tensor) -> Tensor:
        """Tokens (B, T, K) of the changes behind each frame, of the last one 0; told in eval mode and float32."""
        rows, steps = actions_BT.shape
        with evaluating(self.tokenizer):
            told_PK = self.tokenizer.tokens(changes(frames_BTCRR, actions_BT))
        return torch.nn.functional.pad(told_PK.unflatten(0, (rows, steps - 1)), (0, 0, 0, 1))

    def _actor_critic_loss(self, frames_NTCRR: Tensor, batch: Batch, counts: Tensor, moment: Moment) -> Losses:
        config, learning, steps = self.config, self._learning, batch.actions_BT.shape[1]
        if steps != config.length("actor_critic"):
            raise ValueError(
                f"Segments of {steps} steps do not fit a burn-in of {config.actor_critic.burn_in}: give one more"
            )
        mask_NT = torch.ones_like(batch.mask_BT) if config.faults.padding_seen else batch.mask_BT
        with evaluating(self.tokenizer, self.world_model), learning.autocast():
            tokens_NTS, networks = as_observations(frames_NTCRR), self.actor_critic
            self._practice.follow(tokens_NTS, batch.actions_BT[:, :-1], ~mask_NT)
            both = (networks.model, networks.target_model)
            burnt = [one.burn_in(frames_NTCRR[:, :-1].unbind(1), mask_NT[:, :-1]) for one in both]
            draw = Sampled(learning.seed, "imagination", moment)
            rollout = imagine(
                networks,
                self._practice,
                self.see,
                tokens_NTS[:, -1],
                (burnt[0], burnt[1]),
                self.imagined_steps,
                draw,
                self.legal(batch),
            )
        if config.faults.early_target and moment.step != self._followed and torch.is_grad_enabled():
            self.actor_critic.follow(config.actor_critic.target_decay)
            self._followed = moment.step
        gather = learning.gather or (lambda rows: rows)
        losses = actor_critic_loss(rollout, config.actor_critic, gather(rollout.kept).sum())
        told = share(
            Losses(losses.total.detach(), {"imagined_return": rollout.rewards_NH.sum(1).mean()}),
            len(frames_NTCRR) / float(counts[0]),
        )
        return replace(losses, terms={**losses.terms, **told.terms})

    def after_step(self, objectives: Sequence[str], step: int, target_every: int) -> None:
        """The target network follows what was learned."""
        if "actor_critic" in objectives and not self.config.faults.early_target:
            self.actor_critic.follow(self.config.actor_critic.target_decay)

    def optimiser(self, network: str, lr: float, weight_decay: float) -> tuple[type[Optimizer], list[dict[str, Any]]]:
        """AdamW, of which linear weights alone decay; Adam without decay for the actor-critic and its target.

        Parameters of a group are in the order of the original's optimiser.pt: by their names there.
        """
        if network == "actor_critic":
            return torch.optim.Adam, [{"params": list(self.actor_critic.parameters()), "lr": lr}]
        module = self.networks[network]
        names = {id(each): state_dict.their_name(name) for name, each in module.named_parameters()}
        groups = decay_groups(module, weight_decay)
        for group in groups:
            group["params"].sort(key=lambda each: names[id(each)])
        return torch.optim.AdamW, [{**group, "lr": lr} for group in groups]

    def work(self, objective: str, rows: int) -> int:
        """Tokens of blocks that are read or imagined, or of changes that are told."""
        config, per_change = self.config, self.config.tokenizer.tokens_per_frame
        if objective == "tokenizer":
            return rows * (config.tokenizer_steps - 1) * per_change
        steps = config.world_model.max_steps if objective == "world_model" else self.imagined_steps
        return rows * steps * (per_change + 2)

    # ---- seeing and acting ----

    def encode(self, frames: Tensor) -> Tensor:
        """Observations (..., S) uint8 of uint8 frames (..., C, H, W): these in the networks' size."""
        return self._interface.inward(frames).flatten(-3)

    def decode(self, observations: Tensor) -> Tensor:
        """Frames (..., C, H, W) in [0, 1] of observations (..., S), of the size that it is shown."""
        return self._interface.outward(self.see(observations))

    @torch.no_grad()
    def retell(self, before: Tensor, actions_P: Tensor, after: Tensor) -> tuple[Tensor, Tensor, int]:
        """See `models.worlds.TellsChanges`."""
        frames = (self._interface.inward(each).float() / 255 for each in (before, after))
        first, second = frames
        change = Change(first, self._interface.own(actions_P), second)
        tokens_PK = self.tokenizer.tokens(change)
        drawn = self.tokenizer.next_frames(first, change.actions_N, tokens_PK)
        return tokens_PK, self._interface.outward(as_shown(drawn)), self.config.tokenizer.vocab_size

    def noise(self, steps: int = 2) -> tuple[Tensor, Tensor]:
        """Frames (2, steps, C, R, R) in [0, 1] and actions (2, steps), always the same."""
        sizes, draw = self.config.tokenizer, torch.Generator().manual_seed(0)
        device = next(self.tokenizer.parameters()).device
        shape = (2, min(steps, self.config.world_model.max_steps), sizes.frame_channels, sizes.resolution)
        frames = torch.rand((*shape, sizes.resolution), generator=draw)
        return as_shown(frames).to(device), torch.zeros(shape[:2], dtype=torch.long, device=device)

    @torch.no_grad()
    def probe(self) -> dict[str, tuple[Tensor, ...]]:
        """Latents and a picture of a change in noise, outputs of two steps, and what the actor says of noise."""
        frames, actions = self.noise()
        change = Change(frames[:, 0], actions[:, 0], frames[:, -1])
        tokens_NK = torch.zeros(2, self.config.tokenizer.tokens_per_frame, dtype=torch.long, device=actions.device)
        found = self.world_model(frames, actions, tokens_NK[:, None].expand(-1, actions.shape[1], -1))
        model = self.actor_critic.model
        judged = model(frames[:, 0], model.fresh(2))
        return {
            "tokenizer": (
                self.tokenizer.encode(change),
                self.tokenizer.draw(*change[:2], self.tokenizer.quantizer.codebook[tokens_NK.flatten()]),
            ),
            "world_model": (found.hidden_BLD,),
            "actor_critic": (judged.logits_NA, judged.values_N),
        }


def changes(frames_BTCRR: Tensor, actions_BT: Tensor) -> Change:
    """Those between the steps of segments, row by row."""
    return Change(frames_BTCRR[:, :-1].flatten(0, 1), actions_BT[:, :-1].flatten(), frames_BTCRR[:, 1:].flatten(0, 1))
