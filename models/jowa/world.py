"""JOWA as a `models.api.WorldModel`: imagines N rows at once, most likely reward, end and tokens.

Shapes: N rows, C steps of context, K tokens a frame, A actions. A step costs K + 1 passes of one token through the
cached transformer.
"""

import torch
from torch import Tensor

from models.api import Batch, Context, Imagined, Losses
from models.blocks.transformer import KVCache
from models.jowa.critic import expected_values
from models.jowa.model import Jowa
from models.jowa.objective import world_loss


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
    """Expected value (N, A) float32 of every action at the newest observation; fills `cache` if one is given."""
    tokens_NL = context_tokens(context, model.config.tokens_per_frame)
    outputs = model(tokens_NL, context.games_N, cache, heads=("q",))
    return expected_values(outputs.logits["q"][:, :, -1:], model.config)[:, 0]


class JowaWorld:
    """Holds a model and the cache of the rows that are being imagined. The model should be in eval mode."""

    def __init__(self, model: Jowa) -> None:
        self.model = model
        self._cache: KVCache | None = None
        self._games_N: Tensor | None = None

    def loss(self, batch: Batch) -> Losses:
        """Stage 1's objective."""
        return world_loss(self.model, batch)

    def reset(self, context: Context) -> Imagined:
        """Read N contexts of C steps. C plus the steps to imagine must not exceed the model's steps (ValueError)."""
        rows = context.tokens_NCK.shape[0]
        self._cache, self._games_N = self.model.empty_cache(rows), context.games_N
        values_NA = context_values(self.model, context, self._cache)
        newest_NK = context.tokens_NCK[:, -1]
        return Imagined(values_NA, values_NA.new_zeros(rows), values_NA.new_zeros(rows, dtype=torch.bool), newest_NK)

    @torch.no_grad()
    def step(self, actions_N: Tensor) -> Imagined:
        """Imagine the next observation after `actions_N`, token by token. Raises ValueError before any reset."""
        cache, games_N = self._memory()
        outputs = self.model(actions_N[:, None], games_N, cache, heads=("observations", "rewards", "ends"))
        rewards_N = outputs.logits["rewards"][:, -1].argmax(-1).float() - 1
        ends_N = outputs.logits["ends"][:, -1].argmax(-1).bool()
        tokens = [outputs.logits["observations"][:, -1].argmax(-1)]
        while len(tokens) < self.model.config.tokens_per_frame:
            outputs = self.model(tokens[-1][:, None], games_N, cache, heads=("observations",))
            tokens.append(outputs.logits["observations"][:, -1].argmax(-1))
        outputs = self.model(tokens[-1][:, None], games_N, cache, heads=("q",))
        values_NA = expected_values(outputs.logits["q"], self.model.config)[:, -1]
        return Imagined(values_NA, rewards_N, ends_N, torch.stack(tokens, dim=1))

    def gather(self, rows_M: Tensor) -> None:
        """Go on with these rows, in this order; a row may be named more than once."""
        cache, games_N = self._memory()
        self._cache, self._games_N = cache.gather(rows_M), games_N[rows_M]

    def _memory(self) -> tuple[KVCache, Tensor]:
        if self._cache is None or self._games_N is None:
            raise ValueError("This world has no rows yet: call reset(context) first")
        return self._cache, self._games_N
