"""Linear layers for playing on a CPU: weights stored the way oneDNN reads them fastest, in float32 or bfloat16.

A search reads every weight for each imagined token, with one row to a few dozen. Measured on 2 threads of an AMD EPYC
(AVX-512), 24 layers of 2048 x 512: 2.7 ms against `nn.Linear`'s 5.9 (1 row), 2.9 against 7.5 (8 rows), 8.9 against 20
(64 rows), 32 against 73 to 133 (295 rows). A GELU or ReLU behind a layer is part of its product: for 4,720 rows, one
thread, 60 ms in float32 against 74 apart. In bfloat16 those take 24. Results differ by rounding only.
"""

import copy
from typing import TypeVar

import torch
from torch import Tensor, nn

M = TypeVar("M", bound=nn.Module)


class PackedLinear(nn.Module):
    """A frozen copy of an `nn.Linear` on the CPU, with the activation behind it; `dtype` is float32 or bfloat16."""

    def __init__(self, linear: nn.Linear, dtype: torch.dtype = torch.float32, activation: str = "none") -> None:
        super().__init__()
        self.weight = torch.ops.mkldnn._reorder_linear_weight(linear.weight.detach().to(dtype))
        self.bias = None if linear.bias is None else linear.bias.detach().to(dtype, copy=True)
        self.dtype, self.activation = dtype, activation

    def forward(self, x: Tensor) -> Tensor:
        x = x.to(self.dtype)
        return torch.ops.mkldnn._linear_pointwise(x, self.weight, self.bias, self.activation, [], "none")


def packing_type(module: nn.Module) -> torch.dtype | None:
    """What packing helps to now: autocast's bfloat16 or float32, of float32 weights on the CPU; None if it does not."""
    weights = list(module.parameters())
    if not torch.backends.mkldnn.is_available() or any(
        weight.device.type != "cpu" or weight.dtype != torch.float32 for weight in weights
    ):
        return None
    if not torch.is_autocast_enabled("cpu"):
        return torch.float32
    bf16 = torch.get_autocast_dtype("cpu") == torch.bfloat16 and torch.ops.mkldnn._is_mkldnn_bf16_supported()
    return torch.bfloat16 if bf16 else None


def packed(module: M, dtype: torch.dtype = torch.float32) -> M:
    """A copy of `module` whose linear layers are packed as they are now; it shares all other parameters and buffers."""
    shared = {id(tensor): tensor for tensor in (*module.parameters(), *module.buffers())}
    twin = copy.deepcopy(module, shared)
    for parent in list(twin.modules()):
        children = list(parent.named_children())
        for place, (name, child) in enumerate(children):
            if not isinstance(child, nn.Linear):
                continue
            behind = children[place + 1 : place + 2] if isinstance(parent, nn.Sequential) else []
            activation = _name(behind[0][1]) if behind else "none"
            setattr(parent, name, PackedLinear(child, dtype, activation))
            if activation != "none":
                setattr(parent, behind[0][0], nn.Identity())
    return twin


def _name(module: nn.Module) -> str:
    """What oneDNN calls an activation that it can apply; "none" for any other module."""
    if isinstance(module, nn.GELU) and module.approximate == "none":
        return "gelu"
    return "relu" if isinstance(module, nn.ReLU) else "none"
