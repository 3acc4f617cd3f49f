"""JOWA as a `models.api.WorldModel`: a tree of imagined steps for each of N environments at once.

A step costs K + 1 passes of one token for every new node, all in one batch; the observation head is evaluated for the
newest token, rewards and ends at the action, Q at the last token of a frame.

Shapes: N environments, C steps of context, R new nodes of an environment, M = N * R, K tokens a frame, A actions,
D width, V nodes so far.
"""

import torch
from torch import Tensor

from models.api import Context, Imagined
from models.blocks.transformer import KVCache
from models.cpu.shortcuts import PackedModule
from models.jowa.loss import expected_values
from models.jowa.model import Jowa


def context_tokens(context: Context, tokens_per_frame: int) -> Tensor:
    """(N, C * (K + 1) - 1): frames with the actions between, ending at the newest observation.

    Raises ValueError where frames have another number of tokens.
    """
    rows, _, per_frame = context.tokens_NCK.shape
    if per_frame != tokens_per_frame:
        raise ValueError(f"Context has {per_frame} tokens a frame: this model reads {tokens_per_frame}")
    actions_NC1 = torch.cat([context.actions_NC, context.actions_NC.new_zeros(rows, 1)], dim=1)[..., None]
    return torch.cat([context.tokens_NCK, actions_NC1], dim=2).flatten(1)[:, :-1]


@torch.no_grad()
def context_values(model: Jowa, context: Context, cache: KVCache | None = None) -> Tensor:
    """Expected value (N, A) float32 of every action at the newest observation; fills `cache` if one is given.

    Raises ValueError where the context has more steps than the model.
    """
    steps, config = context.tokens_NCK.shape[1], model.config
    if steps > config.max_steps:
        raise ValueError(f"Context of {steps} steps does not fit a model of {config.max_steps} steps")
    tokens_NL = context_tokens(context, config.tokens_per_frame)
    newest_N1D = model.transformer(model.embed(tokens_NL, context.games_N), cache, newest=True)
    return _values(model, newest_N1D)[:, 0]


def _values(model: Jowa, hidden_NRD: Tensor) -> Tensor:  # (N, R, A)
    logits_QNRAZ = model.head_q(hidden_NRD).unflatten(-1, (model.config.num_actions, -1))
    return expected_values(logits_QNRAZ, model.config)


def _states(model: Jowa, hidden_NRD: Tensor) -> Tensor | None:  # (M,)
    """What each state itself is worth, where the model learned that."""
    return expected_values(model.head_v(hidden_NRD), model.config).flatten() if model.config.state_value else None


class JowaWorld:
    """Imagines the most likely rewards, ends and tokens, or samples them from `sampler`'s stream where one is given.

    The model should be in eval mode. Its weights are read as they are at a `reset`, and in autocast's type.
    """

    def __init__(self, model: Jowa, sampler: torch.Generator | None = None) -> None:
        self.model, self.sampler = model, sampler
        self._packed = PackedModule(model)
        self._player = model  # what is called: the model itself or, on a CPU, its packed copy
        self._cache: KVCache | None = None

    @torch.no_grad()
    def reset(self, context: Context) -> Imagined:
        """Read N contexts of C steps. C plus the steps to imagine must not exceed the model's steps (ValueError)."""
        rows, device = context.tokens_NCK.shape[0], context.games_N.device
        self._player = self._packed.current()
        if self._cache is None or not self._cache.serves(rows, *self.model.transformer.cache_type()):
            self._cache = self.model.empty_cache(rows)
        self._cache.clear()
        values_NA = context_values(self._player, context, self._cache)
        self._games_N = context.games_N
        self._newest_NR = self._depths_NV = torch.zeros(rows, 1, dtype=torch.long, device=device)
        none_N = torch.zeros(rows, device=device)
        return Imagined(values_NA, none_N, none_N.bool(), context.tokens_NCK[:, -1])

    @torch.no_grad()
    def step(self, actions_M: Tensor, parents_M: Tensor | None = None) -> Imagined:
        """Imagine an observation after each of `actions_M`, token by token. See `models.api.WorldModel`.

        Raises ValueError before any reset, beyond the model's steps, for rows that do not divide among environments,
        and for parents that do not exist.
        """
        if self._cache is None:
            raise ValueError("This world has no rows yet: call reset(context) first")
        model, cache, config = self._player, self._cache, self.model.config
        actions_NR, parents_NR = self._by_environment(actions_M, parents_M)
        depths_NR = self._depths_NV.gather(1, parents_NR) + 1
        places_NRSD = self._places(depths_NR)  # S = K + 1
        nodes = self._depths_NV.shape[1]
        cache.branch(parents_NR, config.tokens_per_step)
        action_table, token_table = model.embedder.embedding_tables
        hidden_NRD = self._read(action_table(actions_NR) + places_NRSD[:, :, 0], cache)
        rewards_NR = self._choose(model.head_rewards(hidden_NRD)).float() - 1
        ends_NR = self._choose(model.head_ends(hidden_NRD)).bool()
        tokens = []
        for place in range(1, config.tokens_per_step):
            tokens.append(self._choose(model.head_observations(hidden_NRD)))
            hidden_NRD = self._read(token_table(tokens[-1]) + places_NRSD[:, :, place], cache)
        values_NRA = _values(model, hidden_NRD)
        self._depths_NV = torch.cat([self._depths_NV, depths_NR], dim=1)
        self._newest_NR = torch.arange(nodes, nodes + actions_NR.shape[1], device=actions_M.device).expand_as(
            actions_NR
        )
        return Imagined(
            values_NRA.flatten(0, 1),
            rewards_NR.flatten(),
            ends_NR.flatten(),
            torch.stack(tokens, dim=2).flatten(0, 1),
            _states(model, hidden_NRD),
        )

    def _read(self, x_NRD: Tensor, cache: KVCache) -> Tensor:
        """The next token of every growing span, (N, R, D) -> (N, R, D)."""
        return self._player.transformer(x_NRD, cache)

    def _by_environment(self, actions_M: Tensor, parents_M: Tensor | None) -> tuple[Tensor, Tensor]:
        """Actions and parents (N, R)."""
        rows, nodes = self._depths_NV.shape
        if actions_M.ndim != 1 or len(actions_M) % rows or not len(actions_M):
            raise ValueError(f"{tuple(actions_M.shape)} actions do not divide among {rows} environments")
        actions_NR = actions_M.unflatten(0, (rows, -1))
        parents_NR = self._newest_NR if parents_M is None else parents_M.reshape(rows, -1)
        if parents_NR.shape != actions_NR.shape or not bool(((parents_NR >= 0) & (parents_NR < nodes)).all()):
            raise ValueError(
                f"{tuple(actions_NR.shape)} actions and {tuple(parents_NR.shape)} parents: "
                f"give one parent an action, in 0..{nodes - 1}"
            )
        return actions_NR, parents_NR

    def _places(self, depths_NR: Tensor) -> Tensor:
        """Position and task embeddings (N, R, K + 1, D) of the new nodes' tokens, the action's first."""
        model, per_step = self.model, self.model.config.tokens_per_step
        assert self._cache is not None
        trunk = self._cache.length if self._cache.trunk is None else self._cache.trunk
        first_NR = trunk + (depths_NR - 1) * per_step
        last = int(first_NR.max()) + per_step
        if last > model.config.max_tokens:
            raise ValueError(
                f"{last} tokens do not fit a model of {model.config.max_steps} steps: "
                "give a shorter context or imagine fewer steps"
            )
        places_NRSD = model.pos_emb(first_NR[..., None] + torch.arange(per_step, device=first_NR.device))
        if model.task_emb is not None:
            rows_N = model.task_rows_G[self._games_N]
            action_table, token_table = (table(rows_N)[:, None] for table in model.task_emb.embedding_tables)
            places_NRSD[:, :, 0] += action_table
            places_NRSD[:, :, 1:] += token_table[:, None]
        return places_NRSD

    def _choose(self, logits: Tensor) -> Tensor:
        """The most likely class, or a sampled one: (..., classes) -> (...)."""
        if self.sampler is None:
            return logits.argmax(-1)
        probabilities = logits.float().softmax(-1).flatten(0, -2)
        return torch.multinomial(probabilities, 1, generator=self.sampler).view(logits.shape[:-1])
