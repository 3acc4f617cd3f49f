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
from models.blocks.drafts import Drafts, Pace, copies_right, fixed_cost
from models.blocks.verify import Network, verify
from models.cpu.shortcuts import PackedModule
from models.iris.config import WorldModelConfig
from models.iris.ncp import CircuitMemory, NcpFrames, NcpTokens
from models.iris.world_model import TokenWorldModel, WorldModel
from models.practice.draws import Draw, ForeseenDraw
from models.practice.outcome import Worth, draw_outcome, worth_of
from models.practice.world import CuriousPlayer, Step, require_frames

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
        steps = -(-int(self.memory.length) // self.model.config.tokens_per_step)
        return Remembered(steps, self._most, "flush" if self._flushed else "", self._passes)

    @property
    def _most(self) -> int:
        """Steps that a memory holds; 0 where nothing is ever forgotten by force."""
        capacity = self.memory.capacity
        return int(capacity) // self.model.config.tokens_per_step if math.isfinite(capacity) else 0

    def reset(self, tokens_NK: Tensor) -> None:
        """See `Player`. Raises ValueError where the frames have another number of tokens."""
        self.follow(tokens_NK[:, None], tokens_NK.new_zeros(len(tokens_NK), 0))

    @torch.no_grad()
    def follow(self, tokens_NCK: Tensor, actions_NC: Tensor) -> None:
        """See `models.practice.world.RememberingPlayer`: one pass, of all that imagined steps would not have forgotten.

        Raises ValueError where the frames have another number of tokens.
        """
        self.model = self._packed.current()
        require_frames(tokens_NCK, self.model.config.tokens_per_frame)
        self._passes, self._flushed = 0, False
        self._begin_anew(len(tokens_NCK))
        steps = actions_NC.shape[1]
        if self._most and steps >= self._most:  # steps go on from a single frame each time that memory is full
            steps = (steps - 1) % (self._most - 1) + 1
        self._read(tokens_NCK[:, -1 - steps :], actions_NC[:, actions_NC.shape[1] - steps :])

    def _begin_anew(self, rows: int) -> None:
        self.memory = self.model.empty_memory(rows, self.memory)

    def _read(self, tokens_NTK: Tensor, actions_NT: Tensor) -> None:
        """Read T frames and the T - 1 actions between them."""
        self._tokens_NK = tokens_NTK[:, -1]
        self.newest_ND = self.model.read_steps(tokens_NTK, actions_NT, self.memory)[:, -1]
        self._passes += 1

    @torch.no_grad()
    def step(self, actions_N: Tensor, draw: Draw, observe: bool = True) -> Step:
        """See `Player`. A step is K + 1 passes of one token, or one. Raises ValueError before any reset."""
        if self.memory is None:
            raise ValueError("This world has no rows yet: reset it first")
        model, config = self.model, self.model.config
        new = config.tokens_per_step if observe else 1
        self._passes, self._flushed = 0, self.memory.length + new > self.memory.capacity
        if self._flushed:
            self._begin_anew(len(actions_N))
            self._read(self._tokens_NK[:, None], actions_N[:, None][:, :0])
        said, tokens = self._begin(actions_N, draw, observe)
        rewards_N, ends_N = draw_outcome(model, said[0], draw)
        while len(said) < new:
            tokens.append(draw("tokens", model.head_observations(said[-1])))
            said.append(model.read_frame(tokens[-1][:, None], self.memory)[:, 0])
            self._passes += 1
        self.newest_ND = said[-1]
        if not observe:
            return Step(rewards_N, ends_N, None)
        self._tokens_NK = torch.stack(tokens, dim=1)
        if self.worth is not None:
            rewards_N = worth_of(model, rewards_N, torch.stack(said[:-1], dim=1), self.worth)
        return Step(rewards_N, ends_N, self._tokens_NK)

    def _begin(self, actions_N: Tensor, draw: Draw, observe: bool) -> tuple[list[Tensor], list[Tensor]]:
        """Read the action, and what may be known of the frame that follows: hidden states (N, D) behind the action and
        behind each of those tokens (N,), and the tokens."""
        self._passes += 1
        return [self.model.read_action(actions_N, self.memory)], []


class DraftingPlayer(TokenPlayer):
    """A player of a transformer that takes the newest frame for a draft of the next, and verifies it where that pays.

    What it imagines is the same, drawn by the same numbers. `Pace` decides: of many rows, which would stop at as many
    places, every token is a pass as before; so it is of draws that are `Given`. drafts: False verifies none.
    """

    def __init__(self, model: WorldModel, drafts: bool = True) -> None:
        super().__init__(model)
        self._drafts = drafts

    def follow(self, tokens_NCK: Tensor, actions_NC: Tensor) -> None:
        """See `TokenPlayer`. How many drafts are right is what real frames say, until the first was verified."""
        super().follow(tokens_NCK, actions_NC)
        fixed = fixed_cost(self.model.config.width, tokens_NCK.device.type)
        self._pace = Pace(copies_right(tokens_NCK), fixed)

    def _begin(self, actions_N: Tensor, draw: Draw, observe: bool) -> tuple[list[Tensor], list[Tensor]]:
        if not (observe and self._drafts and isinstance(draw, ForeseenDraw)):
            return super()._begin(actions_N, draw, observe)
        drafts = Drafts(self._tokens_NK.cpu().numpy())
        if self._pace.prefers_one_by_one(drafts):
            return super()._begin(actions_N, draw, observe)
        model, memory, rows, places = self.model, self.memory, len(actions_N), drafts.places
        assert isinstance(model, WorldModel)
        actions, codes = model.embedder.embedding_tables
        x_NSD = model.pos_emb.weight[memory.length : memory.length + places].repeat(rows, 1, 1)
        x_NSD[:, 0] += actions(actions_N)
        memory.open(places)
        hidden_NSD, passes = verify(
            drafts,
            self._pace,
            Network(codes, model.transformer, model.head_observations),
            memory,
            x_NSD,
            draw.ahead("tokens", rows, places - 1),
        )
        self._passes += passes
        memory.close(drafts.read)
        draw.skip("tokens", rows, drafts.read - 1)
        tokens_NK = torch.from_numpy(drafts.tokens_MS[:, 1 : drafts.read]).to(actions_N.device)
        return list(hidden_NSD[:, : drafts.read].unbind(1)), list(tokens_NK.unbind(1))


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

    def reset(self, tokens_NK: Tensor) -> None:
        """See `Player`. Raises ValueError where the frames have another number of tokens."""
        self.follow(tokens_NK[:, None], tokens_NK.new_zeros(len(tokens_NK), 0))

    @torch.no_grad()
    def follow(self, tokens_NCK: Tensor, actions_NC: Tensor) -> None:
        """See `models.practice.world.RememberingPlayer`, in one pass. Raises ValueError as `reset` does."""
        self.model = self._packed.current()
        require_frames(tokens_NCK, self.model.config.tokens_per_frame)
        self.memory, self._tokens_NK = self.model.ncp_layers.empty_memory(len(tokens_NCK)), tokens_NCK[:, -1]
        self._steps = actions_NC.shape[1]
        if self._steps:
            self.model.read(tokens_NCK[:, :-1], actions_NC, self.memory)

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


def new_world_model(config: WorldModelConfig, seed: int = 0) -> AnyWorldModel:
    """The network of that kind; `seed` fixes its first weights."""
    if config.kind == "ncp_frames":
        return NcpFrames(config, seed)
    return NcpTokens(config, seed) if config.kind == "ncp_tokens" else WorldModel(config, seed)


def player_of(model: AnyWorldModel) -> CuriousPlayer:
    """How a network of any kind is played: a transformer with drafts of frames where these pay."""
    if isinstance(model, NcpFrames):
        return FramePlayer(model)
    return DraftingPlayer(model) if isinstance(model, WorldModel) else TokenPlayer(model)
