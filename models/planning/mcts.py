"""Monte Carlo tree search over imagined steps, for many environments at once (PUCT of MuZero, arXiv 1911.08265).

Environments search on their own and meet at the world model: each goes on until it needs a step that was not imagined
yet, then one batch imagines those of all. A batch takes along the actions which the same node would try next, as rows
of one environment share the reading of its context and of the weights; and a step that is chosen again is not imagined
again. Neither changes what is chosen.

The original gives every node the root's cache, so that beyond the first step it imagines what followed the root (8 of
60 decisions on small random models differ for it); here a step follows its parent.

Shapes: N environments, A actions, R rows of an environment.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Literal

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from models.api import Context, Imagined, WorldModel
from models.limits import Count, Positive, check
from models.planning.beam import Gain, Leaf, gains, leaf_values, masked_values

C_BASE, C_INIT = 19652, 1.25  # of PUCT, as in MuZero


@dataclass(frozen=True)
class Mcts:
    """How long, how deep and by what to search. Raises ValueError where a number cannot be.

    A search has `simulations` or, by default, as many as a beam of `width` and the same horizon has nodes. Priors are
    softmax(Q / temperature). `choice`: play the action of best mean value, or the most visited one. With `resample` a
    step at the greatest depth is imagined anew whenever it is chosen, which makes sense in a world that samples.
    `ahead`: how many of a node's next actions to imagine at once; a matter of speed alone.
    """

    simulations: Count | None = None
    width: Count = 2
    horizon: Count = 2
    temperature: Positive = 1.0
    leaf: Leaf = "max"
    choice: Literal["value", "visits"] = "value"
    resample: bool = False
    ahead: Count = 8
    gain: Gain = "likeliest"

    def __post_init__(self) -> None:
        check(self, "tree search")

    @property
    def budget(self) -> int:
        """Simulations a decision."""
        return self.width**2 * (self.horizon - 1) + self.width if self.simulations is None else self.simulations

    @property
    def depth(self) -> int:
        """How many edges below the root a simulation descends at most."""
        return max(1, self.horizon - 1)

    def tree(self, root: "Node", gamma: float) -> "Tree":
        """The search of one environment."""
        return Tree(root, self, gamma)

    def plan(self, world: WorldModel, context: Context, legal_NA: Tensor, gamma: float) -> Tensor:
        """Actions (N,) long. The context must leave room for the horizon.

        Raises ValueError where it does not, or for legal actions that do not fit the context.
        """
        # No step led to a root: what it brings is not read, and no world tells chances of it.
        roots = self._read(world.reset(context), legal_NA, [0], "likeliest")
        trees = [self.tree(Node(root), gamma) for root in roots]
        created = 1  # nodes in each of the world's own trees
        while any(wanted := [tree.advance() for tree in trees]):
            asked = [tree.with_next(edge, self.ahead) if edge else [] for tree, edge in zip(trees, wanted, strict=True)]
            rows = max(map(len, asked))
            # A batch has as many rows of each environment: who asks for less repeats an edge, whose answer is not read.
            flat = [edge for tree, edges in zip(trees, asked, strict=True) for edge in tree.fill(edges, rows)]
            actions_M = legal_NA.new_tensor([edge.action for edge in flat], dtype=torch.long)
            parents_M = legal_NA.new_tensor([edge.node.outcome.number for edge in flat], dtype=torch.long)
            here = world.step(actions_M, parents_M)
            outcomes = self._read(here, legal_NA.repeat_interleave(rows, 0), range(created, created + rows), self.gain)
            for row, edges in enumerate(asked):
                for edge, outcome in zip(edges, outcomes[row * rows :], strict=False):
                    edge.node.imagined[edge.action] = outcome
            created += rows
        return legal_NA.new_tensor([tree.choose() for tree in trees], dtype=torch.long)

    def _read(self, here: Imagined, legal_MA: Tensor, numbers: Sequence[int], gain: Gain) -> "list[Outcome]":
        """Outcomes of M rows, numbered alike in every environment."""
        masked_MA = masked_values(here.values_NA.float(), legal_MA)
        priors_MA = (masked_MA / self.temperature).softmax(1).double().cpu().numpy()
        worths, rewards = leaf_values(here, masked_MA, self.leaf).tolist(), gains(here, gain).tolist()
        legal = legal_MA.cpu().numpy()
        return [
            Outcome(rewards[row], worths[row], priors_MA[row], legal[row], numbers[row % len(numbers)])
            for row in range(len(worths))
        ]


@dataclass(frozen=True)
class Outcome:
    """What the world says of a step."""

    reward: float
    worth: float  # of the state it leads to
    priors_A: NDArray[np.float64]
    legal_A: NDArray[np.bool_]
    number: int  # of that state in the world's tree


@dataclass(eq=False)
class Node:
    """A state that was visited, with the statistics of the actions below it."""

    outcome: Outcome
    visits: int = 0
    total: float = 0.0
    children: "dict[int, Node]" = field(default_factory=dict)
    imagined: dict[int, Outcome] = field(default_factory=dict)
    visits_A: NDArray[np.float64] = field(init=False)
    returns_A: NDArray[np.float64] = field(init=False)  # reward + gamma * mean value of each visited child

    def __post_init__(self) -> None:
        self.visits_A, self.returns_A = np.zeros_like(self.outcome.priors_A), np.zeros_like(self.outcome.priors_A)

    @property
    def mean(self) -> float:
        return self.total / self.visits


@dataclass(frozen=True, eq=False)
class Edge:
    """An action in a state."""

    node: Node
    action: int


class Tree:
    """The search of one environment."""

    def __init__(self, root: Node, search: Mcts, gamma: float) -> None:
        self.root, self.search, self.gamma, self.left = root, search, gamma, search.budget
        self._low, self._high = math.inf, -math.inf  # of all mean values so far

    def advance(self) -> Edge | None:
        """Simulate until a step is needed that was not imagined yet: that one, or None at the end of the budget."""
        while self.left:
            path = self._descend()
            leaf = path[-1]
            if leaf.action not in leaf.node.imagined:
                return leaf
            outcome = leaf.node.imagined[leaf.action]
            if self.search.resample and len(path) == self.search.depth:
                del leaf.node.imagined[leaf.action]
            child = leaf.node.children.setdefault(leaf.action, Node(outcome))
            child.outcome = outcome
            self._back_up(path, outcome.worth)
            self.left -= 1
        return None

    def with_next(self, edge: Edge, rows: int) -> list[Edge]:
        """`edge`, and what its node would try next, not imagined yet: `rows` at most, none beyond the budget."""
        rows = min(rows, self.left)
        scores_A = self._scores(edge.node)
        order = np.argsort(scores_A, kind="stable")[::-1]
        new = [int(action) for action in order if np.isfinite(scores_A[action])]
        others = [action for action in new if action != edge.action and action not in edge.node.imagined]
        return [edge, *(Edge(edge.node, action) for action in others[: rows - 1])]

    def fill(self, edges: list[Edge], rows: int) -> list[Edge]:
        """The edges, the last one repeated to make `rows`; one below the root where there is none."""
        last = edges[-1] if edges else Edge(self.root, int(self.root.outcome.legal_A.argmax()))
        return edges + [last] * (rows - len(edges))

    def choose(self) -> int:
        """The action to play: legal and visited; ties go to the lowest id."""
        merits = {
            action: child.visits if self.search.choice == "visits" else child.mean
            for action, child in self.root.children.items()
        }
        return max(merits, key=lambda action: (merits[action], -action))

    def _descend(self) -> list[Edge]:
        """Along the best edges, to one without a child or at the greatest depth."""
        node, path = self.root, []
        while True:
            scores_A = self._scores(node)
            path.append(Edge(node, len(scores_A) - 1 - int(scores_A[::-1].argmax())))  # ties: the highest id
            child = node.children.get(path[-1].action)
            if child is None or len(path) == self.search.depth:
                return path
            node = child

    def _scores(self, node: Node) -> NDArray[np.float64]:
        """PUCT: value, normalised by the bounds of the tree, plus prior term; unvisited, the prior term alone."""
        c = math.log((node.visits + C_BASE + 1) / C_BASE) + C_INIT
        scores_A = math.sqrt(node.visits) * c * node.outcome.priors_A / (1 + node.visits_A)
        low, width = (self._low, self._high - self._low) if self._high > self._low else (0.0, 1.0)
        scores_A += np.where(node.visits_A > 0, (node.returns_A - low) / width, 0.0)
        return np.where(node.outcome.legal_A, scores_A, -np.inf)

    def _back_up(self, path: list[Edge], value: float) -> None:
        """Count `value`, of the path's end, in every node on it, discounted and with the rewards between."""
        for edge in reversed(path):
            child = edge.node.children[edge.action]
            self._count(child, value)
            value = child.outcome.reward + self.gamma * value
            edge.node.visits_A[edge.action] = child.visits
            edge.node.returns_A[edge.action] = child.outcome.reward + self.gamma * child.mean
        self._count(self.root, value)

    def _count(self, node: Node, value: float) -> None:
        node.visits += 1
        node.total += value
        self._low, self._high = min(self._low, node.mean), max(self._high, node.mean)
