"""IRIS as a `models.api.Agent`: see `PracticeAgent`; its actor sees decoded frames.

Its world model is a transformer or a neural circuit; with `oracle` the actor-critic practises in the game itself.
Source: arXiv 2209.00588.
"""

from collections.abc import Sequence
from typing import Any, ClassVar

import torch
from torch import Tensor
from torch.optim import Optimizer

from models.api import Batch, Learning, Losses, Moment
from models.blocks.layers import decay_groups
from models.blocks.transformer import Transformer
from models.iris.config import IrisConfig
from models.iris.emulator import EmulatorPlayer
from models.iris.family import IRIS
from models.iris.gpt2 import freeze, gpt2_blocks
from models.iris.loss import world_model_counts, world_model_loss
from models.iris.state_dict import NAMES
from models.iris.world import new_world_model, player_of
from models.iris.world_model import WorldModel
from models.practice.actor_critic import ActorCritic
from models.practice.agent import PracticeAgent
from models.practice.played import OTHER_HEADS
from models.practice.world import CuriousPlayer, Player
from models.tokenizers.vq import Tokenizer


class IrisAgent(PracticeAgent):
    """All three networks. `seed` fixes their first weights."""

    family: ClassVar = IRIS
    original: ClassVar = NAMES
    beyond_original: ClassVar = OTHER_HEADS
    changeable: ClassVar = {
        "weights": ("l1", "mse", "lpips", "commitment", "encoder"),
        "actor_critic": ("horizon", "burn_in", "gamma", "lambda_", "value", "entropy", "real_reward", "curiosity"),
    }
    config: IrisConfig

    def __init__(self, config: IrisConfig, seed: int = 0) -> None:
        self.world_model = new_world_model(config.world_model, seed=seed)
        self.actor_critic = ActorCritic(config.actor_critic, seed=seed)
        super().__init__(config, Tokenizer(config.tokenizer, seed=seed), self.world_model, self.actor_critic)

    def player(self) -> CuriousPlayer:
        """See `player_of`."""
        return player_of(self.world_model)

    def see(self, tokens_NK: Tensor) -> Tensor:
        """Decoded frames (N, C, R, R) in [0, 1]."""
        return self.tokenizer.decode_tokens(tokens_NK)

    # ---- learning ----

    def start(self, learning: Learning, objectives: Sequence[str]) -> None:
        """See `PracticeAgent`."""
        super().start(learning, objectives)
        if isinstance(self.world_model, WorldModel):
            self._start_transformer(self.world_model.transformer, learning)
        if self.config.oracle and "actor_critic" in objectives and learning.emulators is None:
            raise ValueError(
                "oracle practises in the game, and none is played here: set learn.collect.steps, or oracle=false"
            )
        self._emulators: dict[int, EmulatorPlayer] = {}

    def _start_transformer(self, transformer: Transformer, learning: Learning) -> None:
        """Freeze what the config says; blocks that have learned nothing yet get GPT-2's weights where it names them."""
        config = self.config.world_model
        if config.frozen:
            freeze(transformer, config.learning_blocks)
        if "gpt2" in learning.outside and learning.fresh:
            blocks = gpt2_blocks(learning.outside["gpt2"], config.layers, config.width)
            transformer.load_state_dict({**transformer.state_dict(), **blocks.weights})

    def world_counts(self, batch: Batch) -> Tensor:
        """See `world_model_counts`."""
        return world_model_counts(batch, self.config.world_model)

    def world_loss(self, batch: Batch, counts: Tensor, moment: Moment) -> Losses:
        """See `world_model_loss`."""
        with self._learning.autocast():
            outputs = self.world_model(batch.tokens_BTK, batch.actions_BT)
        return world_model_loss(outputs, batch, counts, **self.outcome_terms(moment))

    def beginning(self, batch: Batch, moment: Moment) -> tuple[Player, Tensor, Tensor]:
        """See `PracticeAgent`."""
        if not self.config.oracle:
            return super().beginning(batch, moment)
        games = self._emulator(moment, len(batch.mask_BT))
        tokens_NTK, mask_NT = games.recent(self.config.actor_critic.burn_in + 1)
        games.reset(tokens_NTK[:, -1])
        return games, tokens_NTK, mask_NT

    def _emulator(self, moment: Moment, rows: int) -> EmulatorPlayer:
        """The games of these rows of a batch, which go on from step to step."""
        assert self._learning.emulators is not None, "`start` asks for them"
        if moment.first not in self._emulators:
            games = self._learning.emulators(moment.first, rows)
            device = self.actor_critic.actor_linear.weight.device
            self._emulators[moment.first] = EmulatorPlayer(games, self.encode, self._interface.theirs, device)
        return self._emulators[moment.first]

    def optimiser(self, network: str, lr: float, weight_decay: float) -> tuple[type[Optimizer], list[dict[str, Any]]]:
        """AdamW for a transformer, which decays linear weights alone; Adam without decay for the others."""
        if network != "world_model" or self.config.world_model.kind != "transformer":
            return torch.optim.Adam, [{"params": list(self.networks[network].parameters()), "lr": lr}]
        return torch.optim.AdamW, [{**group, "lr": lr} for group in decay_groups(self.world_model, weight_decay)]

    def probe(self) -> dict[str, tuple[Tensor, ...]]:
        """Latents and pictures of noise, logits of two steps, and what the actor says of noise."""
        frames, tokens_NTK = self.noise()
        outputs = self.world_model(tokens_NTK, torch.zeros_like(tokens_NTK[..., 0]))
        judged = self.actor_critic(frames, self.actor_critic.fresh(2))
        return {
            "tokenizer": (self.tokenizer.encode(frames).z, self.tokenizer.decode_tokens(tokens_NTK[:, 0])),
            "world_model": (outputs.hidden_BLD,),
            "actor_critic": (judged.logits_NA, judged.values_N),
        }
