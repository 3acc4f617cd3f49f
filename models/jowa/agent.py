"""JOWA as a `models.api.Agent`: a tokenizer, and one transformer that is world model and Q-function.

Objectives: "tokenizer" on single frames; "world" and "world_action" on segments, of stored tokens or of frames that the
tokenizer encodes as it is at the time. Source: arXiv 2410.00564.
"""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor, nn
from torch.optim import Optimizer

from models.api import Acting, Batch, Learning, Limits, Losses, Moment, WorldModel
from models.blocks.weights import released_weights
from models.jowa.config import JowaAgentConfig
from models.jowa.dream import JowaDream
from models.jowa.family import JOWA
from models.jowa.graphs import graphs
from models.jowa.loss import LossCounts, world_action_loss, world_loss
from models.jowa.model import TARGETS, Jowa, parameter_groups
from models.jowa.policy import JowaPolicy
from models.jowa.state_dict import load_released, original_state_dict, other_sizes
from models.jowa.world import JowaWorld
from models.losses.frames import Lpips
from models.losses.segments import mixture_weights
from models.spaces import Spaces
from models.tokenizers.vq import Tokenizer, TokenizerObjective
from models.worlds import Graph


class JowaAgent:
    """Both networks. `seed` fixes their first weights."""

    spaces: Spaces | None

    def __init__(self, config: JowaAgentConfig, seed: int = 0) -> None:
        self.config, self.spaces = config, None
        self.tokenizer = Tokenizer(config.tokenizer, seed=seed)
        self.model = Jowa(config.model, seed=seed)
        self.networks: dict[str, nn.Module] = {"tokenizer": self.tokenizer, "model": self.model}

    @property
    def limits(self) -> Limits:
        """Games that have a task embedding, and steps that have positions."""
        return Limits(self.model.config.num_games, self.model.config.max_steps)

    @property
    def gamma(self) -> float:
        """The discount of its values."""
        return self.model.config.gamma

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
        """world_weight and penalty are the transformer's, all other fields the agent's own. ValueError for others."""
        ours = {name: value for name, value in changes.items() if hasattr(self.config, name)}
        theirs = {name: value for name, value in changes.items() if name not in ours}
        if unknown := sorted(name for name in theirs if not hasattr(self.model.config, name)):
            raise ValueError(f"A JOWA has no setting '{unknown[0]}' that could change while it learns on")
        self.model.config = replace(self.model.config, **theirs)
        self.config = replace(self.config, model=self.model.config, **ours)

    def start(self, learning: Learning, objectives: Sequence[str]) -> None:
        """See `models.api.Agent`. Target heads never learn by gradient."""
        self._learning = learning
        trains = JOWA.trains(tuple(objectives))
        self.tokenizer.requires_grad_("tokenizer" in trains)
        for name, parameter in self.model.named_parameters():
            parameter.requires_grad_("model" in trains and not name.startswith(TARGETS))
        self.tokenizer.follow(learning.gather)
        if "tokenizer" in objectives:
            self._objective = self._tokenizer_objective(learning)

    def _tokenizer_objective(self, learning: Learning) -> TokenizerObjective:
        config = self.config
        perceptual = None
        if "lpips" in learning.outside:
            perceptual = Lpips(dict(learning.outside["lpips"])).to(next(self.tokenizer.parameters()).device)
        return TokenizerObjective(
            config.commitment,
            config.motion_gain,
            config.random_shift,
            learning.seed,
            learning.mean_frames() if config.motion_gain else None,
            perceptual,
            config.lpips_weight,
        )

    def prepare(self, objective: str, batch: Any, moment: Moment) -> Any:
        """The tokenizer's frames are shifted at random; segments stay as they are."""
        return self._objective.prepare(batch, moment) if objective == "tokenizer" else batch

    def counts(self, objective: str, batch: Any) -> Tensor:
        """See `TokenizerObjective.counts` and `LossCounts`."""
        if objective == "tokenizer":
            return self._objective.counts(batch)
        return LossCounts.of(batch, self.model.config.tokens_per_frame).as_tensor()

    def loss(self, objective: str, batch: Any, counts: Tensor, moment: Moment) -> Losses:
        """See `TokenizerObjective.loss`, `world_loss` and `world_action_loss`."""
        learning = self._learning
        if objective == "tokenizer":
            return self._objective.loss(self.tokenizer, batch, counts, learning.autocast)
        with learning.autocast():
            batch = self._with_tokens(batch)
            if objective == "world":
                return world_loss(self.model, batch, LossCounts.from_tensor(counts))
            weights_Q = self._mixture_weights(moment.step) if self.model.config.random_mixture else None
            sums = LossCounts.from_tensor(counts)
            return world_action_loss(self.model, batch, learning.legal_GA, weights_Q, sums, moment.step)

    def _with_tokens(self, batch: Batch) -> Batch:
        """Frames are encoded by the tokenizer as it is now, so that both may learn together."""
        if batch.frames_BTCHW is None:
            return batch
        return replace(batch, tokens_BTK=self.tokenizer.encode_tokens(batch.frames_BTCHW))

    def _mixture_weights(self, step: int) -> Tensor:
        """This step's random mixture of the Q heads: it depends on the seed and the step alone."""
        generator = torch.Generator().manual_seed(self._learning.seed * 1_000_003 + step)
        return mixture_weights(self.model.config.num_q, generator).to(self._learning.legal_GA.device)

    def optimiser(self, network: str, lr: float, weight_decay: float) -> tuple[type[Optimizer], list[dict[str, Any]]]:
        """Adam for the tokenizer; AdamW for the transformer, which decays linear weights and the Q head alone."""
        if network == "tokenizer":
            return torch.optim.Adam, [{"params": list(self.tokenizer.parameters()), "lr": lr}]
        return torch.optim.AdamW, [{**group, "lr": lr} for group in parameter_groups(self.model, weight_decay)]

    def after_step(self, objectives: Sequence[str], step: int, target_every: int) -> None:
        """Copy the heads of values into their target heads every `target_every` steps."""
        if "world_action" in objectives and (step + 1) % target_every == 0:
            self.model.update_target()

    def work(self, objective: str, rows: int) -> int:
        """Tokens of the tokenizer's frames, or of the transformer's sequences with their actions."""
        sizes = self.model.config
        return rows * (sizes.tokens_per_frame if objective == "tokenizer" else sizes.max_tokens)

    # ---- the original's files ----

    def load_original(self, network: str, state_dict: Mapping[str, Tensor]) -> None:
        """See `state_dict.load_released`; the error says which size the weights look like, if they are of another."""
        try:
            load_released(self.networks[network], state_dict)
        except ValueError as error:
            if found := other_sizes(self.networks[network], state_dict):
                raise ValueError(f"holds {found}: choose the --size it was trained with") from error
            raise ValueError(f"does not fit: {error}") from error

    def original_weights(self, network: str, state_dict: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Without wrappers' prefixes, buffers and LPIPS."""
        return released_weights(state_dict)

    def original_state_dict(self, network: str) -> dict[str, Tensor]:
        """See `state_dict.original_state_dict`."""
        return original_state_dict(self.networks[network])

    # ---- seeing and acting ----

    def probe(self) -> dict[str, tuple[Tensor, ...]]:
        """Latents and pictures of noise; hidden states of one step. Draws from no one's random numbers."""
        sizes, model = self.config.tokenizer, self.model.config
        device = next(self.tokenizer.parameters()).device
        draw = torch.Generator().manual_seed(0)
        shape = (2, sizes.frame_channels, sizes.resolution, sizes.resolution)
        frames, codes_BK = torch.rand(shape, generator=draw), torch.zeros(1, self.tokens_per_frame, dtype=torch.long)
        tokens_BL = torch.randint(
            0, min(model.vocab_size, model.num_actions), (2, model.tokens_per_step), generator=draw
        )
        outputs = self.model(tokens_BL.to(device), torch.zeros(2, dtype=torch.long, device=device))
        return {
            "tokenizer": (
                self.tokenizer.encode(frames.to(device)).z,
                self.tokenizer.decode_tokens(codes_BK.to(device)),
            ),
            "model": (outputs.hidden_BLD,),
        }

    def encode(self, frames: Tensor) -> Tensor:
        """Tokens (..., K) int64 of uint8 frames (..., C, H, W)."""
        return self.tokenizer.encode_tokens(frames)

    def decode(self, observations: Tensor) -> Tensor:
        """Frames (..., C, H, W) in [0, 1] of tokens (..., K)."""
        return self.tokenizer.decode_tokens(observations)

    def world(self) -> WorldModel:
        """The transformer imagines."""
        return JowaWorld(self.model)

    def dream(self, seed: int = 0, sample: bool | None = None) -> JowaDream:
        """Its practice imagines what is likeliest."""
        device = next(self.model.parameters()).device
        return JowaDream(self.model, torch.Generator(device).manual_seed(seed) if sample else None)

    def graphs(self, game: int) -> dict[str, Graph]:
        """See `models.worlds.Portable`."""
        return graphs(self.model, self.tokenizer, game)

    @property
    def window(self) -> int:
        """All that have positions."""
        return self.model.config.max_steps

    def policy(self, acting: Acting) -> JowaPolicy:
        """See `JowaPolicy`."""
        return JowaPolicy(
            self.model,
            self.tokenizer,
            acting.games_N,
            acting.legal_NA,
            context=acting.context,
            epsilon=acting.epsilon,
            planner=acting.planner,
            sample=acting.sample,
            compiled=acting.compiled,
        )
