"""IRIS's world model as a world: one step after another, token by token, for N rows at once.

Every kind of world model of this family is played by a `Player`, and imagination knows no more than that. IRIS's own
keeps keys and values of all tokens since it was last rebuilt; when a step would not fit behind them, it forgets all but
the current frame (arXiv 2209.00588, appendix A.2; the original does so in play and in imagination alike).

Shapes: N rows, K tokens a frame, C steps of context, D width.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Protocol

import torch
from torch import Tensor

from models.api import Context, Imagined, Remembered
from models.cpu.shortcuts import PackedModule
from models.iris.config import WorldModelConfig
from models.iris.draws import Draw, Given, likeliest
from models.iris.ncp import CircuitMemory, NcpFrames, NcpTokens
from models.iris.world_model import TokenWorldModel, WorldModel

AnyWorldModel = TokenWorldModel | NcpFrames


@dataclass(frozen=True)
class Step:
    """What followed an action: reward in {-1, 0, 1}, whether the game ended, and the next frame's tokens, if wanted."""

    rewards_N: Tensor  # float32
    ends_N: Tensor  # bool
    tokens_NK: Tensor | None  # long


class Player(Protocol):
    """A world model that is being played. Its network should be in eval mode; nothing here has gradients."""

    def reset(self, tokens_NK: Tensor) -> None:
        """reset(tokens (N, K) of a frame) -> None: forget everything and stand there, without history"""
        ...

    def step(self, actions_N: Tensor, draw: Draw, observe: bool = True) -> Step:
        """step(actions (N,), draw, observe) -> Step; where `observe` is False no next frame is made: the last step"""
        ...


class RememberingPlayer(Player, Protocol):
    """A player that says what it still knows."""

    @property
    def remembered(self) -> Remembered:
        """See `models.api.Dream`."""
        ...


class TokenPlayer:
    """Plays a model that reads token after token. Its weights are read as they are at a `reset`, in autocast's type."""

    def __init__(self, model: TokenWorldModel) -> None:
        self._packed = PackedModule(model)
        self.model = model  # what is called: the model itself or, on a CPU, its packed copy
        self.memory: Any = None
        self.newest_ND: Tensor  # hidden state of the newest token
        self._passes, self._flushed = 0, False  # of the newest step

    @property
    def remembered(self) -> Remembered:
        """See `RememberingPlayer`. A memory is full where the next step's action and frame do not fit."""
        per_step, memory = self.model.config.tokens_per_step, self.memory
        most = int(memory.capacity) // per_step if math.isfinite(memory.capacity) else 0
        return Remembered(-(-int(memory.length) // per_step), most, "flush" if self._flushed else "", self._passes)

    @torch.no_grad()
    def reset(self, tokens_NK: Tensor) -> None:
        """See `Player`. Raises ValueError where the frames have another number of tokens."""
        self.model = self._packed.current()
        require_frames(tokens_NK, self.model.config)
        self._passes, self._flushed = 0, False
        self._rebuild(tokens_NK)

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
        tokens = []
        for _ in range(config.tokens_per_frame):
            tokens.append(draw("tokens", model.head_observations(self.newest_ND)))
            self.newest_ND = model.read_frame(tokens[-1][:, None], self.memory)[:, 0]
        self._tokens_NK = torch.stack(tokens, dim=1)
        return Step(rewards_N, ends_N, self._tokens_NK)


class FramePlayer:
    """Plays a model that reads a frame with its action at once: the start frame is read with the first action."""

    def __init__(self, model: NcpFrames) -> None:
        self._packed = PackedModule(model)
        self.model = model
        self.memory: CircuitMemory | None = None
        self._steps = 0

    @property
    def remembered(self) -> Remembered:
        """See `RememberingPlayer`: a circuit forgets nothing by force."""
        return Remembered(self._steps + 1, 0, "", min(self._steps, 1))

    @torch.no_grad()
    def reset(self, tokens_NK: Tensor) -> None:
        """See `Player`. Raises ValueError where the frames have another number of tokens."""
        self.model = self._packed.current()
        require_frames(tokens_NK, self.model.config)
        self.memory, self._tokens_NK = self.model.ncp_layers.empty_memory(len(tokens_NK)), tokens_NK
        self._steps = 0

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


def draw_outcome(model: TokenWorldModel | NcpFrames, newest_ND: Tensor, draw: Draw) -> tuple[Tensor, Tensor]:
    """Rewards (N,) in {-1, 0, 1} and ends (N,) behind an action's hidden state."""
    rewards_N = draw("rewards", model.head_rewards(newest_ND)).float() - 1
    return rewards_N, draw("ends", model.head_ends(newest_ND)).bool()


def require_frames(tokens_NK: Tensor, config: WorldModelConfig) -> None:
    """Raises ValueError where frames have another number of tokens."""
    if tokens_NK.shape[1:] != (config.tokens_per_frame,):
        raise ValueError(f"Tokens {tuple(tokens_NK.shape)} are no frames of {config.tokens_per_frame} tokens")


def new_world_model(config: WorldModelConfig, seed: int = 0) -> AnyWorldModel:
    """The network of that kind; `seed` fixes its first weights."""
    if config.kind == "ncp_frames":
        return NcpFrames(config, seed)
    return NcpTokens(config, seed) if config.kind == "ncp_tokens" else WorldModel(config, seed)


def player_of(model: AnyWorldModel) -> RememberingPlayer:
    """How a network of any kind is played."""
    return FramePlayer(model) if isinstance(model, NcpFrames) else TokenPlayer(model)


class PlayedWorld:
    """A player as a `models.api.Dream`: a single line of steps, which values no actions.

    own: turns the environment's actions into those that the player knows.
    """

    def __init__(
        self,
        player: RememberingPlayer,
        draw: Draw = likeliest,
        own: Callable[[Tensor], Tensor] = lambda actions: actions,
    ) -> None:
        self._player, self._draw, self._own = player, draw, own
        self._nodes = self._rows = 0

    @property
    def remembered(self) -> Remembered:
        """See `models.api.Dream`."""
        return self._player.remembered

    def reset(self, context: Context) -> Imagined:
        """Read the context step by step, as if it had been imagined, so that it is forgotten as imagined steps are."""
        rows, steps, _ = context.tokens_NCK.shape
        self._rows, self._nodes = rows, 1
        self._player.reset(context.tokens_NCK[:, 0])
        nothing_N = context.games_N.new_zeros(rows)
        for step in range(1, steps):
            tokens = list(context.tokens_NCK[:, step].unbind(1))
            given = Given(rewards=[nothing_N], ends=[nothing_N], tokens=tokens)
            self._player.step(self._own(context.actions_NC[:, step - 1]), given)
        return self._here(nothing_N.float(), nothing_N.bool(), context.tokens_NCK[:, -1])

    def step(self, actions_M: Tensor, parents_M: Tensor | None = None) -> Imagined:
        """See `models.api.WorldModel`. Raises ValueError where anything but the newest step is to be continued."""
        newest = self._nodes - 1
        if len(actions_M) != self._rows or (parents_M is not None and not bool((parents_M == newest).all())):
            raise ValueError(
                f"{len(actions_M)} actions for {self._rows} rows: this world goes on from its newest step alone, with "
                "an action a row"
            )
        self._nodes += 1
        found = self._player.step(self._own(actions_M), self._draw)
        assert found.tokens_NK is not None, "a next frame was wanted"
        return self._here(found.rewards_N, found.ends_N, found.tokens_NK)

    def _here(self, rewards_N: Tensor, ends_N: Tensor, tokens_NK: Tensor) -> Imagined:
        return Imagined(rewards_N.new_zeros(len(rewards_N), 0), rewards_N, ends_N, tokens_NK)
