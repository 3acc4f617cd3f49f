"""IRIS's world model as a world: one step after another, token by token, for N rows at once.

Every kind of world model of this family is played by a `Player`, and imagination knows no more than that. IRIS's own
keeps keys and values of all tokens since it was last rebuilt; when a step would not fit behind them, it forgets all but
the current frame (arXiv 2209.00588, appendix A.2; the original does so in play and in imagination alike).

Shapes: N rows, K tokens a frame, C steps of context, D width.
"""

import math
from typing import Any

import torch
from torch import Tensor

from models.api import Remembered
from models.cpu.shortcuts import PackedModule
from models.iris.config import WorldModelConfig
from models.iris.ncp import CircuitMemory, NcpFrames, NcpTokens
from models.iris.world_model import TokenWorldModel, WorldModel
from models.practice.draws import Draw, Given
from models.practice.outcome import Worth, draw_outcome, worth_of
from models.practice.world import CuriousPlayer, Player, Step, require_frames

AnyWorldModel = TokenWorldModel | NcpFrames


class TokenPlayer:
    """Plays a model that reads token after token. Its weights are read as they are at a `reset`, in autocast's type."""

    def __init__(self, model: TokenWorldModel) -> None:
        self._packed = PackedModule(model)
        self.model = model  # what is called: the model itself or, on a CPU, its packed copy
        self.memory: Any = None
        self.newest_ND: Tensor  # hidden state of the newest token
        self.worth: Worth | None = None
        self._passes, self._flushed = 0, False  # of the newest step

    @property
    def remembered(self) -> Remembered:
        """See `models.practice.world.RememberingPlayer`. A memory is full where a next action and frame do not fit."""
        per_step, memory = self.model.config.tokens_per_step, self.memory
        most = int(memory.capacity) // per_step if math.isfinite(memory.capacity) else 0
        return Remembered(-(-int(memory.length) // per_step), most, "flush" if self._flushed else "", self._passes)

    @torch.no_grad()
    def reset(self, tokens_NK: Tensor) -> None:
        """See `Player`. Raises ValueError where the frames have another number of tokens."""
        self.model = self._packed.current()
        require_frames(tokens_NK, self.model.config.tokens_per_frame)
        self._passes, self._flushed = 0, False
        self._rebuild(tokens_NK)

    def follow(self, tokens_NCK: Tensor, actions_NC: Tensor) -> None:
        """See `models.practice.world.RememberingPlayer`."""
        follow(self, tokens_NCK, actions_NC)

    def _rebuild(self, tokens_NK: Tensor) -> None:
        self.memory = self.model.empty_memory(len(tokens_NK), self.memory)
        self._tokens_NK = tokens_NK
        self.newest_ND = self.model.read_frame(tokens_NK, self.memory)[:, -1]
        self._passes += 1

    @torch.no_grad()
    def step(self, actions_N: Tensor, draw: Draw, observe: bool = True) -> Step:
        """See `Player`. A step is K + 1 passes of one token, or one. Raises ValueError before any reset."""
        if self.memory is None:
            raise ValueError("This world has no rows yet: reset it first")
        model, config = self.model, self.model.config
        passes = config.tokens_per_step if observe else 1
        self._passes, self._flushed = passes, self.memory.length + passes > self.memory.capacity
        if self._flushed:
            self._rebuild(self._tokens_NK)
        self.newest_ND = model.read_action(actions_N, self.memory)
        rewards_N, ends_N = draw_outcome(model, self.newest_ND, draw)
        if not observe:
            return Step(rewards_N, ends_N, None)
        tokens, said = [], []
        for _ in range(config.tokens_per_frame):
            said.append(self.newest_ND)
            tokens.append(draw("tokens", model.head_observations(self.newest_ND)))
            self.newest_ND = model.read_frame(tokens[-1][:, None], self.memory)[:, 0]
        self._tokens_NK = torch.stack(tokens, dim=1)
        if self.worth is not None:
            rewards_N = worth_of(model, rewards_N, torch.stack(said, dim=1), self.worth)
        return Step(rewards_N, ends_N, self._tokens_NK)


class FramePlayer:
    """Plays a model that reads a frame with its action at once: the start frame is read with the first action."""

    def __init__(self, model: NcpFrames) -> None:
        self._packed = PackedModule(model)
        self.model = model
        self.memory: CircuitMemory | None = None
        self.worth: Worth | None = None  # it has no ensemble
        self._steps = 0

    @property
    def remembered(self) -> Remembered:
        """See `models.practice.world.RememberingPlayer`: a circuit forgets nothing by force."""
        return Remembered(self._steps + 1, 0, "", min(self._steps, 1))

    @torch.no_grad()
    def reset(self, tokens_NK: Tensor) -> None:
        """See `Player`. Raises ValueError where the frames have another number of tokens."""
        self.model = self._packed.current()
        require_frames(tokens_NK, self.model.config.tokens_per_frame)
        self.memory, self._tokens_NK = self.model.ncp_layers.empty_memory(len(tokens_NK)), tokens_NK
        self._steps = 0

    def follow(self, tokens_NCK: Tensor, actions_NC: Tensor) -> None:
        """See `models.practice.world.RememberingPlayer`."""
        follow(self, tokens_NCK, actions_NC)

    @torch.no_grad()
    def step(self, actions_N: Tensor, draw: Draw, observe: bool = True) -> Step:
        """See `Player`. A step is one pass. Raises ValueError before any reset."""
        if self.memory is None:
            raise ValueError("This world has no rows yet: reset it first")
        self._steps += 1
        newest_ND = self.model.read(self._tokens_NK[:, None], actions_N[:, None], self.memory)[:, 0]
        rewards_N, ends_N = draw_outcome(self.model, newest_ND, draw)
        if not observe:
            return Step(rewards_N, ends_N, None)
        places = self.model.next_tokens(newest_ND).unbind(1)
        self._tokens_NK = torch.stack([draw("tokens", logits_NV) for logits_NV in places], dim=1)
        return Step(rewards_N, ends_N, self._tokens_NK)


def follow(player: Player, tokens_NCK: Tensor, actions_NC: Tensor) -> None:
    """Read a context step by step, as if it had been imagined, so that it is forgotten as imagined steps are."""
    player.reset(tokens_NCK[:, 0])
    nothing_N = tokens_NCK.new_zeros(len(tokens_NCK))
    for step in range(1, tokens_NCK.shape[1]):
        given = Given(rewards=[nothing_N], ends=[nothing_N], tokens=list(tokens_NCK[:, step].unbind(1)))
        player.step(actions_NC[:, step - 1], given)


def new_world_model(config: WorldModelConfig, seed: int = 0) -> AnyWorldModel:
    """The network of that kind; `seed` fixes its first weights."""
    if config.kind == "ncp_frames":
        return NcpFrames(config, seed)
    return NcpTokens(config, seed) if config.kind == "ncp_tokens" else WorldModel(config, seed)


def player_of(model: AnyWorldModel) -> CuriousPlayer:
    """How a network of any kind is played."""
    return FramePlayer(model) if isinstance(model, NcpFrames) else TokenPlayer(model)
