"""Actions that differ more should lead to worlds that differ more: PreLAR's action-state consistency.

Two lists of differences are made, of latent actions and of what the world expects after them, with the actions of
another video in place of each. As published, signs of all pairs are compared: a sign has no slope, so that this loss
moves nothing, as it was measured too; it stands here for comparison. The soft one compares the same pairs through tanh,
and does move the latent actions: also towards one another, as smaller differences disagree less. The relative one is
the same to all actions of another scale, so that nothing is won by shrinking them. Source: PreLAR (ECCV 2024), section
3.3, and its code.

Shapes: N pairs of a real and an exchanged action.
"""

from typing import Literal

import torch
from torch import Tensor

Consistency = Literal["none", "sign", "soft", "relative"]
LEAST = 0.01  # nats


def sign_consistency(actions_N: Tensor, worlds_N: Tensor) -> Tensor:
    """Mean squared difference of the signs of all pairwise differences, from 0 to 4. Its gradient is 0 everywhere.

    actions: how far each latent action is from the one in its place. worlds: how far what is expected is apart.
    """
    return (_pairs(actions_N).sign() - _pairs(worlds_N.detach()).sign()).square().mean()


def soft_consistency(actions_N: Tensor, worlds_N: Tensor, sharpness: float = 1.0) -> Tensor:
    """The same with tanh in place of the sign, of differences in units of their own standard deviation / sharpness.

    Units are LEAST nats at least: latent actions that hardly differ would be driven apart by a slope without bound. It
    goes towards `sign_consistency` as the sharpness grows. What the world expects is taken as it is, without
    gradient, and so are the units.
    """
    actions_NN = _soft(actions_N, actions_N.detach(), sharpness)
    return (actions_NN - _soft(worlds_N.detach(), worlds_N.detach(), sharpness)).square().mean()


def relative_consistency(actions_N: Tensor, worlds_N: Tensor, sharpness: float = 1.0) -> Tensor:
    """The same with units of actions that have their gradient: actions times a number lose as much, and nothing is
    won by shrinking them all, above LEAST. A few that lie far off raise the unit for all others, though.
    """
    actions_NN = _soft(actions_N, actions_N, sharpness)
    return (actions_NN - _soft(worlds_N.detach(), worlds_N.detach(), sharpness)).square().mean()


def _pairs(numbers_N: Tensor) -> Tensor:
    return numbers_N[:, None] - numbers_N[None, :]


def _soft(numbers_N: Tensor, measured_N: Tensor, sharpness: float) -> Tensor:
    """tanh of all pairwise differences in units of the standard deviation of `measured`."""
    unit = measured_N.var(correction=0).clamp(min=LEAST**2).sqrt()
    return torch.tanh(sharpness * _pairs(numbers_N) / unit)
