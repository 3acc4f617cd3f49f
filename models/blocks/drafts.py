"""Draft and verify: a frame's tokens are guessed, read many at a time, and kept as far as the guess was right.

One by one, a token is chosen from what the network says behind those before it. Here the network reads several places
of a drafted frame in one pass. Up to the first token that would have been chosen otherwise, everything is as one by
one: that token is put right and reading goes on from it. Behind it the pass has said, too, what it would choose, of a
past with one token wrong: a better draft of the rest than the first. No draft changes what is chosen, only how many
passes it takes: the longest one by one, and at best a single one.

Draws keep their distribution, since a token is drawn from what the network says there, and the draft is kept where it
equals the draw: with the probability that it has. (Accepting a fixed guess x with probability p(x), else drawing from
p without x, is the same.) A place's random numbers are its own, so that it draws alike behind any draft.

Shapes: M rows, S places of a frame, the first of which is given (an action), T tokens of a pass.
"""

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

Ints = NDArray[np.int64]
LISTING = 1.6  # a pass over listed tokens takes as much longer as one by one
FEW = 4  # rows that are done and may be read again, one by one
TRUST = 2  # drafted tokens that an expectation counts for
MEMORY = 64  # drafted tokens after which older ones count for half


class Drafts:
    """Frames of M rows: what is known of each, and the draft of the rest.

    `first_M` is the first place of each row that is still to be read, S where none is. Its token is right, and so are
    all before it.
    """

    def __init__(self, draft_MK: Ints) -> None:
        self.tokens_MS = np.pad(draft_MK, ((0, 0), (1, 0)))  # what is given stands in for no token
        rows, self.places = self.tokens_MS.shape
        self.first_M = np.zeros(rows, dtype=np.int64)

    @property
    def unfinished(self) -> int:
        """Rows that have places to read."""
        return int((self.first_M < self.places).sum())

    @property
    def read(self) -> int:
        """Places that are read in every row."""
        return int(self.first_M.min())

    def ask(self, each: int) -> tuple[Ints, Ints]:
        """Rows (T,) and places (T,) to read next, at most `each` of a row, row after row."""
        self._until_M = np.minimum(self.first_M + each, self.places)
        counts_M = self._until_M - self.first_M
        rows_T = np.repeat(np.arange(len(counts_M)), counts_M)
        starts_M = np.cumsum(counts_M) - counts_M
        return rows_T, np.arange(len(rows_T)) - (starts_M - self.first_M)[rows_T]

    def tell(self, rows_T: Ints, places_T: Ints, chosen_T: Ints) -> tuple[int, int]:
        """What would be chosen behind each token that `ask` named; returns how many drafted tokens were right, and
        how many rows came to a wrong one. What is said behind a row's last place is not looked at."""
        inner_T = places_T + 1 < self.places
        rows_T, next_T, chosen_T = rows_T[inner_T], places_T[inner_T] + 1, chosen_T[inner_T]
        wrong_MS = np.zeros(self.tokens_MS.shape, dtype=bool)
        wrong_MS[rows_T, next_T] = self.tokens_MS[rows_T, next_T] != chosen_T
        self.tokens_MS[rows_T, next_T] = chosen_T
        stopped_M = wrong_MS.any(1)
        before_M, last_M = self.first_M, np.minimum(self._until_M, self.places - 1)
        self.first_M = np.where(stopped_M, wrong_MS.argmax(1), self._until_M)
        wrong = int(stopped_M.sum())
        return int((np.minimum(self.first_M, last_M) - np.minimum(before_M, last_M)).sum()) - wrong, wrong

    def finish(self, chosen_ML: Ints) -> None:
        """These are the tokens of the newest L places of all rows."""
        self.tokens_MS[:, self.places - chosen_ML.shape[1] :] = chosen_ML
        self.first_M[:] = self.places


def copies_right(tokens_NCK: Tensor) -> float:
    """How many drafted tokens to expect right, of the share that real frames (N, C, K) repeat of the frame before.

    Drafts of what a pass said are right more often than copies of the frame before: where 53% of the tokens of the
    demo's Boxing are repeated, 93% of drafts are right, and 96% where 63% are in Freeway.
    """
    if tokens_NCK.shape[1] < 2:
        return 0.9
    return 1 - float((tokens_NCK[:, 1:] != tokens_NCK[:, :-1]).double().mean()) ** 3


def fixed_cost(layer_width: int, device: str) -> float:
    """Tokens that take as long to compute as what a pass costs whatever it reads.

    On a CPU, reading the weights from memory costs about as much as computing 12 tokens, and what Python and PyTorch
    take for a layer is worth the more tokens the narrower it is. An accelerator has hardly begun by then.
    """
    return 12 + 1e6 / layer_width**2 if device == "cpu" else 4096.0


class Pace:
    """How many tokens of each row a pass should read: as many as make a token that is kept cheapest.

    right: the share of drafted tokens expected to be right, before any was looked at. The share is then that of the
    newest tokens. fixed: see `fixed_cost`. Nothing is timed, so that the same is always read in the same passes.
    """

    def __init__(self, right: float, fixed: float) -> None:
        self._tried, self._right, self._fixed = float(TRUST), TRUST * right, fixed

    def saw(self, right: int, wrong: int) -> None:
        """So many drafted tokens were right and wrong, of drafts that a pass made: first ones tell little of these."""
        fade = MEMORY / (MEMORY + right + wrong)
        self._tried = self._tried * fade + right + wrong
        self._right = self._right * fade + right

    def prefers_one_by_one(self, drafts: Drafts) -> bool:
        """Whether to go on with a token of every row a pass, in whose passes nothing is listed or looked up."""
        rows = len(drafts.first_M)
        dearest = (self._fixed + rows) / LISTING
        return rows - drafts.unfinished <= FEW and self._costs(drafts.unfinished, drafts.places).min() >= dearest

    def each(self, rows: int, most: int) -> int:
        """Tokens of each of `rows` rows, 1 to `most`."""
        return 1 + int(self._costs(rows, most).argmin())

    def _costs(self, rows: int, most: int) -> NDArray[np.float64]:
        """What a token that is kept of every row costs where each reads 1, 2, ... `most`."""
        share = min(self._right / self._tried, 0.999)
        counts_C = np.arange(1, most + 1)
        kept_C = (1 - share**counts_C) / (1 - share)
        costs_C: NDArray[np.float64] = (self._fixed + rows * counts_C) / kept_C
        return costs_C
