"""Planning in the order in which the original calls its networks, to check recorded plans and imagined segments.

The recordings hold dropout in the Q heads (`recorded.py`), so a plan can be had again only by evaluating both heads in
each pass that reads a frame's last token, over all its steps, in the original's order. Slow and plain, for parity
alone: play and training use `models/planning`, which must choose the same actions where there is no dropout.
Cost: 20 ms a node on a golden file's model. Shapes: N rows, L tokens, K tokens a frame, A actions, M nodes.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass, field

import torch
from torch import Tensor

from models.blocks.cache import KVCache
from models.jowa.critic import expected_values
from models.jowa.model import Head, Jowa
from models.planning.mcts import C_BASE, C_INIT, Mcts

Q_HEADS: tuple[Head, ...] = ("q", "q_target")


class Original:
    """The model and N games, as the original's environment in the model holds them."""

    def __init__(self, model: Jowa, games_N: Tensor, legal_NA: Tensor) -> None:
        self.model, self.games_N, self.legal_NA = model, games_N, legal_NA

    @torch.no_grad()
    def reset(self, tokens_NL: Tensor) -> tuple[Tensor, KVCache]:
        """Values (N, A) at the newest observation, illegal actions at -inf, and the cache of what was read."""
        cache = self.model.empty_cache(len(tokens_NL))
        return self._values(tokens_NL, cache), cache

    @torch.no_grad()
    def step(self, actions_M: Tensor, cache: KVCache) -> tuple[Tensor, Tensor, Tensor]:
        """Imagine one step of M nodes, M / N of each game in turn: values (M, A), rewards (M,), tokens (M, K)."""
        games_M = self._repeated(self.games_N, len(actions_M))
        outputs = self.model(actions_M[:, None], games_M, cache, heads=("observations", "rewards"))
        rewards_M = outputs.logits["rewards"][:, -1].argmax(-1).float() - 1
        tokens = [outputs.logits["observations"][:, -1].argmax(-1)]
        while len(tokens) < self.model.config.tokens_per_frame:
            outputs = self.model(tokens[-1][:, None], games_M, cache, heads=("observations",))
            tokens.append(outputs.logits["observations"][:, -1].argmax(-1))
        return self._values(tokens[-1][:, None], cache), rewards_M, torch.stack(tokens, 1)

    def _values(self, tokens_ML: Tensor, cache: KVCache) -> Tensor:
        games_M, legal_MA = (self._repeated(x, len(tokens_ML)) for x in (self.games_N, self.legal_NA))
        logits = self.model(tokens_ML, games_M, cache, heads=Q_HEADS).logits["q"]
        return expected_values(logits[:, :, -1:], self.model.config)[:, 0].masked_fill(~legal_MA, -torch.inf)

    def _repeated(self, of_N: Tensor, rows: int) -> Tensor:
        return of_N.repeat_interleave(rows // len(of_N), 0)


@dataclass
class Path:
    """A node of the beam search with what led to it."""

    row: int  # in the newest cache
    values_A: Tensor
    rewards: list[float] = field(default_factory=list)
    actions: list[int] = field(default_factory=list)
    frames: list[Tensor] = field(default_factory=list)  # (K,) tokens each

    def score(self, gamma: float) -> float:
        """sum_i gamma^i r_i + gamma^depth max Q."""
        earned = sum(gamma**i * reward for i, reward in enumerate(self.rewards))
        return earned + gamma ** len(self.rewards) * float(self.values_A.max())


def beam_search(original: Original, tokens_NL: Tensor, width: int, expand: int, horizon: int) -> list[Path]:
    """The best path of each row: every kept node expands its `expand` best actions, then `width` nodes are kept."""
    gamma, rows = original.model.config.gamma, range(len(tokens_NL))
    values_NA, cache = original.reset(tokens_NL)
    beams = [[Path(row, values_NA[row])] for row in rows]
    for _ in range(horizon):
        parents = [path for beam in beams for path in beam for _ in range(expand)]
        actions_M = torch.cat([path.values_A.topk(expand).indices for beam in beams for path in beam])
        cache = cache.gather(torch.tensor([path.row for path in parents]))
        values_MA, rewards_M, tokens_MK = original.step(actions_M, cache)
        nodes = [
            Path(
                row,
                values_MA[row],
                [*parent.rewards, float(rewards_M[row])],
                [*parent.actions, int(actions_M[row])],
                [*parent.frames, tokens_MK[row]],
            )
            for row, parent in enumerate(parents)
        ]
        each = len(nodes) // len(beams)
        beams = [
            sorted(nodes[row * each : (row + 1) * each], key=lambda path: path.score(gamma), reverse=True)[:width]
            for row in rows
        ]
    return [beam[0] for beam in beams]


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


def tree_search(original: Original, tokens_1L: Tensor, search: Mcts, faults: bool) -> int:
    """The action that a tree search chooses.

    With `faults` it is the original's: every node keeps the root's cache instead of its own, so that an action two
    steps from the root is imagined from the root's observation; a mean over actions counts illegal ones, at -inf; and
    children that were never visited, illegal ones too, may be chosen, their value being 0.
    """
    tree = Tree(original.model.config.gamma)
    values_1A, tree.root.cache = original.reset(tokens_1L)
    tree.root.expand(values_1A[0], search.temperature)
    for _ in range(search.budget):
        path, action = tree.descend(search.depth)
        parent, leaf = path[-2], path[-1]
        assert parent.cache is not None and tree.root.cache is not None, "a node that was simulated has a cache"
        cache = parent.cache.gather(torch.tensor([0]))
        values_1A, rewards_1, _ = original.step(torch.tensor([action]), cache)
        leaf.reward, leaf.cache = float(rewards_1[0]), tree.root.cache if faults else cache
        leaf.expand(values_1A[0], search.temperature)
        counted_A = values_1A[0] if faults else values_1A[0, original.legal_NA[0]]
        tree.back_up(path, float(counted_A.mean() if search.leaf == "mean" else counted_A.max()))
    children = tree.root.children
    allowed = [action for action, child in enumerate(children) if faults or child.visits]
    merit = {a: children[a].visits if search.choice == "visits" else children[a].value() for a in allowed}
    return max(allowed, key=lambda action: (merit[action], -action))
