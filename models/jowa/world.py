"""JOWA as a `models.api.WorldModel`: a tree of imagined steps for each of N environments at once.

A step costs K + 1 passes of one token for every new node, all in one batch; the observation head is evaluated for the
newest token, rewards and ends at the action, Q at the last token of a frame.

Shapes: N environments, C steps of context, R new nodes of an environment, M = N * R, K tokens a frame, A actions,
D width, V nodes so far.
"""

from collections.abc import Sequence
from typing import cast

import torch
from torch import Tensor

from models.api import Context, Imagined
from models.blocks.drafts import Drafts, Pace, copies_right, fixed_cost
from models.blocks.transformer import KVCache
from models.blocks.verify import Network, verify
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
    return _values(model, _newest(model, context, cache))[:, 0]


def _newest(model: Jowa, context: Context, cache: KVCache | None) -> Tensor:  # (N, 1, D)
    """What the transformer says at the newest observation."""
    steps, config = context.tokens_NCK.shape[1], model.config
    if steps > config.max_steps:
        raise ValueError(f"Context of {steps} steps does not fit a model of {config.max_steps} steps")
    tokens_NL = context_tokens(context, config.tokens_per_frame)
    return model.transformer(model.embed(tokens_NL, context.games_N), cache, newest=True)


def _values(model: Jowa, hidden_NRD: Tensor) -> Tensor:  # (N, R, A)
    logits_QNRAZ = model.head_q(hidden_NRD).unflatten(-1, (model.config.num_actions, -1))
    return expected_values(logits_QNRAZ, model.config)


def _states(model: Jowa, hidden_NRD: Tensor) -> Tensor | None:  # (M,)
    """What each state itself is worth, where the model learned that."""
    return expected_values(model.head_v(hidden_NRD), model.config).flatten() if model.config.state_value else None


class JowaWorld:
    """Imagines the most likely rewards, ends and tokens, or samples them from `sampler`'s stream where one is given.

    The model should be in eval mode. Its weights are read as they are at a `reset`, and in autocast's type. Without
    `drafts` every token is a pass of its own; what is imagined is the same. `passes`: runs of the network that the
    newest step took.
    """

    def __init__(self, model: Jowa, sampler: torch.Generator | None = None, drafts: bool = True) -> None:
        self.model, self.sampler, self.passes = model, sampler, 0
        self._packed = PackedModule(model)
        self._player = model  # what is called: the model itself or, on a CPU, its packed copy
        self._cache: KVCache | None = None
        self._drafts = drafts

    @torch.no_grad()
    def reset(self, context: Context) -> Imagined:
        """Read N contexts of C steps. C plus the steps to imagine must not exceed the model's steps (ValueError)."""
        rows, device = context.tokens_NCK.shape[0], context.games_N.device
        self._player = self._packed.current()
        if self._cache is None or not self._cache.serves(rows, *self.model.transformer.cache_type()):
            self._cache = self.model.empty_cache(rows)
        self._cache.clear()
        newest_N1D = _newest(self._player, context, self._cache)
        self._games_N = context.games_N
        self._newest_NR = self._depths_NV = torch.zeros(rows, 1, dtype=torch.long, device=device)
        self._frames_NVK = context.tokens_NCK[:, -1:]
        self._pace = Pace(copies_right(context.tokens_NCK), fixed_cost(self.model.config.width, device.type))
        none_N = torch.zeros(rows, device=device)
        values_NA, states_N = _values(self._player, newest_N1D)[:, 0], _states(self._player, newest_N1D)
        return Imagined(values_NA, none_N, none_N.bool(), context.tokens_NCK[:, -1], states_N)

    @torch.no_grad()
    def step(self, actions_M: Tensor, parents_M: Tensor | None = None) -> Imagined:
        """Imagine an observation after each of `actions_M`. See `models.api.WorldModel`.

        Raises ValueError before any reset, beyond the model's steps, for rows that do not divide among environments,
        and for parents that do not exist.
        """
        if self._cache is None:
            raise ValueError("This world has no rows yet: call reset(context) first")
        model, config = self._player, self._player.config
        actions_NR, parents_NR = self._by_environment(actions_M, parents_M)
        depths_NR = self._depths_NV.gather(1, parents_NR) + 1
        places_NRSD = self._places(depths_NR)  # S = K + 1
        places_NRSD[:, :, 0] += model.embedder.embedding_tables[0](actions_NR)
        draft_NRK = self._frames_NVK[torch.arange(len(parents_NR), device=parents_NR.device)[:, None], parents_NR]
        self._cache.branch(parents_NR, config.tokens_per_step)
        draws = self._draws(actions_NR.numel())
        tokens_NRK, first_NRD, last_NRD = self._frames(places_NRSD, draft_NRK, draws[2:])
        signs_M3 = model.head_rewards(first_NRD).flatten(0, 1)
        rewards_M, expected_M = chosen(signs_M3, draws[0]).float() - 1, expected_sign(signs_M3)
        ends_M = chosen(model.head_ends(first_NRD).flatten(0, 1), draws[1]).bool()
        values_MA = _values(model, last_NRD).flatten(0, 1)
        nodes = self._depths_NV.shape[1]
        self._depths_NV = torch.cat([self._depths_NV, depths_NR], dim=1)
        self._frames_NVK = torch.cat([self._frames_NVK, tokens_NRK], dim=1)
        self._newest_NR = torch.arange(nodes, self._depths_NV.shape[1], device=actions_M.device).expand_as(actions_NR)
        states_M = _states(model, last_NRD)
        return Imagined(values_MA, rewards_M, ends_M, tokens_NRK.flatten(0, 1), states_M, expected_M)

    def _frames(
        self, x_NRSD: Tensor, draft_NRK: Tensor, draws: Sequence[Tensor | None]
    ) -> tuple[Tensor, Tensor, Tensor]:
        """Tokens (N, R, K) of the frames that grow, and hidden states (N, R, D) of their first and last places.

        x_NRSD: all that is embedded but the frames' tokens.
        """
        drafts = Drafts(draft_NRK.flatten(0, 1).cpu().numpy())
        ends_NR2D = x_NRSD.new_empty(*draft_NRK.shape[:2], 2, x_NRSD.shape[3])
        self.passes = 0
        if self._drafts and not self._pace.prefers_one_by_one(drafts):
            hidden_MSD = self._verify(drafts, x_NRSD.flatten(0, 1), draws)
            ends_NR2D.copy_(hidden_MSD[:, [0, -1]].view_as(ends_NR2D))
        self._one_by_one(drafts, x_NRSD, ends_NR2D, draws)
        tokens_MK = torch.from_numpy(drafts.tokens_MS[:, 1:])
        return tokens_MK.to(draft_NRK.device).view_as(draft_NRK), ends_NR2D[:, :, 0], ends_NR2D[:, :, 1]

    def _verify(self, drafts: Drafts, x_MSD: Tensor, draws: Sequence[Tensor | None]) -> Tensor:  # (M, S, D)
        """Read drafted tokens as long as that pays: what the network says behind them."""
        model, cache = self._player, cast("KVCache", self._cache)
        draws_KMV = None if self.sampler is None else torch.stack(cast("list[Tensor]", draws))

        def choose(logits_TV: Tensor, rows_T: Tensor, places_T: Tensor) -> Tensor:
            if draws_KMV is None:
                return chosen(logits_TV, None)
            return chosen(logits_TV, draws_KMV[places_T.clamp(max=len(draws_KMV) - 1), rows_T])

        network = Network(model.embedder.embedding_tables[1], model.transformer, model.head_observations)
        hidden_MSD, self.passes = verify(drafts, self._pace, network, cache, x_MSD, choose)
        cache.resume(drafts.read)
        return hidden_MSD

    def _one_by_one(self, drafts: Drafts, x_NRSD: Tensor, ends_NR2D: Tensor, draws: Sequence[Tensor | None]) -> None:
        """The rest of the frames from the first place that is not read in all, a pass a place."""
        model, shape, last = self._player, x_NRSD.shape[:2], x_NRSD.shape[2] - 1
        tokens_MS = torch.from_numpy(drafts.tokens_MS).to(x_NRSD.device)
        first, chosen_NR, found = drafts.read, tokens_MS[:, min(drafts.read, last)].view(shape), []
        for place in range(first, last + 1):
            x_NRD = x_NRSD[:, :, place]
            if place:  # an action's place holds no code
                x_NRD = x_NRD + model.embedder.embedding_tables[1](chosen_NR)
            hidden_NRD = self._read(x_NRD, cast("KVCache", self._cache))
            self.passes += 1
            if place in (0, last):
                ends_NR2D[:, :, int(place > 0)] = hidden_NRD
            if place < last:
                logits_MV = model.head_observations(hidden_NRD).flatten(0, 1)
                found.append(chosen(logits_MV, draws[place]))
                chosen_NR = found[-1].view(shape)
        if found:
            drafts.finish(torch.stack(found, dim=1).cpu().numpy())

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

    def _draws(self, rows: int) -> list[Tensor | None]:
        """What rewards, ends and every token are drawn by, (M, classes) each, in the order of one by one."""
        config = self.model.config
        classes = [3, 2, *[config.vocab_size] * config.tokens_per_frame]
        if self.sampler is None:
            return [None] * len(classes)
        return [
            torch.empty(rows, many, device=self._games_N.device).exponential_(generator=self.sampler)
            for many in classes
        ]


def expected_sign(logits_M3: Tensor) -> Tensor:
    """The chance (M,) of a reward above 0 minus that of one below."""
    chances_M3 = logits_M3.float().softmax(-1)
    return chances_M3[:, 2] - chances_M3[:, 0]


def chosen(logits_MV: Tensor, draws_MV: Tensor | None) -> Tensor:
    """The most likely classes (M,) or, with numbers drawn from the exponential distribution, those that they draw."""
    if draws_MV is None:
        return logits_MV.argmax(-1)
    return (logits_MV.float().softmax(-1) / draws_MV).argmax(-1)
