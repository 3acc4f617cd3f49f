"""Linear layers for playing on a CPU: weights stored the way oneDNN reads them fastest, in float32 or bfloat16.

A search reads every weight for each imagined token, with one row to a few dozen, so reading is what it costs. A GELU or
ReLU behind a layer is part of its product. Results differ from the plain way's by rounding only.
"""

import copy
from typing import Generic, TypeVar

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from models.cpu import shortcuts

M = TypeVar("M", bound=nn.Module)


class PackedModule(Generic[M]):
    """A module with its packed copy, which is made anew when the weights or autocast's type have changed."""

    def __init__(self, module: M) -> None:
        self._module = self._copy = module
        self._copied_at: tuple[object, ...] = ()  # type and versions of the weights

    def current(self) -> M:
        """What to call without gradients: a copy with the weights of now, or the module where a copy is no help."""
        dtype = packing_type(self._module)
        if dtype is None:
            return self._module
        weights = self._module.parameters()
        versions = (dtype, *(0 if weight.is_inference() else weight._version for weight in weights))
        if versions != self._copied_at:
            self._copy, self._copied_at = packed(self._module, dtype), versions
        return self._copy


def packing_type(module: nn.Module) -> torch.dtype | None:
    """What packing helps to now: autocast's bfloat16 or float32, of float32 weights on the CPU; None if it does not."""
    if not torch.backends.mkldnn.is_available() or not all(
        shortcuts.taken(weight) and weight.dtype == torch.float32 for weight in module.parameters()
    ):
        return None
    if not torch.is_autocast_enabled("cpu"):
        return torch.float32
    bf16 = torch.get_autocast_dtype("cpu") == torch.bfloat16 and torch.ops.mkldnn._is_mkldnn_bf16_supported()
    return torch.bfloat16 if bf16 else None


class PackedLinear(nn.Module):
    """A frozen copy of an `nn.Linear` on the CPU, with the activation behind it; `dtype` is float32 or bfloat16.

    A single row in float32 goes through the plain layer, which Intel's library multiplies sooner.
    """

    def __init__(self, linear: nn.Linear, dtype: torch.dtype = torch.float32, behind: nn.Module | None = None) -> None:
        super().__init__()
        self.weight = torch.ops.mkldnn._reorder_linear_weight(linear.weight.detach().to(dtype))
        self.bias = None if linear.bias is None else linear.bias.detach().to(dtype, copy=True)
        self.dtype, self.activation = dtype, _name(behind)
        self.plain, self.behind = linear, behind

    def forward(self, x: Tensor) -> Tensor:  # (..., I) -> (..., O)
        if self.dtype == torch.float32 and x.numel() == x.shape[-1]:
            y = F.linear(x, self.plain.weight, self.plain.bias)
            return y if self.behind is None else self.behind(y)
        x = x.to(self.dtype)
        return torch.ops.mkldnn._linear_pointwise(x, self.weight, self.bias, self.activation, [], "none")


def packed(module: M, dtype: torch.dtype = torch.float32) -> M:
    """A copy of `module` whose linear layers are packed as they are now; it shares all other parameters and buffers."""
    shared = {id(tensor): tensor for tensor in (*module.parameters(), *module.buffers())}
    twin = copy.deepcopy(module, shared)
    for parent in list(twin.modules()):
        children = list(parent.named_children())
        for place, (name, child) in enumerate(children):
            if not isinstance(child, nn.Linear):
                continue
            next_name, behind = children[place + 1] if children[place + 1 :] else ("", None)
            fused = isinstance(parent, nn.Sequential) and _name(behind) != "none"
            setattr(parent, name, PackedLinear(child, dtype, behind if fused else None))
            if fused:
                setattr(parent, next_name, nn.Identity())
    return twin


def _name(module: nn.Module | None) -> str:
    """What oneDNN calls an activation that it can apply; "none" for any other module."""
    if isinstance(module, nn.GELU) and module.approximate == "none":
        return "gelu"
    return "relu" if isinstance(module, nn.ReLU) else "none"
