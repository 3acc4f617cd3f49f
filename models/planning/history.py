"""What each of many environments saw lately: the newest frames' tokens and the actions between them, for planners.

Shapes: N environments of those that are meant, R environments in all, C newest steps, T steps, K tokens a frame.
"""

from collections.abc import Sequence

import torch
from torch import Tensor

from models.api import Context


class History:
    """The newest `length` steps of each environment of `games_R`, the newest one last.

    The newest action is unknown until `done` tells it. Tokens are kept in the dtype in which the first ones come.
    """

    def __init__(self, games_R: Tensor, length: int) -> None:
        self._games_R, self.length = games_R, length
        self._tokens_RCK: Tensor | None = None
        self._actions_RC = torch.zeros(len(games_R), length, dtype=torch.long, device=games_R.device)
        self._seen = [0] * len(games_R)

    def forget(self, rows: Sequence[int]) -> None:
        """These environments begin a new episode."""
        for row in rows:
            self._seen[row] = 0

    def recall(self, row: int, tokens_TK: Tensor, actions_T: Tensor) -> None:
        """This environment is in the middle of an episode, whose newest frames, and actions done at them, these are."""
        steps = min(len(tokens_TK), self.length)
        first = self.length - steps
        self._room(tokens_TK)[row, first:] = tokens_TK[len(tokens_TK) - steps :]
        self._actions_RC[row, first:] = actions_T[len(actions_T) - steps :]
        self._seen[row] = steps

    def see(self, rows: Sequence[int], tokens_NK: Tensor) -> None:
        """One frame more of these environments."""
        rows_N, tokens_RCK = torch.tensor(rows, device=self._games_R.device), self._room(tokens_NK)
        tokens_RCK[rows_N] = torch.cat([tokens_RCK[rows_N, 1:], tokens_NK[:, None]], dim=1)
        self._actions_RC[rows_N] = self._actions_RC[rows_N].roll(-1, dims=1)
        for row in rows:
            self._seen[row] = min(self._seen[row] + 1, self.length)

    def done(self, rows: Sequence[int], actions_N: Tensor) -> None:
        """What was done at the newest frames."""
        self._actions_RC[list(rows), -1] = actions_N

    def groups(self, rows: Sequence[int]) -> list[list[int]]:
        """Places in `rows` of environments that saw equally many steps; in steady play those are all."""
        lengths = sorted({self._seen[row] for row in rows})
        return [[place for place, row in enumerate(rows) if self._seen[row] == steps] for steps in lengths]

    def context(self, rows: Sequence[int]) -> Context:
        """What environments of one group saw."""
        assert self._tokens_RCK is not None, "nothing was seen yet"
        chosen, newest = list(rows), slice(self.length - self._seen[rows[0]], None)
        actions_NC = self._actions_RC[chosen, newest][:, :-1]
        return Context(self._tokens_RCK[chosen, newest], actions_NC, self._games_R[chosen])

    def _room(self, like: Tensor) -> Tensor:
        if self._tokens_RCK is None:
            self._tokens_RCK = like.new_zeros(len(self._seen), self.length, like.shape[-1])
        return self._tokens_RCK
