"""Building blocks of networks: convolutional ones of tokenizers, tables and heads of token models, ensembles of MLPs.

Convolutional are a residual block, spatial attention, strided down, nearest up. Their parameters have the names of
released VQ-GAN style checkpoints. The ensemble is one batched matrix product a layer. Its parameters are stacked over
the members, in the order of JOWA's released checkpoints: weight, bias, LayerNorm weight, LayerNorm bias of each hidden
layer, then weight and bias of the output.

Shapes: B frames, C channels, H x W pixels; Q members, N inputs, I in, O out.
"""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from itertools import pairwise
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from models.cpu.shortcuts import doubled, taken

PER_HIDDEN = 4  # parameters of a hidden layer


def group_norm(channels: int, groups: int, eps: float = 1e-6) -> nn.GroupNorm:
    """GroupNorm over `groups` groups with the eps of the released checkpoints of VQ-GAN style."""
    return nn.GroupNorm(groups, channels, eps=eps)


def initialise_orthogonal(module: nn.Module, generator: torch.Generator) -> None:
    """Set every convolution and linear layer below `module` to an orthogonal matrix (gain of ReLU) and zero bias."""
    for layer in module.modules():
        if isinstance(layer, (nn.Conv2d, nn.Linear)):
            nn.init.orthogonal_(layer.weight, nn.init.calculate_gain("relu"), generator=generator)
            if layer.bias is not None:
                nn.init.zeros_(layer.bias)


def initialise_uniform(module: nn.Module, generator: torch.Generator) -> None:
    """Set what PyTorch draws by default, uniform in +-1 / sqrt(inputs of a unit), from `generator`, biases too.

    For convolutions, linear layers, LSTM and GRU cells, whose units count as reading their own state alone.
    """
    for layer in module.modules():
        if isinstance(layer, nn.Conv2d | nn.Linear):
            inputs = layer.weight[0].numel()
        elif isinstance(layer, nn.RNNCellBase):
            inputs = layer.hidden_size
        else:
            continue
        for parameter in layer.parameters(recurse=False):
            nn.init.uniform_(parameter, -(inputs**-0.5), inputs**-0.5, generator=generator)


def initialise_normal(model: nn.Module, generator: torch.Generator) -> None:
    """Linear and embedding weights normal(0, 0.02), linear biases 0."""
    for module in model.modules():
        if isinstance(module, nn.Linear | nn.Embedding):
            nn.init.normal_(module.weight, std=0.02, generator=generator)
        if isinstance(module, nn.Linear):
            nn.init.zeros_(module.bias)


def decay_groups(model: nn.Module, weight_decay: float, also: tuple[str, ...] = ()) -> list[dict[str, Any]]:
    """AdamW's two groups of trainable parameters: those that decay by `weight_decay`, and those that do not.

    Weights of linear layers decay, and all parameters whose names begin with one of `also`; biases, norms and
    embeddings do not.
    """
    decayed = {id(module.weight) for module in model.modules() if isinstance(module, nn.Linear)}
    decayed |= {id(parameter) for name, parameter in model.named_parameters() if name.startswith(also)}
    trainable = [parameter for parameter in model.parameters() if parameter.requires_grad]
    return [
        {"params": [one for one in trainable if id(one) in decayed], "weight_decay": weight_decay},
        {"params": [one for one in trainable if id(one) not in decayed], "weight_decay": 0.0},
    ]


@contextmanager
def evaluating(*networks: nn.Module) -> Iterator[None]:
    """These networks in eval mode, and afterwards as they were."""
    before = [network.training for network in networks]
    for network in networks:
        network.eval()
    try:
        yield
    finally:
        for network, training in zip(networks, before, strict=True):
            network.train(training)


class Tables(nn.Module):
    """One embedding for action tokens (first) and one for observation tokens (second)."""

    def __init__(self, sizes: tuple[int, int], width: int) -> None:
        super().__init__()
        self.embedding_tables = nn.ModuleList(nn.Embedding(size, width) for size in sizes)


class HeadModule(nn.Module):
    """Holds a head under the released checkpoints' name."""

    def __init__(self, head_module: nn.Module) -> None:
        super().__init__()
        self.head_module = head_module

    def forward(self, hidden: Tensor) -> Tensor:
        return self.head_module(hidden)


def head(width: int, outputs: int, hidden: int = 0) -> nn.Sequential:
    """Two linear layers with a ReLU between; `hidden` units there, 0: as many as come in."""
    return nn.Sequential(nn.Linear(width, hidden or width), nn.ReLU(), nn.Linear(hidden or width, outputs))


def mlp_head(width: int, outputs: int) -> HeadModule:
    return HeadModule(head(width, outputs))


class ResidualBlock(nn.Module):
    """x + conv(swish(norm(conv(swish(norm(x)))))), with a 1x1 convolution on the skip where the width changes."""

    def __init__(self, channels_in: int, channels_out: int, groups: int, eps: float = 1e-6) -> None:
        super().__init__()
        self.norm1 = group_norm(channels_in, groups, eps)
        self.conv1 = nn.Conv2d(channels_in, channels_out, 3, padding=1)
        self.norm2 = group_norm(channels_out, groups, eps)
        self.conv2 = nn.Conv2d(channels_out, channels_out, 3, padding=1)
        self.nin_shortcut = nn.Identity() if channels_in == channels_out else nn.Conv2d(channels_in, channels_out, 1)

    def forward(self, x: Tensor) -> Tensor:  # (B, Cin, H, W) -> (B, Cout, H, W)
        return self.nin_shortcut(x) + self.conv2(self.hidden(x))

    def hidden(self, x: Tensor) -> Tensor:  # (B, Cin, H, W) -> (B, Cout, H, W), what the last convolution reads
        return F.silu(self.norm2(self.conv1(F.silu(self.norm1(x)))))


class SpatialAttention(nn.Module):
    """x + proj(attention over the H*W positions), one head of width C."""

    def __init__(self, channels: int, groups: int) -> None:
        super().__init__()
        self.norm = group_norm(channels, groups)
        self.q = nn.Conv2d(channels, channels, 1)
        self.k = nn.Conv2d(channels, channels, 1)
        self.v = nn.Conv2d(channels, channels, 1)
        self.proj_out = nn.Conv2d(channels, channels, 1)

    def forward(self, x: Tensor) -> Tensor:  # (B, C, H, W)
        h = self.norm(x)
        q, k, v = (layer(h).flatten(2).mT[:, None] for layer in (self.q, self.k, self.v))  # (B, 1, H*W, C)
        h = F.scaled_dot_product_attention(q, k, v)
        return x + self.proj_out(h[:, 0].mT.unflatten(2, x.shape[2:]))


class Downsample(nn.Module):
    """Strided convolution; one column and row of zeros on the right and bottom make H divide exactly by `stride`.

    channels_out: 0 for as many as come in.
    """

    def __init__(self, channels: int, stride: int, channels_out: int = 0) -> None:
        super().__init__()
        self.conv = nn.Conv2d(channels, channels_out or channels, stride + 1, stride=stride)

    def forward(self, x: Tensor) -> Tensor:  # (B, Cin, H, W) -> (B, Cout, H/stride, W/stride)
        return self.conv(F.pad(x, (0, 1, 0, 1)))


class Upsample(nn.Module):
    """Nearest-neighbour enlargement, then a 3x3 convolution. channels_out: 0 for as many as come in."""

    def __init__(self, channels: int, factor: int, channels_out: int = 0) -> None:
        super().__init__()
        self.factor = float(factor)
        self.conv = nn.Conv2d(channels, channels_out or channels, 3, padding=1)

    def forward(self, x: Tensor) -> Tensor:  # (B, Cin, H, W) -> (B, Cout, factor*H, factor*W)
        if self.factor == 2 and not torch.is_grad_enabled() and taken(x):
            return doubled(self.conv, x)
        return self.conv(F.interpolate(x, scale_factor=self.factor, mode="nearest"))


class Level(nn.Module):
    """The residual blocks of one resolution, each followed by attention if asked."""

    def __init__(self, channels_in: int, channels_out: int, blocks: int, groups: int, attention: bool = False) -> None:
        super().__init__()
        widths = [channels_in] + [channels_out] * blocks
        self.block = nn.ModuleList(ResidualBlock(widths[i], channels_out, groups) for i in range(blocks))
        self.attn = nn.ModuleList(SpatialAttention(channels_out, groups) for _ in range(blocks if attention else 0))
        self.downsample: nn.Module = nn.Identity()
        self.upsample: nn.Module = nn.Identity()

    def forward(self, x: Tensor) -> Tensor:  # (B, Cin, H, W) -> (B, Cout, H', W')
        for i, block in enumerate(self.block):
            x = block(x)
            if self.attn:
                x = self.attn[i](x)
        return self.upsample(self.downsample(x))


class Middle(nn.Module):
    """Residual block, attention if asked, residual block, at the coarsest resolution."""

    def __init__(self, channels: int, groups: int, attention: bool) -> None:
        super().__init__()
        self.block_1 = ResidualBlock(channels, channels, groups)
        self.attn_1 = SpatialAttention(channels, groups) if attention else nn.Identity()
        self.block_2 = ResidualBlock(channels, channels, groups)

    def forward(self, x: Tensor) -> Tensor:  # (B, C, H, W)
        return self.block_2(self.attn_1(self.block_1(x)))


class EnsembleMLP(nn.Module):
    """Q MLPs: hidden layers Linear, (dropout on the first), LayerNorm, Mish; then Linear."""

    def __init__(self, members: int, sizes: Sequence[int], dropout: float) -> None:
        super().__init__()
        self.drop: nn.Module = nn.Dropout(dropout)
        self.hidden_layers = len(sizes) - 2
        tensors: list[Tensor] = []
        for size_in, size_out in pairwise(sizes[:-1]):
            tensors += [torch.empty(members, size_out, size_in), torch.zeros(members, size_out)]
            tensors += [torch.ones(members, size_out), torch.zeros(members, size_out)]
        tensors += [torch.empty(members, sizes[-1], sizes[-2]), torch.zeros(members, sizes[-1])]
        self.params = nn.ParameterList(tensors)

    def weights(self) -> list[Tensor]:
        """The matrices (Q, O, I), for initialisation."""
        return [parameter for parameter in self.params if parameter.ndim == 3]

    def forward(self, x: Tensor) -> Tensor:  # (..., I) -> (Q, ..., O)
        members = self.params[0].shape[0]
        y = x.flatten(0, -2).expand(members, -1, -1)  # (Q, N, I)
        for layer in range(self.hidden_layers):
            weight, bias, scale, shift = (self.params[PER_HIDDEN * layer + i] for i in range(PER_HIDDEN))
            y = torch.baddbmm(bias[:, None], y, weight.mT)
            if layer == 0:
                y = self.drop(y)
            y = F.mish(F.layer_norm(y, y.shape[-1:]) * scale[:, None] + shift[:, None])
        y = torch.baddbmm(self.params[-1][:, None], y, self.params[-2].mT)
        return y.unflatten(1, x.shape[:-1])
