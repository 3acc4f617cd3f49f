"""Acting with an actor of continuous actions in the state of a world: what was seen and done since the episode began.

Every environment draws from its own stream, so that it plays alike beside any others. Its actions are in [-1, 1].

Shapes: N environments of those that play now, T steps, C channels of R x R pixels, A numbers of an action, K of an
observation.
"""

from collections.abc import Sequence
from dataclasses import replace

import torch
from torch import Tensor

from models.api import ActionValues
from models.dreamer.actor_critic import ActorCritic
from models.dreamer.played import sizes
from models.dreamer.world_model import Playing, WorldModel
from models.rssm.chance import EachRow
from models.rssm.model import State


class DreamerPolicy:
    """Plays `rows` environments; states are always drawn, as in the originals.

    temperature: 0 takes the actor's mode, others widen or narrow what it draws from, 1 leaves it. With chance `epsilon`
    an action is any, each of its numbers uniform. Networks are put in eval mode.
    """

    def __init__(
        self, world: WorldModel, networks: ActorCritic, rows: int, temperature: float = 1.0, epsilon: float = 0.0
    ) -> None:
        self._world, self._actor = world.eval(), networks.eval().actor
        self._temperature, self._epsilon = temperature, epsilon
        self._playing = world.begin(rows)
        self._actions_NA = self._playing.state.deter.new_zeros(rows, world.config.actions)
        self._first_N = torch.ones(rows, dtype=torch.bool, device=self._actions_NA.device)
        self._streams = [torch.Generator().manual_seed(row) for row in range(rows)]

    def begin(self, rows: Sequence[int], seeds: Sequence[int]) -> None:
        """Those environments begin a new episode, with draws from these seeds."""
        for row, seed in zip(rows, seeds, strict=True):
            self._streams[row] = torch.Generator().manual_seed(seed)
        self._first_N[list(rows)] = True

    def recall(self, row: int, frames: Tensor, actions: Tensor) -> None:
        """See `models.api.Policy`."""
        for frame_CRR, action_A in zip(frames, actions, strict=True):
            self._see(frame_CRR[None], [row])
            self._actions_NA[row] = action_A

    @torch.no_grad()
    def act(self, frames: Tensor, rows: Sequence[int]) -> Tensor:
        """Actions (N, A) in [-1, 1] for the newest frames (N, C, R, R) uint8 of these environments."""
        return self._choose(self._see(frames, rows).feature, rows)

    @torch.no_grad()
    def act_on_tokens(self, tokens_NK: Tensor, rows: Sequence[int]) -> Tensor:
        """Actions (N, A) in the states that observations (N, K) hold; what it saw before counts no more."""
        return self._choose(tokens_NK.split(sizes(self._world.config), dim=1)[1], rows)

    def values(self, row: int) -> ActionValues:
        """Raises ValueError: there are no actions to be told apart."""
        raise ValueError("Actions that are numbers have no values to show one by one: watch this agent without them")

    def _choose(self, feature_NZ: Tensor, rows: Sequence[int]) -> Tensor:
        draws = EachRow([self._streams[row] for row in rows])
        found = self._actor.policy(feature_NZ)
        if self._temperature == 0:
            actions_NA = found.mode
        else:  # the density to the power of 1 / temperature
            wide = replace(found, std=found.std * self._temperature**0.5)
            actions_NA = wide.draw(draws.uniform("action", found.mean))
        if self._epsilon:
            random_N = draws.uniform("explore", feature_NZ[:, 0]) < self._epsilon
            any_NA = draws.uniform("any", actions_NA) * 2 - 1
            actions_NA = torch.where(random_N[:, None], any_NA, actions_NA)
        self._actions_NA[list(rows)] = actions_NA
        return actions_NA

    @torch.no_grad()
    def _see(self, frames: Tensor, rows: Sequence[int]) -> State:
        """Their states after these frames."""
        chosen = list(rows)
        draws = EachRow([self._streams[row] for row in rows])
        before = self._playing
        playing = Playing(before.state.at(chosen), None if before.first is None else before.first.at(chosen))
        playing = self._world.follow(playing, self._actions_NA[chosen], frames, self._first_N[chosen], draws)
        _put(before.state, playing.state, chosen)
        if before.first is not None and playing.first is not None:
            _put(before.first, playing.first, chosen)
        self._first_N[chosen] = False
        return playing.state


def _put(ours: State, new: State, rows: list[int]) -> None:
    for mine, theirs in zip(ours, new, strict=True):
        mine[rows] = theirs.to(mine.dtype)
