"""Gumbel search over imagined steps: few simulations, spread by sequential halving, values completed by the prior.

At the root the likeliest actions share the simulations: all of them get as many, then the better half, and so on.
Below it each action is tried in proportion to an improved policy, softmax(log prior + sigma(Q)), in which an action
not yet tried counts as the mean of those that were, weighed by the prior. So a handful of simulations improves on the
prior, where PUCT with as few would follow it. Play draws no Gumbel noise: the likeliest actions are considered, and the
same state gives the same one. Trees and their batches are those of `models.planning.mcts`.
Source: Danihelka et al. 2022, "Policy Improvement by Planning with Gumbel", sections 3 to 5.

Shapes: A actions.
"""

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from models.limits import Count
from models.planning.mcts import Mcts, Node, Tree

MAX_VISIT_INIT, VALUE_SCALE = 50, 0.1  # of sigma, as for Atari (appendix F)


@dataclass(frozen=True)
class Gumbel(Mcts):
    """`width` actions are considered at the root; paths are `horizon` steps deep at most.

    Other settings are those of `Mcts`, but for `choice`, which is not read. Raises ValueError where a number cannot be.
    """

    width: Count = 4

    @property
    def depth(self) -> int:
        """How many edges below the root a simulation descends at most."""
        return self.horizon

    def tree(self, root: Node, gamma: float) -> Tree:
        """The search of one environment."""
        return GumbelTree(root, self, gamma)


def halving(considered: int, simulations: int) -> list[int]:
    """How often the root's action of each simulation must have been tried before it: sequential halving as a table."""
    table: list[int] = []
    alive, tried, rounds = considered, 0, max(1, math.ceil(math.log2(considered)))
    while len(table) < simulations:
        for _ in range(max(1, simulations // (rounds * alive))):
            table += [tried] * alive
            tried += 1
        alive = max(2, alive // 2)
    return table[:simulations]


def completed_merits(node: Node) -> NDArray[np.float64]:
    """sigma(Q) of all actions (A,), in nats beside a log prior; of one not yet tried Q is the mixed value.

    Q is scaled to 0..1 over the legal actions of this node.
    """
    tried_A, legal_A, count = node.visits_A > 0, node.outcome.legal_A, node.visits_A.sum()
    mixed = node.outcome.worth
    if count:
        weights = np.maximum(node.outcome.priors_A[tried_A], np.finfo(np.float64).tiny)
        mixed = (mixed + count * np.average(node.returns_A[tried_A], weights=weights)) / (1 + count)
    q_A = np.where(tried_A, node.returns_A, mixed)
    low, high = q_A[legal_A].min(), q_A[legal_A].max()
    scaled_A = (q_A - low) / (high - low) if high > low else np.zeros_like(q_A)
    return (MAX_VISIT_INIT + node.visits_A.max()) * VALUE_SCALE * scaled_A


class GumbelTree(Tree):
    """The search of one environment: where it goes next, and what it plays."""

    def __init__(self, root: Node, search: Gumbel, gamma: float) -> None:
        super().__init__(root, search, gamma)
        legal = np.flatnonzero(root.outcome.legal_A)
        likeliest = legal[np.argsort(-root.outcome.priors_A[legal], kind="stable")]
        self._considered = likeliest[: min(search.width, search.budget)]
        self._table = halving(len(self._considered), search.budget)

    def choose(self) -> int:
        """Of the most visited actions that of greatest merit; ties go to the lowest id."""
        visits_A = self.root.visits_A
        return int(np.where(visits_A == visits_A.max(), self._merits(self.root), -np.inf).argmax())

    def _scores(self, node: Node) -> NDArray[np.float64]:
        """At the root the merit of those whose turn it is, below it how far an action is behind its share of visits."""
        merits_A = self._merits(node)
        if node is self.root:
            turn_A = np.zeros(len(merits_A), dtype=bool)
            turn_A[self._considered] = True
            turn_A &= node.visits_A == self._table[self.search.budget - self.left]
            return np.where(turn_A, merits_A, -np.inf)
        policy_A = np.exp(merits_A - merits_A.max())
        shares_A = policy_A / policy_A.sum() - node.visits_A / (1 + node.visits_A.sum())
        return np.where(node.outcome.legal_A, shares_A, -np.inf)

    def _merits(self, node: Node) -> NDArray[np.float64]:
        """Log prior and sigma(Q) of legal actions, -inf of others."""
        legal_A = node.outcome.legal_A
        log_priors_A = np.log(np.maximum(node.outcome.priors_A, np.finfo(np.float64).tiny))
        return np.where(legal_A, log_priors_A + completed_merits(node), -np.inf)
