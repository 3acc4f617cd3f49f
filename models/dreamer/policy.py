"""Acting with an actor of continuous actions in the state of a world: what was seen and done since the episode began.

Every environment draws from its own stream, so that it plays alike beside any others. Its actions are in [-1, 1].

Shapes: N environments of those that play now, C channels of R x R pixels, A numbers of an action.
"""

from collections.abc import Sequence

import torch
from torch import Tensor

from models.dreamer.actor_critic import ActorCritic
from models.dreamer.world_model import Playing, WorldModel
from models.practice.draws import choose
from models.rssm.model import State


class EachRow:
    """Draws of rows, each from a generator of its own, on the CPU. `Draws` of `models.rssm.chance`."""

    def __init__(self, streams: Sequence[torch.Generator]) -> None:
        self._streams = streams

    def uniform(self, what: str, like: Tensor) -> Tensor:
        """See `Draws`."""
        drawn = [torch.rand(like.shape[1:], generator=each) for each in self._streams]
        return torch.stack(drawn).to(like.device)

    def normal(self, what: str, like: Tensor) -> Tensor:
        """See `Draws`."""
        drawn = [torch.randn(like.shape[1:], generator=each) for each in self._streams]
        return torch.stack(drawn).to(like.device)

    def classes(self, what: str, logits: Tensor) -> Tensor:
        """See `Draws`."""
        shape = logits.shape[1:-1]
        drawn = [torch.rand(shape, generator=each, dtype=torch.float64) for each in self._streams]
        return choose(logits, torch.stack(drawn).to(logits.device))

    def order(self, what: str, count: int) -> Tensor:
        """Nothing in play exchanges anything."""
        raise NotImplementedError

    def steps(self, what: str, rows: int, count: int) -> Tensor:
        """Nothing in play looks at a context: encoders read frames alone."""
        raise NotImplementedError

    def some(self, what: str, rows: int, count: int, kept: int) -> Tensor:
        """Nothing in play is drawn as a picture."""
        raise NotImplementedError


class DreamerPolicy:
    """Plays `rows` environments. likeliest: takes the actor's mode; states are drawn all the same, as in the originals.

    Networks are put in eval mode.
    """

    def __init__(self, world: WorldModel, networks: ActorCritic, rows: int, likeliest: bool = False) -> None:
        self._world, self._actor, self._likeliest = world.eval(), networks.eval().actor, likeliest
        self._playing = world.begin(rows)
        self._actions_NA = self._playing.state.deter.new_zeros(rows, world.config.actions)
        self._first_N = torch.ones(rows, dtype=torch.bool, device=self._actions_NA.device)
        self._streams = [torch.Generator().manual_seed(row) for row in range(rows)]

    def begin(self, rows: Sequence[int], seeds: Sequence[int]) -> None:
        """Those environments begin a new episode, with draws from these seeds."""
        for row, seed in zip(rows, seeds, strict=True):
            self._streams[row] = torch.Generator().manual_seed(seed)
        self._first_N[list(rows)] = True

    @torch.no_grad()
    def act(self, frames: Tensor, rows: Sequence[int]) -> Tensor:
        """Actions (N, A) in [-1, 1] for the newest frames (N, C, R, R) uint8 of these environments."""
        chosen = list(rows)
        draws = EachRow([self._streams[row] for row in rows])
        before = self._playing
        playing = Playing(before.state.at(chosen), None if before.first is None else before.first.at(chosen))
        playing = self._world.follow(playing, self._actions_NA[chosen], frames, self._first_N[chosen], draws)
        actions_NA = self._actor.act(playing.state.feature, None if self._likeliest else draws)
        _put(before.state, playing.state, chosen)
        if before.first is not None and playing.first is not None:
            _put(before.first, playing.first, chosen)
        self._actions_NA[chosen], self._first_N[chosen] = actions_NA, False
        return actions_NA


def _put(ours: State, new: State, rows: list[int]) -> None:
    for mine, theirs in zip(ours, new, strict=True):
        mine[rows] = theirs.to(mine.dtype)
