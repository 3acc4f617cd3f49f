"""REM's world model as a world: one step after another, for N rows at once.

What was read is in the states of the RetNet. A step reads the frame in sight with the action, and predicts the next
frame from the state behind it in the same pass (POP), or token by token. Where the next frame would lie beyond the
blocks that it learned with, it forgets all but the newest `context` frames, which are read again.

Shapes: N rows, K tokens a frame, C frames, L tokens, D width, V vocabulary, E numbers of a code.
"""

from collections.abc import Callable

import torch
from torch import Tensor

from models.api import Remembered
from models.cpu.shortcuts import PackedModule
from models.practice.draws import Draw
from models.practice.world import Step
from models.rem.world_model import WorldModel


class RemPlayer:
    """Plays a model, whose weights are read as they are at a `reset`, in autocast's type.

    codes: the tokenizer's, (V, E), as they are when asked for.
    """

    ends_only = True  # whether the last layer leaves out what nobody reads

    def __init__(self, model: WorldModel, codes: Callable[[], Tensor]) -> None:
        self._packed, self._codes = PackedModule(model), codes
        self.model = model  # what is called: the model itself or, on a CPU, its packed copy
        self.states: tuple[Tensor, ...] = ()  # a layer: (N, H, E, E), behind all that was read
        self.length = 0  # tokens that were read
        self.newest_ND: Tensor  # output of the newest action
        self._frames = 0  # since nothing was known, with the one in sight
        self._passes, self._flushed = 0, False

    @property
    def remembered(self) -> Remembered:
        """See `models.practice.world.RememberingPlayer`."""
        return Remembered(self._frames, self.model.config.max_steps, "flush" if self._flushed else "", self._passes)

    def reset(self, tokens_NK: Tensor) -> None:
        """See `models.practice.world.Player`. Raises ValueError where the frames have another number of tokens."""
        self.follow(tokens_NK[:, None], tokens_NK.new_zeros(len(tokens_NK), 0))

    @torch.no_grad()
    def follow(self, tokens_NCK: Tensor, actions_NC: Tensor) -> None:
        """See `models.practice.world.RememberingPlayer`: of older frames, those that leave room for a next one."""
        if tokens_NCK.shape[2:] != (self.model.tokens_per_frame,):
            raise ValueError(f"Tokens {tuple(tokens_NCK.shape)} are no frames of {self.model.tokens_per_frame} tokens")
        self.model, self._codes_VE = self._packed.current(), self._codes()
        self._passes, self._flushed = 0, False
        drop = max(0, tokens_NCK.shape[1] - (self.model.config.max_steps - 1))
        self._begin(tokens_NCK[:, drop:], actions_NC[:, drop:])

    def _begin(self, frames_NCK: Tensor, actions_NC: Tensor) -> None:
        """Nothing is read; these frames, with the actions between them, are to be read with the next action."""
        self.states, self.length, self._frames = (), 0, frames_NCK.shape[1]
        self._recent_NCK, self._between_NC = frames_NCK, actions_NC
        past_NLD = self.model.embed(frames_NCK[:, :-1], actions_NC, self._codes_VE)
        here_NKD = self.model.embed_frames(frames_NCK[:, -1], self._codes_VE)
        self._waiting_NLD = torch.cat([past_NLD, here_NKD], dim=1)

    @torch.no_grad()
    def step(self, actions_N: Tensor, draw: Draw, observe: bool = True) -> Step:
        """See `models.practice.world.Player`. Raises ValueError before any reset."""
        if not self._frames:
            raise ValueError("This world has no rows yet: reset it first")
        model, config = self.model, self.model.config
        self._passes, self._flushed = 0, observe and self._frames >= config.max_steps
        if self._flushed:
            self._begin(self._recent_NCK, self._between_NC)
        predicted_NKD = self._read(actions_N, observe and config.pop)
        rewards_N = draw("rewards", model.head_rewards(self.newest_ND)).float() - 1
        ends_N = draw("ends", model.head_ends(self.newest_ND)).bool()
        if not observe:
            return Step(rewards_N, ends_N, None)
        if config.pop:
            tokens_NK = draw("tokens", model.head_observations(predicted_NKD))
            self._waiting_NLD = model.embed_frames(tokens_NK, self._codes_VE)
        else:
            tokens_NK = self._token_by_token(draw)
            self._waiting_NLD = predicted_NKD  # none: they are read already
        kept = config.context
        self._recent_NCK = torch.cat([self._recent_NCK, tokens_NK[:, None]], dim=1)[:, -kept:]
        between_NC = torch.cat([self._between_NC, actions_N[:, None]], dim=1)
        self._between_NC = between_NC[:, max(0, between_NC.shape[1] - kept + 1) :]
        self._frames += 1
        return Step(rewards_N, ends_N, tokens_NK)

    def _read(self, actions_N: Tensor, predict: bool) -> Tensor:
        """Read what waits and the actions; outputs (N, K, D) of the next frame's prediction tokens, if wanted."""
        model = self.model
        x_NLD = torch.cat([self._waiting_NLD, model.embed_actions(actions_N[:, None])], dim=1)
        tokens = model.prediction_tokens(len(x_NLD), 1) if predict else None
        reading = model.retnet.read(
            x_NLD, self.states, self.length, predict=tokens, behind=slice(1, 2), ends_only=self.ends_only
        )
        self.states, self.newest_ND = reading.last, reading.outputs_NLD[:, -1]
        self.length += x_NLD.shape[1]
        self._passes += 1
        return reading.predicted_NMPD.flatten(1, 2)

    def _token_by_token(self, draw: Draw) -> Tensor:
        """A frame's tokens (N, K), each drawn from what the one before it says, and read."""
        model, hidden_ND, tokens = self.model, self.newest_ND, []
        for _ in range(model.tokens_per_frame):
            tokens.append(draw("tokens", model.head_observations(hidden_ND)))
            x_N1D = model.embed_frames(tokens[-1][:, None], self._codes_VE)
            reading = model.retnet.read(x_N1D, self.states, self.length)
            self.states, hidden_ND = reading.last, reading.outputs_NLD[:, 0]
            self.length += 1
            self._passes += 1
        return torch.stack(tokens, dim=1)
