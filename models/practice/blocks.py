"""What world models share that read whole blocks, a frame's tokens and an action: what of a segment they learn from,
and how they are played step by step.

A step reads the frame in sight with the action. Where the next frame would lie beyond the blocks that a model learned
with, it forgets all but the newest `context` frames, which are read again.

Shapes: B segments, T steps; N rows, K tokens a frame, C frames, L tokens, D width, V vocabulary, E numbers of a code.
"""

from abc import ABC, abstractmethod
from collections.abc import Callable
from typing import Generic, Protocol, TypeVar

import torch
from torch import Tensor, nn

from models.api import Batch, Remembered
from models.cpu.shortcuts import PackedModule
from models.practice.draws import Draw
from models.practice.outcome import Worth
from models.practice.world import Step, require_frames, require_segments
from models.tokenizers.config import TokenizerConfig

# ---- what is learned ----


def learned(batch: Batch, context: int) -> Tensor:
    """Which blocks (B, T) are learned from: real ones behind the first `context` (arXiv 2402.05643, section 2.3)."""
    mask_BT = batch.real_mask().clone()
    mask_BT[:, :context] = False
    return mask_BT


def learned_counts(batch: Batch, context: int, tokens_per_frame: int) -> Tensor:
    """(2,) float64: predicted observation tokens, and learned blocks."""
    blocks = learned(batch, context).sum().double()
    return torch.stack([blocks * tokens_per_frame, blocks])


# ---- how it is played ----


class BlockConfig(Protocol):
    """What is asked of a world model's config."""

    @property
    def max_steps(self) -> int: ...

    @property
    def context(self) -> int: ...


class BlockModel(nn.Module, ABC):
    """A world model that reads blocks of tokens of that tokenizer and an action."""

    config: BlockConfig

    def __init__(self, config: BlockConfig, tokenizer: TokenizerConfig) -> None:
        super().__init__()
        self.config = config
        self.vocabulary, self.tokens_per_frame = tokenizer.vocab_size, tokenizer.tokens_per_frame

    @property
    def tokens_per_block(self) -> int:
        """The frame's tokens and the action."""
        return self.tokens_per_frame + 1

    @abstractmethod
    def embed_frames(self, tokens: Tensor, codes_VE: Tensor) -> Tensor:
        """Embedded tokens (..., D), where `codes` are the tokenizer's."""

    @abstractmethod
    def embed_actions(self, actions: Tensor) -> Tensor:
        """Embedded actions (..., D)."""

    def embed(self, tokens_BTK: Tensor, actions_BT: Tensor, codes_VE: Tensor) -> Tensor:
        """Embedded blocks (B, T * (K + 1), D)."""
        actions_BT1D = self.embed_actions(actions_BT)[:, :, None]
        return torch.cat([self.embed_frames(tokens_BTK, codes_VE), actions_BT1D], dim=2).flatten(1, 2)

    def require_fit(self, tokens_BTK: Tensor) -> None:
        """Raises ValueError for segments of more blocks than it learns, or of other tokens."""
        require_segments(tokens_BTK, self.config.max_steps, self.tokens_per_frame)


Model = TypeVar("Model", bound=BlockModel)


class BlockPlayer(ABC, Generic[Model]):
    """Plays a model, whose weights are read as they are at a `reset`, in autocast's type.

    codes: the tokenizer's, (V, E), as they are when asked for. `waiting_NLD` is what will be read with the next action.
    """

    waiting_NLD: Tensor
    worth: Worth | None = None  # of a step to who practises; None: its reward

    def __init__(self, model: Model, codes: Callable[[], Tensor]) -> None:
        self._packed, self._codes = PackedModule(model), codes
        self.model = model  # what is called: the model itself or, on a CPU, its packed copy
        self.passes = 0  # of this step
        self._frames = 0  # since nothing was known, with the one in sight
        self._flushed = False

    @abstractmethod
    def forget(self, rows: int) -> None:
        """Nothing is read any more."""

    @abstractmethod
    def foresee(self, actions_N: Tensor, draw: Draw, observe: bool) -> Step:
        """Read what waits and the actions, and say what follows; what it draws is to be read next."""

    @property
    def remembered(self) -> Remembered:
        """See `models.practice.world.RememberingPlayer`."""
        return Remembered(self._frames, self.model.config.max_steps, "flush" if self._flushed else "", self.passes)

    def reset(self, tokens_NK: Tensor) -> None:
        """See `models.practice.world.Player`. Raises ValueError where the frames have another number of tokens."""
        self.follow(tokens_NK[:, None], tokens_NK.new_zeros(len(tokens_NK), 0))

    @torch.no_grad()
    def follow(self, tokens_NCK: Tensor, actions_NC: Tensor) -> None:
        """See `models.practice.world.RememberingPlayer`: of older frames, those that leave room for a next one."""
        require_frames(tokens_NCK, self.model.tokens_per_frame)
        self.model, self._codes_VE = self._packed.current(), self._codes()
        self.passes, self._flushed = 0, False
        drop = max(0, tokens_NCK.shape[1] - (self.model.config.max_steps - 1))
        self._begin(tokens_NCK[:, drop:], actions_NC[:, drop:])

    def _begin(self, frames_NCK: Tensor, actions_NC: Tensor) -> None:
        """Nothing is read; these frames, with the actions between them, are to be read with the next action."""
        self.forget(len(frames_NCK))
        self._frames = frames_NCK.shape[1]
        self._recent_NCK, self._between_NC = frames_NCK, actions_NC
        past_NLD = self.model.embed(frames_NCK[:, :-1], actions_NC, self._codes_VE)
        self.waiting_NLD = torch.cat([past_NLD, self.embedded(frames_NCK[:, -1])], dim=1)

    def embedded(self, tokens_NK: Tensor) -> Tensor:
        """A frame's tokens (N, K, D) as the model reads them."""
        return self.model.embed_frames(tokens_NK, self._codes_VE)

    @torch.no_grad()
    def step(self, actions_N: Tensor, draw: Draw, observe: bool = True) -> Step:
        """See `models.practice.world.Player`. Raises ValueError before any reset."""
        if not self._frames:
            raise ValueError("This world has no rows yet: reset it first")
        self.passes, self._flushed = 0, observe and self._frames >= self.model.config.max_steps
        if self._flushed:
            self._begin(self._recent_NCK, self._between_NC)
        found = self.foresee(actions_N, draw, observe)
        if found.tokens_NK is not None:
            kept = self.model.config.context
            self._recent_NCK = torch.cat([self._recent_NCK, found.tokens_NK[:, None]], dim=1)[:, -kept:]
            between_NC = torch.cat([self._between_NC, actions_N[:, None]], dim=1)
            self._between_NC = between_NC[:, max(0, between_NC.shape[1] - kept + 1) :]
            self._frames += 1
        return found
