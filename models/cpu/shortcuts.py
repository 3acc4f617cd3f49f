"""How a CPU computes dropout, attention, linear layers and convolutions sooner than PyTorch's layers; and the switch.

A shortcut gives the plain way's numbers up to rounding; dropout draws other random numbers of the same distribution.
What was measured to be slower, on AMD or on Intel with AMX, has no place here: BENCHMARKS.md, "CPU shortcuts", has the
figures and the command. `WORLDLINE_CPU_SHORTCUTS=0` in the environment, or `with off():`, computes plainly.

Dropout: PyTorch's costs as much as a matrix product. It draws 53 random bits for every entry; 16 are enough: p is met
to 1/131,072. Masks are compared in place and multiplied in the type of what they mask: PyTorch is slow at comparing
into bool and, in float32, at multiplying by it.
Linear layers: a search reads every weight for each imagined token, with one row to a few dozen, so reading is what it
costs. Weights are stored the way oneDNN reads them fastest; a GELU or ReLU behind a layer is part of its product.
Convolutions: a full-resolution layer of a batch is larger than a processor's cache, so frames go through the finest
level of an encoder, and through a decoder, in pieces. Behind a doubling by nearest neighbours a 3x3 kernel sees every
pixel two or four times: four 2x2 kernels on what was not doubled yet do its work with 4/9 of the products. In an
encoder a residual block's last convolution, before one of stride
s, makes s^2 outputs for each one that is wanted. Both are linear, so one kernel does both where nothing learns.

Shapes: B rows or frames, H heads, L tokens, E width of a head, N = B * H; C channels (I in, M between, O out), H x W
pixels.
"""

import copy
import math
import os
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Generic, Protocol, TypeVar, cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn

_on = os.environ.get("WORLDLINE_CPU_SHORTCUTS") != "0"
PER_DRAW = 4  # 16-bit numbers in a draw of 64
RANGE = 1 << 16
M = TypeVar("M", bound=nn.Module)
IN_CACHE = 4 << 20  # bytes of a full-resolution layer that stay in a processor's cache
ENOUGH = 8  # frames of which each is quicker by a fraction of what composing kernels for all takes


def taken(x: Tensor) -> bool:
    """Whether shortcuts are on for `x`: it is on a CPU, and no compiler reads along, which has kernels of its own."""
    return not torch.compiler.is_compiling() and _on and x.device.type == "cpu"


@contextmanager
def off() -> Iterator[None]:
    """The plain way in all of this process, until the context is left."""
    global _on
    before, _on = _on, False
    try:
        yield
    finally:
        _on = before


# ---- dropout ----
def keep_mask(shape: Sequence[int], p: float, dtype: torch.dtype = torch.float32) -> Tensor:
    """Tensor of `shape` with 0 where to drop (probability p), else 1, from PyTorch's random numbers of the CPU."""
    size = math.prod(shape)
    draws = torch.empty(-(-size // PER_DRAW), dtype=torch.int64).random_(torch.iinfo(torch.int64).min, None)
    threshold = round(p * RANGE) - RANGE // 2
    return draws.view(torch.int16)[:size].ge_(threshold).view(tuple(shape)).to(dtype)


class Dropout(nn.Dropout):
    """`nn.Dropout`, with the cheaper mask on a CPU."""

    def forward(self, x: Tensor) -> Tensor:
        if not self.training or self.p == 0 or not taken(x):
            return super().forward(x)
        return x * keep_mask(x.shape, self.p, x.dtype) * (1 / (1 - self.p))


def causal_attention(query_BHLE: Tensor, key_BHLE: Tensor, value_BHLE: Tensor, p: float) -> Tensor:
    """Scaled dot-product attention of as many queries as keys, dropping attention with probability p: (B, H, L, E)."""
    if p == 0 or not taken(query_BHLE):
        return F.scaled_dot_product_attention(query_BHLE, key_BHLE, value_BHLE, dropout_p=p, is_causal=True)
    rows, heads, length, width = query_BHLE.shape
    query_NLE, key_NLE, value_NLE = (x.flatten(0, 1) for x in (query_BHLE, key_BHLE, value_BHLE))
    future_LL = torch.full((length, length), -torch.inf, dtype=query_NLE.dtype).triu(1)
    scores_NLL = torch.baddbmm(future_LL, query_NLE, key_NLE.mT, alpha=1 / math.sqrt(width))
    kept_NLL = scores_NLL.softmax(-1, dtype=scores_NLL.dtype) * keep_mask(scores_NLL.shape, p, scores_NLL.dtype)
    return torch.bmm(kept_NLL, value_NLE / (1 - p)).unflatten(0, (rows, heads))


# ---- packed linear layers ----
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
        taken(weight) and weight.dtype == torch.float32 for weight in module.parameters()
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


# ---- convolutions ----


def fastest_layout(x: Tensor) -> Tensor:
    """The same (B, C, H, W), channels last where bfloat16 autocast is on and the device is a CPU.

    Not in float32: PyTorch's channels-last GroupNorm sums squares plainly, which moved a recorded tokenizer's latents
    by 1.2e-4 of the largest. That drowns in bfloat16's rounding, but float32 is there to be exact.
    """
    if not taken(x) or not torch.is_autocast_enabled("cpu"):
        return x
    # With one channel `contiguous` would change nothing, and a convolution take the strides for the other layout.
    return torch.empty_like(x, memory_format=torch.channels_last).copy_(x)


def finest_level(conv_in: nn.Conv2d, level: nn.Module, x: Tensor) -> Tensor:
    """`level(conv_in(x))`, of an encoder's first `blocks.layers.Level`: (B, C, H, W) -> (B, O, H / s, W / s)."""
    if torch.is_grad_enabled() or not taken(x) or level.attn:
        return level(conv_in(x))
    finest = _composed(level) if len(x) >= ENOUGH else level
    pieces = x.split(frames_in_cache(conv_in.out_channels * x.shape[2] * x.shape[3]))
    return torch.cat([finest(conv_in(part)) for part in pieces])


def frames_in_cache(size: int) -> int:
    """How many frames go through layers of `size` numbers a frame at once."""
    return max(1, IN_CACHE // (size * (2 if torch.is_autocast_enabled("cpu") else 4)))


class _ResidualBlock(Protocol):
    """What is used of `blocks.layers.ResidualBlock`: nin_shortcut(x) + conv2(hidden(x))."""

    nin_shortcut: nn.Module
    conv2: nn.Conv2d

    def __call__(self, x: Tensor) -> Tensor: ...

    def hidden(self, x: Tensor) -> Tensor: ...


def _composed(level: nn.Module) -> Callable[[Tensor], Tensor]:
    """`level` for weights as they are now, where it has no attention and ends in a downsample."""
    *before, last = cast("Sequence[_ResidualBlock]", level.block)
    downsample = ComposedDownsample(last.conv2, cast("nn.Conv2d", cast("nn.Module", level.downsample).conv))

    def forward(x: Tensor) -> Tensor:
        for block in before:
            x = block(x)
        return downsample(last.nin_shortcut(x), last.hidden(x))

    return forward


def doubled(conv: nn.Conv2d, x: Tensor) -> Tensor:
    """`conv` of `x` doubled by nearest neighbours, (B, I, H, W) -> (B, O, 2 H, 2 W); a 3x3 convolution of padding 1.

    Output (2 i + a, 2 j + b) reads 2 x 2 pixels of `x`; of a kernel's three rows two fall on one of them.
    """
    rows = _halves(conv.weight, 2)  # a pair by a: (O, I, 2, 3)
    kernels = torch.cat([half for each in rows for half in _halves(each, 3)])  # (4 O, I, 2, 2), by a and b
    bias = None if conv.bias is None else conv.bias.repeat(4)
    phases = F.conv2d(x, kernels, bias, padding=1).chunk(4, dim=1)  # each (B, O, H + 1, W + 1)
    height, width = x.shape[2:]
    layout = torch.channels_last if phases[0].stride(1) == 1 else torch.contiguous_format
    size = (len(x), conv.out_channels, 2 * height, 2 * width)
    out = torch.empty(size, dtype=phases[0].dtype, device=x.device, memory_format=layout)
    for number, phase in enumerate(phases):
        a, b = divmod(number, 2)
        out[:, :, a::2, b::2] = phase[:, :, a : a + height, b : b + width]
    return out


def _halves(kernel: Tensor, dim: int) -> tuple[Tensor, Tensor]:
    """Of three taps along `dim` on doubled pixels, the two on single ones, for even and for odd outputs."""
    first, middle, last = kernel.unbind(dim)
    return torch.stack([first, middle + last], dim), torch.stack([first + middle, last], dim)


class ComposedDownsample:
    """`outer(pad(skip + inner(h)))` with the weights as they are now and no gradients.

    `inner` is a 3x3 convolution of padding 1. `outer` has stride s and kernel s + 1; the padding is one row and column
    of zeros on the bottom and right, and s divides H and W. The composed kernel sees there what `inner` would make
    beyond the edge, so those strips are subtracted, and their corner, subtracted twice, is added.
    """

    def __init__(self, inner: nn.Conv2d, outer: nn.Conv2d) -> None:
        self.inner, self.outer = inner, outer
        cast = torch.get_autocast_dtype("cpu") if torch.is_autocast_enabled("cpu") else outer.weight.dtype
        first, second = inner.weight.detach(), outer.weight.detach()  # (M, I, 3, 3), (O, M, s + 1, s + 1)
        with torch.autocast("cpu", enabled=False):
            self.kernel, self.bottom, self.right, self.corner = (
                F.conv_transpose2d(of_second, of_first).to(cast)  # (O, I, ...)
                for of_second, of_first in (
                    (second, first),
                    (second[:, :, -1:], first[:, :, :1]),
                    (second[..., -1:], first[..., :1]),
                    (second[..., -1:, -1:], first[..., :1, :1]),
                )
            )

    def __call__(self, skip: Tensor, h: Tensor) -> Tensor:
        """(B, M, H, W), (B, I, H, W) -> (B, O, H / s, W / s)."""
        assert self.inner.bias is not None
        bias = self.inner.bias.to(skip.dtype)[:, None, None]
        y = self.outer(F.pad(skip + bias, (0, 1, 0, 1)))
        y += self._strided(h, self.kernel, (1, 2, 1, 2))
        y[:, :, -1:] -= self._strided(h[:, :, -1:], self.bottom, (1, 2, 0, 0))
        y[..., -1:] -= self._strided(h[..., -1:], self.right, (0, 0, 1, 2))
        y[..., -1:, -1:] += self._strided(h[..., -1:, -1:], self.corner, (0, 0, 0, 0))
        return y

    def _strided(self, h: Tensor, kernel: Tensor, padding: tuple[int, int, int, int]) -> Tensor:
        return F.conv2d(F.pad(h, padding), kernel, stride=self.outer.stride)
