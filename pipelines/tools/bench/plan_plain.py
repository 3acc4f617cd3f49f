"""The other side of the planning benchmark: JOWA's way of deciding as it is described, for one environment at a time.

Every pass evaluates all heads wherever they have something to say, the target head too; each imagined step copies its
parent's whole cache and decodes its frame; greedy play reads its context without a cache. The searches are those that
parity holds to the recordings (`models/jowa/recorded_plans.py`), without the faults of the original's tree search.
The network is the plain twin of the training benchmark.
"""

from collections.abc import Collection

import torch
from torch import Tensor

from models.api import Context, Planner
from models.blocks.cache import KVCache
from models.jowa.critic import expected_values
from models.jowa.model import Head, Jowa, Outputs
from models.jowa.recorded_plans import Original, beam_search, tree_search
from models.jowa.world import context_tokens
from models.planning.beam import Beam
from models.planning.mcts import Mcts
from models.tokenizers.vq import Tokenizer
from pipelines.tools.bench import train_plain


class EveryHead:
    """The plain twin of a model, which evaluates all heads whatever is asked for."""

    def __init__(self, model: Jowa) -> None:
        self.network, self.config = train_plain.plain(model).eval(), model.config

    def __call__(
        self, tokens_BL: Tensor, games_B: Tensor, cache: KVCache | None = None, heads: Collection[Head] = ()
    ) -> Outputs:
        return self.network(tokens_BL, games_B, cache)

    def empty_cache(self, rows: int) -> KVCache:
        """See `Jowa`."""
        return self.network.empty_cache(rows)


class Decoding(Original):
    """Decodes the frame of every imagined step."""

    def __init__(self, model: EveryHead, games_N: Tensor, legal_NA: Tensor, tokenizer: Tokenizer) -> None:
        super().__init__(model, games_N, legal_NA)  # type: ignore[arg-type]  # it is called and sized as a Jowa is
        self.tokenizer = tokenizer

    @torch.no_grad()
    def step(self, actions_M: Tensor, cache: KVCache) -> tuple[Tensor, Tensor, Tensor]:
        """See `Original`."""
        values_MA, rewards_M, tokens_MK = super().step(actions_M, cache)
        self.tokenizer.decode_tokens(tokens_MK)
        return values_MA, rewards_M, tokens_MK


@torch.no_grad()
def plan(model: EveryHead, tokenizer: Tokenizer, planner: Planner, context: Context, legal_NA: Tensor) -> Tensor:
    """Actions (N,) long: greedy ones of all environments in one batch, searched ones of one after the other."""
    tokens_NL, games_N = context_tokens(context, model.config.tokens_per_frame), context.games_N
    if not isinstance(planner, (Beam, Mcts)):
        logits = model(tokens_NL, games_N).logits["q"]
        return expected_values(logits, model.config)[:, -1].masked_fill(~legal_NA, -torch.inf).argmax(1)
    actions = []
    for row in range(len(games_N)):
        one = slice(row, row + 1)
        world = Decoding(model, games_N[one], legal_NA[one], tokenizer)
        if isinstance(planner, Mcts):
            actions.append(tree_search(world, tokens_NL[one], planner, faults=False))
        else:
            width = min(planner.width, int(legal_NA[row].sum()))
            actions.append(beam_search(world, tokens_NL[one], planner.width, width, planner.horizon)[0].actions[0])
    return games_N.new_tensor(actions)
