"""The mean over some entries only, in static shapes."""

from torch import Tensor


def masked_mean(values: Tensor, mask: Tensor) -> Tensor:
    """Mean of `values` where `mask` (bool, same shape) is True; 0 where it is True nowhere. Returns a scalar.

    What stands at masked-out places does not matter, be it infinite or NaN. Raises ValueError where shapes differ.
    """
    if values.shape != mask.shape:
        raise ValueError(f"Values {tuple(values.shape)} and mask {tuple(mask.shape)} differ in shape")
    return values.masked_fill(~mask, 0.0).sum() / mask.sum().clamp(min=1)
