"""Imagined data: real segments whose ends a beam search imagines, to train Q on (arXiv 2410.00564).

The original keeps the frames of the T - H newest steps but the actions and rewards of one step later, so that each
stands one step too early, as its recordings show. Here every action stands with the frame in which it was taken.

Shapes: B segments, T steps, H horizon, K tokens a frame, A actions.
"""

from collections.abc import Callable
from dataclasses import replace

import torch
from torch import Tensor

from models.api import Batch, Context, WorldModel
from models.planning.beam import Beam, search


def imaginable(batch: Batch, horizon: int) -> Tensor:
    """Which segments (B,) bool have nothing but real steps in the T - H newest, which the search starts from."""
    return batch.mask_BT[:, horizon:].all(1)


def imagine(
    world: WorldModel,
    batch: Batch,
    legal_BA: Tensor,
    beam: Beam,
    gamma: float,
    decode: Callable[[Tensor], Tensor] | None = None,
) -> Batch:
    """The T - H newest steps of each segment, then the H observations of the best path from there.

    With `decode`, a tokenizer's from tokens (..., K) to frames (..., C, H, W) in [0, 1], and where the batch has
    frames, the result has them too: the real ones, then the imagined ones as uint8. Without, it has tokens only.
    The newest real step's action and reward become the plan's first ones. The last imagined step has no successor and
    repeats the action and reward before it. No step ends the game, none is padding, all segments count as imagined.
    Raises ValueError for a batch without tokens, segments no longer than the horizon, or one that is not `imaginable`.
    """
    steps, horizon = batch.actions_BT.shape[1], beam.horizon
    if batch.tokens_BTK is None:
        raise ValueError("Imagined data starts from tokens: encode the batch's frames first")
    if steps <= horizon or not bool(imaginable(batch, horizon).all()):
        raise ValueError(
            f"Segments of {steps} steps cannot be imagined {horizon} steps further: "
            f"their {max(0, steps - horizon)} newest steps, at least one, must be real"
        )
    context = Context(batch.tokens_BTK[:, horizon:], batch.actions_BT[:, horizon:-1], batch.games_B)
    path = search(world, context, legal_BA, beam, gamma)
    actions_BT = torch.cat([context.actions_NC, path.actions_NH, path.actions_NH[:, -1:]], dim=1)
    rewards = (batch.rewards_BT[:, horizon:-1], path.rewards_NH, path.rewards_NH[:, -1:])
    frames = None
    if decode is not None and batch.frames_BTCHW is not None:
        imagined_BHCHW = (decode(path.tokens_NHK) * 255).round().clamp(0, 255).to(torch.uint8)
        frames = torch.cat([batch.frames_BTCHW[:, horizon:], imagined_BHCHW], dim=1)
    return replace(
        batch,
        tokens_BTK=torch.cat([context.tokens_NCK, path.tokens_NHK], dim=1),
        frames_BTCHW=frames,
        actions_BT=actions_BT,
        rewards_BT=torch.cat([reward.to(batch.rewards_BT.dtype) for reward in rewards], dim=1),
        ends_BT=torch.zeros_like(batch.ends_BT),
        mask_BT=torch.ones_like(batch.mask_BT),
        imagined_B=torch.ones_like(batch.games_B, dtype=torch.bool),
    )
