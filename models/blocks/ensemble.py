"""An ensemble of small MLPs in one batched matrix product a layer.

Shapes: Q members, N inputs, I in, O out. Parameters are stacked over the members, in the order of JOWA's released
checkpoints: weight, bias, LayerNorm weight, LayerNorm bias of each hidden layer, then weight and bias of the output.
"""

from collections.abc import Sequence
from itertools import pairwise

import torch
import torch.nn.functional as F
from torch import Tensor, nn

PER_HIDDEN = 4  # parameters of a hidden layer


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
