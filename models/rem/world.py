"""REM's world model as a world: one step after another, for N rows at once. See `BlockPlayer`.

What was read is in the states of the RetNet, or in a cache. A step reads the frame in sight with the action, and
predicts the next frame from the state behind it in the same pass (POP), or token by token.

Shapes: N rows, K tokens a frame, L tokens, D width, E numbers of a head.
"""

import torch
from torch import Tensor

from models.blocks.transformer import KVCache
from models.practice.blocks import BlockPlayer
from models.practice.draws import Draw
from models.practice.outcome import draw_outcome, worth_of
from models.practice.world import Step
from models.rem.world_model import States, WorldModel


class RemPlayer(BlockPlayer[WorldModel]):
    """Plays a model, whose weights are read as they are at a `reset`, in autocast's type."""

    ends_only = True  # whether the last layer leaves out what nobody reads
    states: States = ()  # behind all that was read
    length = 0  # tokens that were read
    newest_ND: Tensor  # output of the newest action

    @property
    def retained(self) -> tuple[Tensor, ...]:
        """What the states of a RetNet are: a layer (N, H, E, E)."""
        assert not isinstance(self.states, KVCache), "attention keeps no such states"
        return self.states

    def forget(self, rows: int) -> None:
        """See `BlockPlayer`."""
        self.states, self.length = self.model.nothing_read(rows, self.states), 0

    def foresee(self, actions_N: Tensor, draw: Draw, observe: bool) -> Step:
        """See `BlockPlayer`: rewards and ends are drawn, then the next frame's tokens where they are wanted."""
        model, pop = self.model, self.model.config.pop
        predicted_NKD = self._read(actions_N, observe and pop)
        rewards_N, ends_N = draw_outcome(model, self.newest_ND, draw)
        if not observe:
            return Step(rewards_N, ends_N, None)
        if pop:
            tokens_NK = draw("tokens", model.head_observations(predicted_NKD))
            self.waiting_NLD = self.embedded(tokens_NK)
        else:
            self.waiting_NLD = predicted_NKD  # none: they are read already
            tokens_NK, predicted_NKD = self._token_by_token(draw)
        return Step(worth_of(model, rewards_N, predicted_NKD, self.worth), ends_N, tokens_NK)

    def _read(self, actions_N: Tensor, predict: bool) -> Tensor:
        """Read what waits and the actions; outputs (N, K, D) of the next frame's prediction tokens, if wanted."""
        model = self.model
        x_NLD = torch.cat([self.waiting_NLD, model.embed_actions(actions_N[:, None])], dim=1)
        reading, self.states = model.advance(x_NLD, self.states, self.length, predict, self.ends_only)
        self.newest_ND = reading.outputs_NLD[:, -1]
        self.length += x_NLD.shape[1]
        self.passes += 1
        return reading.predicted_NMPD.flatten(1, 2)

    def _token_by_token(self, draw: Draw) -> tuple[Tensor, Tensor]:
        """A frame's tokens (N, K), each drawn from what the one before it says, and read; and what said them."""
        model, hidden_ND, tokens, said = self.model, self.newest_ND, [], []
        for _ in range(model.tokens_per_frame):
            said.append(hidden_ND)
            tokens.append(draw("tokens", model.head_observations(hidden_ND)))
            token_N1D = self.embedded(tokens[-1][:, None])
            reading, self.states = model.advance(token_N1D, self.states, self.length, predict=False)
            hidden_ND = reading.outputs_NLD[:, 0]
            self.length += 1
            self.passes += 1
        return torch.stack(tokens, dim=1), torch.stack(said, dim=1)
