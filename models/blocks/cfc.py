"""A closed-form continuous-time network (CfC, Hasani et al. 2022, equation 10) whose layers are a neural circuit.

Three recurrent layers in series, inter -> command -> motor, each reading the layer before it at the same step and its
own last activity h. With z = [x, h], masks M of the wiring and one unit of time a step:

    h' = tanh((M W1) z + b1) (1 - s) + tanh((M W2) z + b2) s        s = sigmoid(Wa z + ba + Wb z + bb)

No layer reads a later one, so each runs over a whole sequence before the next begins: what x adds is one product for
all steps, and a step in time multiplies h alone. Parameters have the names of `ncps`: `layer_{0,1,2}.{ff1, ff2, time_a,
time_b}` and the buffer `sparsity_mask`.

Shapes: B rows, T steps, I inputs, U = N + C + M units of inter, command and motor layers; H units of one layer.
"""

from typing import NamedTuple

import torch
from torch import Tensor, nn

from models.blocks.wiring import Wiring


class Composed(NamedTuple):
    """The weights of each layer's three maps, masked and one above the other, (3H, I + H), and their biases (3H,)."""

    weights: tuple[Tensor, ...]
    biases: tuple[Tensor, ...]


class Affine(nn.Module):
    """Weight and bias of one map, which are never applied alone; first weights are Xavier's, biases PyTorch's."""

    def __init__(self, inputs: int, outputs: int, generator: torch.Generator | None) -> None:
        super().__init__()
        self.weight = nn.Parameter(nn.init.xavier_uniform_(torch.empty(outputs, inputs), generator=generator))
        bound = inputs**-0.5
        self.bias = nn.Parameter(nn.init.uniform_(torch.empty(outputs), -bound, bound, generator=generator))


class CfcLayer(nn.Module):
    """One layer; `sparsity_mask` (H, I + H) keeps the inputs that the wiring gives each unit, and all of h."""

    sparsity_mask: Tensor

    def __init__(self, mask_IH: Tensor, generator: torch.Generator | None = None) -> None:
        super().__init__()
        inputs, units = mask_IH.shape
        dense_HH = torch.ones(units, units, dtype=mask_IH.dtype)
        self.register_buffer("sparsity_mask", torch.cat([mask_IH, dense_HH]).T.contiguous().float())
        self.ff1 = Affine(inputs + units, units, generator)
        self.ff2 = Affine(inputs + units, units, generator)
        self.time_a = Affine(inputs + units, units, generator)
        self.time_b = Affine(inputs + units, units, generator)

    def composed(self) -> tuple[Tensor, Tensor]:
        """Weight (3H, I + H) and bias (3H,) of both candidates and of the gate."""
        gate = self.time_a.weight + self.time_b.weight  # a step lasts 1, so that both add up
        weight = torch.cat([self.ff1.weight * self.sparsity_mask, self.ff2.weight * self.sparsity_mask, gate])
        return weight, torch.cat([self.ff1.bias, self.ff2.bias, self.time_a.bias + self.time_b.bias])

    def forward(self, x_BTI: Tensor, h_BH: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
        """Activities (B, T, H) of every step, from the activity before the first, by the composed weights."""
        inputs = x_BTI.shape[-1]
        from_inputs_TBG = nn.functional.linear(x_BTI, weight[:, :inputs], bias).transpose(0, 1)
        recurrent = weight[:, inputs:].T
        steps = []
        for from_input_BG in from_inputs_TBG.unbind():
            first, second, gate = torch.addmm(from_input_BG, h_BH.to(from_input_BG.dtype), recurrent).chunk(3, dim=1)
            h_BH = torch.lerp(first.tanh(), second.tanh(), gate.sigmoid())
            steps.append(h_BH)
        return torch.stack(steps, dim=1)


class WiredCfc(nn.Module):
    """The three layers of a wiring."""

    def __init__(self, wiring: Wiring, generator: torch.Generator | None = None) -> None:
        super().__init__()
        self.sizes = tuple(mask.shape[1] for mask in wiring.masks)
        for number, mask in enumerate(wiring.masks):
            self.add_module(f"layer_{number}", CfcLayer(torch.from_numpy(mask.copy()).float(), generator))

    @property
    def units(self) -> int:
        """U, the length of a row's state."""
        return sum(self.sizes)

    def empty_state(self, rows: int) -> Tensor:
        """The activity before anything was read: zeros (rows, U)."""
        weight = self.get_parameter("layer_0.ff1.weight")
        return torch.zeros(rows, self.units, dtype=weight.dtype, device=weight.device)

    def composed(self) -> Composed:
        """The weights as they are now. Whoever reads step by step asks for them once."""
        return Composed(*zip(*(layer.composed() for layer in self._layers()), strict=True))

    def forward(self, x_BTI: Tensor, state_BU: Tensor, composed: Composed | None = None) -> tuple[Tensor, Tensor]:
        """Motor activity (B, T, M), and the state (B, U) after every step, for the last one to be carried on."""
        composed = composed or self.composed()
        states, y = state_BU.split(self.sizes, dim=1), x_BTI
        after_BU = []
        for layer, h_BH, weight, bias in zip(self._layers(), states, *composed, strict=True):
            y = layer(y, h_BH, weight, bias)
            after_BU.append(y[:, -1])
        return y, torch.cat(after_BU, dim=1)

    def _layers(self) -> list[CfcLayer]:
        return [layer for layer in self.children() if isinstance(layer, CfcLayer)]
