"""JOWA's network: a causal transformer over frame and action tokens with heads for the world and for Q.

Shapes: B rows, L tokens, D width, T steps, K tokens a frame, Q ensemble members, A actions, Z atoms (1 for a scalar
critic), V vocabulary, G games. A step is K observation tokens, then one action token; sequences begin with an
observation. Parameters are named as in the released checkpoints (`state_dict.py`). Source: arXiv 2410.00564, section 3.
"""

from collections.abc import Collection
from dataclasses import dataclass
from typing import Any, Literal

import torch
from torch import Tensor, nn

from models.blocks.layers import EnsembleMLP, HeadModule, Tables, decay_groups, mlp_head
from models.blocks.transformer import KVCache, Transformer
from models.jowa.config import JowaConfig

Head = Literal["observations", "rewards", "ends", "q", "q_target", "v", "v_target"]
WORLD_HEADS: tuple[Head, ...] = ("observations", "rewards", "ends")
ALL_HEADS: tuple[Head, ...] = (*WORLD_HEADS, "q", "q_target")
TARGETS = ("head_q_target.", "head_v_target.")  # names of parameters that follow others
STATE_HEADS: tuple[Head, ...] = ("v", "v_target")  # of a model that learns a value of states


@dataclass(frozen=True)
class Outputs:
    """What the heads that were asked for say, each only where it has something to say.

    observations (B, L - T, V) at tokens whose next token is an observation's; rewards (B, T, 3) for -1, 0, 1 and
    ends (B, T, 2) at action tokens; q and q_target (Q, B, T, A, Z), v and v_target (Q, B, T, Z) at the last observation
    token of a step.
    """

    hidden_BLD: Tensor
    logits: dict[Head, Tensor]


def q_head(config: JowaConfig) -> HeadModule:
    sizes = (config.width, config.q_hidden, config.q_hidden, config.num_actions * config.outputs_per_action)
    return HeadModule(EnsembleMLP(config.num_q, sizes, config.q_dropout))


def v_head(config: JowaConfig) -> HeadModule:
    """As the Q head, of one value a state."""
    sizes = (config.width, config.q_hidden, config.q_hidden, config.outputs_per_action)
    return HeadModule(EnsembleMLP(config.num_q, sizes, config.q_dropout))


def parameter_groups(model: nn.Module, weight_decay: float) -> list[dict[str, Any]]:
    """AdamW's groups: weights of linear layers and everything in the heads of values decay (JOWA, appendix)."""
    return decay_groups(model, weight_decay, also=("head_q.", "head_v."))


class Jowa(nn.Module):
    """World model and Q-function in one. `seed` fixes the first weights: normal(0, 0.02), biases 0."""

    def __init__(self, config: JowaConfig, seed: int = 0) -> None:
        super().__init__()
        self.config = config
        self.pos_emb = nn.Embedding(config.max_tokens, config.width)
        self.embedder = Tables((config.num_actions, config.vocab_size), config.width)
        self.task_emb = Tables((config.num_games, config.num_games), config.width) if config.task_embedding else None
        self.transformer = Transformer(config.layers, config.heads, config.width, config.dropout)
        self.head_observations = mlp_head(config.width, config.vocab_size)
        self.head_rewards = mlp_head(config.width, 3)
        self.head_ends = mlp_head(config.width, 2)
        self.head_q = q_head(config)
        self.head_q_target = q_head(config).requires_grad_(False).eval()
        if config.state_value:
            self.head_v = v_head(config)
            self.head_v_target = v_head(config).requires_grad_(False).eval()
        # A game's row in the task embedding: its own, unless it borrows another's.
        rows_G = torch.arange(config.num_games)
        for game, lender in config.task_ids:
            rows_G[game] = lender
        self.task_rows_G: Tensor
        self.register_buffer("task_rows_G", rows_G, persistent=False)
        self._initialise(torch.Generator().manual_seed(seed))

    def _initialise(self, generator: torch.Generator) -> None:
        for module in self.modules():
            if isinstance(module, (nn.Linear, nn.Embedding)):
                nn.init.normal_(module.weight, std=0.02, generator=generator)
            if isinstance(module, nn.Linear):
                nn.init.zeros_(module.bias)
            if isinstance(module, EnsembleMLP):
                for weight in module.weights():
                    nn.init.normal_(weight, std=0.02, generator=generator)
        self._initialise_embeddings(generator)
        self.update_target()

    def _initialise_embeddings(self, generator: torch.Generator) -> None:
        """Token and position embeddings, which small models that train briefly start from larger or with structure.

        With factored positions the same cell of two frames looks alike from the first step on, so "copy this cell from
        the last frame" need not be learned for every pair of positions. A remedy of this project, not of the original.
        Observation loss on the demo's tokens after 300 steps: plain 2.50 (deviation 0.02) and 2.30 (0.1), factored 2.47
        and 1.64: it takes both.
        """
        config = self.config
        observations = self.embedder.get_parameter("embedding_tables.1.weight")
        nn.init.normal_(observations, std=config.embedding_std, generator=generator)
        nn.init.normal_(self.pos_emb.weight, std=config.embedding_std, generator=generator)
        if config.factored_positions:
            steps_TD = torch.randn(config.max_steps, config.width, generator=generator)
            places_KD = torch.randn(config.tokens_per_step, config.width, generator=generator)
            factored_LD = (steps_TD[:, None] + places_KD).flatten(0, 1) * config.embedding_std
            self.pos_emb.weight.data.copy_(factored_LD)

    def update_target(self) -> None:
        """Copy the Q head into the target head (the hard update of DQN), and that of states into its own."""
        self.head_q_target.load_state_dict(self.head_q.state_dict())
        if self.config.state_value:
            self.head_v_target.load_state_dict(self.head_v.state_dict())

    def train(self, mode: bool = True) -> "Jowa":
        """As usual, but the target heads always stay in eval mode."""
        super().train(mode)
        self.head_q_target.eval()
        if self.config.state_value:
            self.head_v_target.eval()
        return self

    def empty_cache(self, rows: int) -> KVCache:
        """A cache for `rows` sequences of the longest length that has positions."""
        return self.transformer.empty_cache(rows, self.config.max_tokens)

    def forward(
        self, tokens_BL: Tensor, games_B: Tensor, cache: KVCache | None = None, heads: Collection[Head] = ALL_HEADS
    ) -> Outputs:
        """Read tokens (long), after those in `cache` if there is one, and evaluate `heads`.

        Action tokens are ids of the 18-action set at every (K + 1)-th position, all others are codes of the tokenizer.
        Raises ValueError for another shape or type, or where the sequence has more steps than the model.
        """
        start = cache.length if cache is not None else 0
        self._check(tokens_BL, games_B, start)
        per_step, length = self.config.tokens_per_step, tokens_BL.shape[1]
        hidden_BLD = self.transformer(self.embed(tokens_BL, games_B, start), cache)
        at_action = hidden_BLD[:, (per_step - 1 - start) % per_step :: per_step]  # (B, T, D)
        at_frame_end = hidden_BLD[:, (per_step - 2 - start) % per_step :: per_step]  # (B, T, D)
        logits: dict[Head, Tensor] = {}
        if "observations" in heads:
            before_observation = [i for i in range(length) if (start + i) % per_step != per_step - 2]
            index = torch.tensor(before_observation, dtype=torch.long, device=hidden_BLD.device)
            logits["observations"] = self.head_observations(hidden_BLD.index_select(1, index))
        if "rewards" in heads:
            logits["rewards"] = self.head_rewards(at_action)
        if "ends" in heads:
            logits["ends"] = self.head_ends(at_action)
        if "q" in heads:
            visible = at_frame_end if self.config.q_trains_trunk else at_frame_end.detach()
            logits["q"] = self._by_action(self.head_q(visible))
        if "q_target" in heads:
            with torch.no_grad():
                logits["q_target"] = self._by_action(self.head_q_target(at_frame_end))
        if "v" in heads:
            visible = at_frame_end if self.config.q_trains_trunk else at_frame_end.detach()
            logits["v"] = self.head_v(visible)
        if "v_target" in heads:
            with torch.no_grad():
                logits["v_target"] = self.head_v_target(at_frame_end)
        return Outputs(hidden_BLD, logits)

    def _by_action(self, logits: Tensor) -> Tensor:  # (Q, B, T, A * Z) -> (Q, B, T, A, Z)
        return logits.unflatten(-1, (self.config.num_actions, self.config.outputs_per_action))

    def embed(self, tokens_BL: Tensor, games_B: Tensor, start: int = 0) -> Tensor:
        """What the transformer reads, (B, L, D), for tokens that follow `start` others."""
        per_step, length = self.config.tokens_per_step, tokens_BL.shape[1]
        actions, observations = self.embedder.embedding_tables
        action_slice = slice((per_step - 1 - start) % per_step, None, per_step)
        codes_BL = tokens_BL.clone()
        codes_BL[:, action_slice] = 0  # any valid code: overwritten below
        x = observations(codes_BL)
        x_action = actions(tokens_BL[:, action_slice])
        if self.task_emb is not None:
            task_action, task_observation = self.task_emb.embedding_tables
            rows_B = self.task_rows_G[games_B]
            x = x + task_observation(rows_B)[:, None]
            x_action = x_action + task_action(rows_B)[:, None]
        x = x.slice_scatter(x_action.to(x.dtype), 1, action_slice.start, length, per_step)
        return x + self.pos_emb.weight[start : start + length]

    def _check(self, tokens_BL: Tensor, games_B: Tensor, start: int) -> None:
        if tokens_BL.ndim != 2 or tokens_BL.dtype != torch.long or games_B.shape != tokens_BL.shape[:1]:
            raise ValueError(
                f"Tokens {tuple(tokens_BL.shape)} of {tokens_BL.dtype} for games {tuple(games_B.shape)}: "
                "give long tokens (rows, length) and one game a row"
            )
        end = start + tokens_BL.shape[1]
        if end > self.config.max_tokens or end == start:
            raise ValueError(
                f"Tokens {start} to {end} do not fit a model of {self.config.max_steps} steps "
                f"({self.config.max_tokens} tokens): give at least 1 token, or fewer steps"
            )
