"""JOWA as graphs of pure tensors, for runtimes that know no Python: what a browser needs to play inside the model.

`read` takes a context in, `step` imagines the likeliest next observation, both with the cache of keys and values as
input and output; `decode` draws an observation. A page plays `read` once, then `step` as often as the model has
positions, and reads the newest steps again (`models.jowa.dream.JowaDream`, whose observations these are).
Shapes: one row; L tokens of context, P cached ones, S = K + 1 tokens a step, H heads of E numbers, V codes, A actions.
"""

import copy

import torch
from torch import Tensor, nn

from models.blocks.transformer import Cache
from models.jowa.loss import expected_values
from models.jowa.model import Jowa
from models.tokenizers.vq import Tokenizer
from models.worlds import Graph


class GrownCache(Cache):
    """Keys and values (layers, 1, H, P, E) that grow by concatenation. `mask` (L, P + L) says what new tokens see."""

    def __init__(self, keys: Tensor, values: Tensor) -> None:
        self._keys, self._values = list(keys.unbind(0)), list(values.unbind(0))
        self.mask: Tensor | None = None

    def append(self, layer: int, keys_NHLE: Tensor, values_NHLE: Tensor) -> tuple[Tensor, Tensor, Tensor | None]:
        """See `Cache`."""
        self._keys[layer] = torch.cat([self._keys[layer], keys_NHLE], dim=2)
        self._values[layer] = torch.cat([self._values[layer], values_NHLE], dim=2)
        return self._keys[layer], self._values[layer], self.mask

    def advance(self, tokens: int) -> None:
        """Nothing is counted."""

    @property
    def both(self) -> tuple[Tensor, Tensor]:
        """All keys and all values."""
        return torch.stack(self._keys), torch.stack(self._values)


class Read(nn.Module):
    """tokens (1, L) from position 0 on, the last of which ends an observation -> q (1, A), keys, values."""

    def __init__(self, model: Jowa, game: int) -> None:
        super().__init__()
        self.model, self.game = model, game

    def forward(self, tokens: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        model, length = self.model, tokens.shape[1]
        places = torch.arange(length, device=tokens.device)
        acts = places % model.config.tokens_per_step == model.config.tokens_per_frame
        actions, codes = model.embedder.embedding_tables
        embedded = torch.where(acts[:, None], actions(tokens * acts), codes(tokens * ~acts)) + model.pos_emb(places)
        if model.task_emb is not None:
            row = model.task_rows_G[self.game]
            of_actions, of_codes = (table(row) for table in model.task_emb.embedding_tables)
            embedded = embedded + torch.where(acts[:, None], of_actions, of_codes)
        shape = (len(model.transformer.blocks), 1, model.transformer.heads, 0, model.config.width // model.config.heads)
        cache = GrownCache(embedded.new_zeros(shape), embedded.new_zeros(shape))
        cache.mask = places[None] <= places[:, None]
        hidden = model.transformer(embedded, cache)[:, -1:]
        return (_values(model, hidden)[:, 0], *cache.both)


class Step(nn.Module):
    """action (1,), keys, values -> observation (1, K), reward (1,) in {-1, 0, 1}, end (1,), q (1, A), keys, values."""

    def __init__(self, model: Jowa, game: int) -> None:
        super().__init__()
        self.model, self.game = model, game

    def forward(self, action: Tensor, past_keys: Tensor, past_values: Tensor) -> tuple[Tensor, ...]:
        model, cache = self.model, GrownCache(past_keys, past_values)
        first = past_keys.shape[3]
        actions, codes = model.embedder.embedding_tables
        of_actions = of_codes = past_keys.new_zeros(model.config.width)
        if model.task_emb is not None:
            row = model.task_rows_G[self.game]
            of_actions, of_codes = (table(row) for table in model.task_emb.embedding_tables)

        def read(embedded: Tensor, place: int) -> Tensor:
            where = torch.arange(first + place, first + place + 1, device=past_keys.device)
            return model.transformer((embedded + model.pos_emb(where))[:, None], cache)

        hidden = read(actions(action) + of_actions, 0)
        reward, end = model.head_rewards(hidden).argmax(-1) - 1, model.head_ends(hidden).argmax(-1)
        tokens: list[Tensor] = []
        for place in range(1, model.config.tokens_per_step):
            tokens.append(model.head_observations(hidden).argmax(-1)[:, 0])
            hidden = read(codes(tokens[-1]) + of_codes, place)
        found = (torch.stack(tokens, dim=1), reward[:, 0], end[:, 0], _values(model, hidden)[:, 0])
        return (*found, *cache.both)


class Decode(nn.Module):
    """observation (1, K) -> frame (1, C, H, W) in [0, 1]."""

    def __init__(self, tokenizer: Tokenizer) -> None:
        super().__init__()
        self.tokenizer = tokenizer

    def forward(self, observation: Tensor) -> Tensor:
        grid = self.tokenizer.config.grid
        return self.tokenizer.decode(self.tokenizer.embedding.look_up(observation.reshape(-1, grid, grid))).clamp(0, 1)


def _values(model: Jowa, hidden: Tensor) -> Tensor:
    return expected_values(model.head_q(hidden).unflatten(-1, (model.config.num_actions, -1)), model.config)


def graphs(model: Jowa, tokenizer: Tokenizer, game: int) -> dict[str, Graph]:
    """All three by name, of copies of the networks; see `models.worlds.Portable`."""
    model = copy.deepcopy(model).eval().float().requires_grad_(False)
    tokenizer = copy.deepcopy(tokenizer).eval().float().requires_grad_(False)
    per_step, per_frame = model.config.tokens_per_step, model.config.tokens_per_frame
    tokens = torch.zeros(1, 2 * per_step - 1, dtype=torch.long)
    read, action = Read(model, game), tokens[0, :1]
    with torch.no_grad():
        _, keys, values = read(tokens)
    return {
        "read": Graph(read, (tokens,), ("tokens",), ("q", "keys", "values"), {"tokens": (1,)}),
        "step": Graph(
            Step(model, game),
            (action, keys, values),
            ("action", "past_keys", "past_values"),
            ("observation", "reward", "end", "q", "keys", "values"),
            {"past_keys": (3,), "past_values": (3,)},
        ),
        "decode": Graph(Decode(tokenizer), (tokens[:, :per_frame],), ("observation",), ("frame",)),
    }
