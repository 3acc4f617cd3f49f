"""The two sides of conservative Q-learning's penalty, `overestimation - data_value` (Kumar et al. 2020, 2006.04779).

`count` as in `masked_mean`. Shapes: B segments, T steps, A actions.
"""

from torch import Tensor

from models.losses.masked import masked_mean


def overestimation(values_BTA: Tensor, mask_BT: Tensor, count: Tensor | None = None) -> Tensor:
    """Mean over real steps of logsumexp over all A actions of Q, legal or not: what the penalty pushes down."""
    return masked_mean(values_BTA.float().logsumexp(-1), mask_BT, count)


def data_value(values_BTA: Tensor, actions_BT: Tensor, mask_BT: Tensor, count: Tensor | None = None) -> Tensor:
    """Mean over the data's steps of Q of the taken action: what the penalty lifts. actions_BT: long.

    `mask_BT` leaves out padding, and in COMBO (Yu et al. 2021, 2102.08363) what a model imagined.
    """
    return masked_mean(values_BTA.float().gather(-1, actions_BT[..., None])[..., 0], mask_BT, count)
