"""Delta-IRIS's world model as a world: one step after another, for N rows at once.

An observation is the frame itself, its bytes in a row. A step reads the action, and with it what the step before left:
its change's last token and the frame that was drawn. Rewards, ends and the first token come of that; the other tokens
of a pass each. The tokenizer draws the next frame of the newest one, the action and the tokens, in whole bytes. Where
no more than a block of positions is left, all but the newest frame is forgotten. Source: arXiv 2406.19320, section 3.2.

Shapes: N rows, C frames, S = channels * R * R numbers of a frame, K tokens a change, L tokens, D width.
"""

import torch
from torch import Tensor

from models.api import Remembered
from models.blocks.transformer import KVCache, PaddedCache
from models.cpu.shortcuts import PackedModule
from models.delta_iris.config import DeltaTokenizerConfig
from models.delta_iris.numbers import points
from models.delta_iris.tokenizer import Change, DeltaTokenizer
from models.delta_iris.world_model import WorldModel
from models.losses.binned import expected_value
from models.practice.draws import Draw
from models.practice.world import Step


class DeltaPlayer:
    """Plays both networks, whose weights are read as they are at a `reset`, in autocast's type."""

    def __init__(self, model: WorldModel, tokenizer: DeltaTokenizer) -> None:
        self._packed, self.tokenizer = PackedModule(model), tokenizer
        self.model = model  # what is called: the model itself or, on a CPU, its packed copy
        self.cache: KVCache | None = None
        self.tokens_NK: Tensor  # of the newest change
        self.rewards_NV: Tensor  # logits of the newest reward
        self._points = points(model.pos_emb.weight.device)
        self._passes, self._flushed = 0, False

    @property
    def remembered(self) -> Remembered:
        """See `models.practice.world.RememberingPlayer`."""
        length = 0 if self.cache is None else self.cache.length
        steps = -(-length // self.model.tokens_per_block)
        most = self.model.config.max_steps
        return Remembered(min(steps + bool(self._passes), most), most, "flush" if self._flushed else "", self._passes)

    def reset(self, tokens_NK: Tensor) -> None:
        """See `models.practice.world.Player`. Raises ValueError where the frames are of another size."""
        self.follow(tokens_NK[:, None], tokens_NK.new_zeros(len(tokens_NK), 0, dtype=torch.long))

    @torch.no_grad()
    def follow(self, tokens_NCK: Tensor, actions_NC: Tensor, padding_NC: Tensor | None = None) -> None:
        """See `models.practice.world.RememberingPlayer`: of older frames, those that leave room for a next step.

        padding: (N, C) bool, True at frames that are not to be seen; the newest is always real.
        """
        self.model = self._packed.current()
        drop = max(0, tokens_NCK.shape[1] - (self.model.config.max_steps - 1))
        tokens_NCK, actions_NC = tokens_NCK[:, drop:], actions_NC[:, drop:]
        frames_NCCRR = as_frames(tokens_NCK, self.tokenizer.config)
        rows, between = actions_NC.shape
        change = Change(frames_NCCRR[:, :-1].flatten(0, 1), actions_NC.flatten(), frames_NCCRR[:, 1:].flatten(0, 1))
        latents_NCK = self.tokenizer.tokens(change).unflatten(0, (rows, between)) if between else None
        self.frame, self._passes, self._flushed = frames_NCCRR[:, -1], 0, False
        embedded_NCD = self.model.embed_frames(frames_NCCRR)
        here_N1D = embedded_NCD[:, -1:]
        self._new_cache(rows, None if padding_NC is None else padding_NC[:, drop:])
        if latents_NCK is not None:
            past_NLD = self.model.embed(embedded_NCD[:, :-1], actions_NC, latents_NCK)
            here_N1D = torch.cat([past_NLD, here_N1D.to(past_NLD.dtype)], dim=1)
        self.read(here_N1D)
        self._waiting_NLD = here_N1D[:, :0]  # read before the next action

    def _new_cache(self, rows: int, padding_NC: Tensor | None = None) -> None:
        if padding_NC is None or not bool(padding_NC.any()):
            self.cache = self.model.empty_cache(rows, self.cache)
            return
        plain = self.model.empty_cache(rows)
        cache = PaddedCache(plain.keys, plain.values)
        cache.hide(padding_NC.repeat_interleave(self.model.tokens_per_block, 1))
        self.cache = cache

    @torch.no_grad()
    def step(self, actions_N: Tensor, draw: Draw, observe: bool = True) -> Step:
        """See `models.practice.world.Player`. Raises ValueError before any reset."""
        if self.cache is None:
            raise ValueError("This world has no rows yet: reset it first")
        model = self.model
        self._passes = 0
        self._flushed = self.cache.capacity - self.cache.length <= model.tokens_per_block
        waiting_NLD = self._waiting_NLD
        if self._flushed:  # the frame is all that is known
            self._new_cache(len(actions_N))
            waiting_NLD = model.embed_frames(self.frame)[:, None]
        hidden_ND = self.read(torch.cat([waiting_NLD, self._typed(model.act_emb(actions_N)[:, None])], dim=1))
        self.rewards_NV = logits_NV = model.head_rewards(hidden_ND)
        if model.config.rewards == "sign":
            rewards_N = draw("rewards", logits_NV).float() - 1
        else:
            rewards_N = expected_value(logits_NV, self._points)
        ends_N = draw("ends", model.head_ends(hidden_ND)).bool()
        if not observe:
            return Step(rewards_N, ends_N, None)
        tokens = [draw("tokens", model.head_latents(hidden_ND))]
        while len(tokens) < model.tokens_per_change:
            hidden_ND = self.read(self._typed(model.latents_emb(tokens[-1])[:, None]))
            tokens.append(draw("tokens", model.head_latents(hidden_ND)))
        self.tokens_NK = torch.stack(tokens, dim=1)
        self.frame = self.tokenizer.next_frames(self.frame, actions_N, self.tokens_NK)
        last_N1D = self._typed(model.latents_emb(tokens[-1])[:, None])
        self._waiting_NLD = torch.cat([last_N1D, self._typed(model.embed_frames(self.frame)[:, None])], dim=1)
        return Step(rewards_N, ends_N, as_observations(self.frame))

    def read(self, x_NLD: Tensor) -> Tensor:
        """Outputs (N, D) of the newest of these tokens, which are added to the cache."""
        assert self.cache is not None
        self._passes += 1
        return self.model.read(x_NLD, self.cache)[:, 0]

    def _typed(self, x: Tensor) -> Tensor:
        """Embeddings beside frames': autocast leaves the ones as they are and not the others."""
        return x.float()


def as_frames(observations: Tensor, config: DeltaTokenizerConfig) -> Tensor:
    """Frames (..., C, R, R) in [0, 1] of observations (..., S) uint8. Raises ValueError for another size."""
    shape = (config.frame_channels, config.resolution, config.resolution)
    if observations.shape[-1] != shape[0] * shape[1] * shape[2]:
        raise ValueError(f"Observations {tuple(observations.shape)} are no frames of {' x '.join(map(str, shape))}")
    return observations.unflatten(-1, shape).float() / 255


def as_observations(frames: Tensor) -> Tensor:
    """Observations (..., S) uint8 of frames (..., C, R, R) in [0, 1]."""
    return (frames * 255).round().to(torch.uint8).flatten(-3)
