"""The mean over some entries only, in static shapes."""

from torch import Tensor


def masked_mean(values: Tensor, mask: Tensor, count: Tensor | None = None) -> Tensor:
    """Mean of `values` where `mask` (bool, same shape) is True; 0 where it is True nowhere. Returns a scalar.

    `count`: how many entries the whole batch has, of which this is a part; the parts' results then add up to its mean.

    What stands at masked-out places does not matter, be it infinite or NaN. Raises ValueError where shapes differ.
    """
    if values.shape != mask.shape:
        raise ValueError(f"Values {tuple(values.shape)} and mask {tuple(mask.shape)} differ in shape")
    return values.masked_fill(~mask, 0.0).sum() / (mask.sum() if count is None else count.to(values.dtype)).clamp(min=1)
