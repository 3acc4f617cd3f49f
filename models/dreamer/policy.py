"""Acting with an actor of continuous actions in the state of a world: what was seen and done since the episode began.

Every environment draws from its own stream, so that it plays alike beside any others. Its actions are in [-1, 1].

Shapes: N environments of those that play now, C channels of R x R pixels, A numbers of an action.
"""

from collections.abc import Sequence

import torch
from torch import Tensor

from models.dreamer.actor_critic import ActorCritic
from models.dreamer.world_model import Playing, WorldModel
from models.rssm.chance import EachRow
from models.rssm.model import State


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
