"""The other side of the planning benchmark: JOWA's way of deciding as it is described, for one environment at a time.

Every pass evaluates all heads wherever they have something to say, the target head too; each imagined step copies its
parent's whole cache and decodes its frame; greedy play reads its context without a cache. The searches decide as those
of `models/planning`, of which they share no line. The network is the plain twin of the training benchmark.

Shapes: N environments, L tokens, K tokens a frame, A actions. An environment is searched alone: N is 1 in a search.
"""

import math
from collections.abc import Collection, Sequence
from dataclasses import dataclass, field

import torch
from torch import Tensor

from models.api import Context, Planner
from models.blocks.transformer import KVCache
from models.jowa.loss import expected_values
from models.jowa.model import Head, Jowa, Outputs
from models.jowa.world import context_tokens
from models.planning.beam import Beam
from models.planning.mcts import C_BASE, C_INIT, Mcts
from models.tokenizers.vq import Tokenizer
from pipelines.tools.bench import train_plain


class EveryHead:
    """The plain twin of a model, which evaluates all heads whatever is asked for."""

    def __init__(self, model: Jowa) -> None:
        self.network, self.config = train_plain.plain(model, model.config.max_tokens).eval(), model.config

    def __call__(
        self, tokens_NL: Tensor, games_N: Tensor, cache: KVCache | None = None, heads: Collection[Head] = ()
    ) -> Outputs:
        return self.network(tokens_NL, games_N, cache)

    def empty_cache(self, rows: int) -> KVCache:
        """See `Jowa`."""
        return self.network.empty_cache(rows)


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
        world = PlainWorld(model, tokenizer, games_N[one], legal_NA[one])
        if isinstance(planner, Mcts):
            actions.append(tree_search(world, tokens_NL[one], planner))
        else:
            actions.append(beam_search(world, tokens_NL[one], planner))
    return games_N.new_tensor(actions)


class PlainWorld:
    """One environment inside the model. Callers hold the caches, a row for each node that is gone on from."""

    def __init__(self, model: EveryHead, tokenizer: Tokenizer, games_1: Tensor, legal_1A: Tensor) -> None:
        self.model, self.tokenizer, self.games_1, self.legal_1A = model, tokenizer, games_1, legal_1A

    def reset(self, tokens_1L: Tensor) -> tuple[Tensor, KVCache]:
        """Values (1, A) at the newest observation, illegal actions at -inf, and the cache of what was read."""
        cache = self.model.empty_cache(1)
        return self._values(self._read(tokens_1L, cache)), cache

    def step(self, actions_M: Tensor, cache: KVCache) -> tuple[Tensor, Tensor, Tensor]:
        """Imagine one step of M nodes and decode its frames: values (M, A), rewards (M,), tokens (M, K)."""
        outputs = self._read(actions_M[:, None], cache)
        rewards_M = outputs.logits["rewards"][:, -1].argmax(-1).float() - 1
        tokens: list[Tensor] = []
        while len(tokens) < self.model.config.tokens_per_frame:
            tokens.append(outputs.logits["observations"][:, -1].argmax(-1))
            outputs = self._read(tokens[-1][:, None], cache)
        tokens_MK = torch.stack(tokens, 1)
        self.tokenizer.decode_tokens(tokens_MK)
        return self._values(outputs), rewards_M, tokens_MK

    def _read(self, tokens_ML: Tensor, cache: KVCache) -> Outputs:
        return self.model(tokens_ML, self.games_1.expand(len(tokens_ML)), cache)

    def _values(self, outputs: Outputs) -> Tensor:
        values_MA = expected_values(outputs.logits["q"][:, :, -1:], self.model.config)[:, 0]
        return values_MA.masked_fill(~self.legal_1A, -torch.inf)


def copied(cache: KVCache, rows_M: Tensor) -> KVCache:
    """A copy of the named rows, in that order, repeats allowed."""
    twin = KVCache(cache.keys[:, rows_M], cache.values[:, rows_M])
    twin.length = cache.length
    return twin


@dataclass(frozen=True)
class Path:
    """A node of the beam search with what led to it."""

    row: int  # in the newest cache
    values_A: Tensor
    actions: tuple[int, ...] = ()
    rewards: tuple[float, ...] = ()

    def score(self, gamma: float) -> float:
        """sum_i gamma^i r_i + gamma^depth max Q."""
        earned = sum(gamma**i * reward for i, reward in enumerate(self.rewards))
        return earned + gamma ** len(self.rewards) * float(self.values_A.max())


def beam_search(world: PlainWorld, tokens_1L: Tensor, beam: Beam) -> int:
    """The first action of the best path: every kept node tries its best actions, then the best nodes are kept."""
    gamma, expand = world.model.config.gamma, min(beam.width, int(world.legal_1A.sum()))
    values_1A, cache = world.reset(tokens_1L)
    kept = [Path(0, values_1A[0])]
    for _ in range(beam.horizon):
        parents = [path for path in kept for _ in range(expand)]
        actions_M = torch.cat([path.values_A.topk(expand).indices for path in kept])
        cache = copied(cache, torch.tensor([path.row for path in parents]))
        values_MA, rewards_M, _ = world.step(actions_M, cache)
        nodes = [
            Path(row, values_MA[row], (*parent.actions, int(actions_M[row])), (*parent.rewards, float(rewards_M[row])))
            for row, parent in enumerate(parents)
        ]
        kept = sorted(nodes, key=lambda path: path.score(gamma), reverse=True)[: beam.width]
    return kept[0].actions[0]


@dataclass
class Node:
    """A node of the search tree."""

    prior: float
    reward: float = 0.0
    visits: int = 0
    total: float = 0.0
    children: "list[Node]" = field(default_factory=list)
    cache: KVCache | None = None

    def value(self) -> float:
        return self.total / self.visits if self.visits else 0.0

    def expand(self, values_A: Tensor, temperature: float) -> None:
        self.children = [Node(prior) for prior in (values_A / temperature).softmax(-1).tolist()]


class Tree:
    """One tree search. The bounds of the values seen so far scale all values to [0, 1]."""

    def __init__(self, gamma: float) -> None:
        self.gamma, self.low, self.high = gamma, math.inf, -math.inf
        self.root = Node(0.0)

    def descend(self, depth: int) -> tuple[list[Node], int]:
        """The path from the root along the best children, and the last action on it; ties go to the highest action."""
        path, action = [self.root], 0
        while path[-1].children and len(path) <= depth:
            children = path[-1].children
            action = max(range(len(children)), key=lambda a: (self._priority(path[-1], children[a]), a))
            path.append(children[action])
        return path, action

    def _priority(self, parent: Node, child: Node) -> float:
        if child.prior < 1e-12:
            return -math.inf
        c = math.log((parent.visits + C_BASE + 1) / C_BASE) + C_INIT
        bonus = math.sqrt(parent.visits) * c * child.prior / (child.visits + 1)
        if not child.visits:
            return bonus
        value = child.reward + self.gamma * child.value()
        return bonus + ((value - self.low) / (self.high - self.low) if self.high > self.low else value)

    def back_up(self, path: Sequence[Node], value: float) -> None:
        """Count the leaf's value, discounted, in every node of the path."""
        for node in reversed(path):
            node.total += value
            node.visits += 1
            self.low, self.high = min(self.low, node.value()), max(self.high, node.value())
            value = node.reward + self.gamma * value


def tree_search(world: PlainWorld, tokens_1L: Tensor, search: Mcts) -> int:
    """The action that a tree search chooses; ties go to the lowest."""
    tree = Tree(world.model.config.gamma)
    values_1A, tree.root.cache = world.reset(tokens_1L)
    tree.root.expand(values_1A[0], search.temperature)
    for _ in range(search.budget):
        path, action = tree.descend(search.depth)
        parent, leaf = path[-2], path[-1]
        assert parent.cache is not None, "a node that was simulated has a cache"
        leaf.cache = copied(parent.cache, torch.tensor([0]))
        values_1A, rewards_1, _ = world.step(torch.tensor([action]), leaf.cache)
        leaf.reward = float(rewards_1[0])
        leaf.expand(values_1A[0], search.temperature)
        legal_A = values_1A[world.legal_1A]
        tree.back_up(path, float(legal_A.mean() if search.leaf == "mean" else legal_A.max()))
    visited = {action: child for action, child in enumerate(tree.root.children) if child.visits}
    merits = {a: child.visits if search.choice == "visits" else child.value() for a, child in visited.items()}
    return max(merits, key=lambda action: (merits[action], -action))
