"""A closed-form continuous-time network (CfC, Hasani et al. 2022, equation 10) whose layers are a neural circuit.

Three recurrent layers in series, inter -> command -> motor, each reading the layer before it at the same step and its
own last activity h. With z = [x, h], masks M of the wiring and one unit of time a step:

    h' = tanh((M W1) z + b1) (1 - s) + tanh((M W2) z + b2) s        s = sigmoid(Wa z + ba + Wb z + bb)

No layer reads a later one, so each runs over a whole sequence before the next begins: what x adds is one product for
all steps, and a step in time multiplies h alone. Parameters have the names of `ncps`: `layer_{0,1,2}.{ff1, ff2, time_a,
time_b}` and the buffer `sparsity_mask`.

Shapes: B rows, T steps, I inputs, U = N + C + M units of inter, command and motor layers; H units of one layer.
"""

import torch
from torch import Tensor, nn

from models.blocks.wiring import Wiring


class CfcLayer(nn.Module):
    """One layer; `sparsity_mask` (H, I + H) keeps the inputs that the wiring gives each unit, and all of h."""

    sparsity_mask: Tensor

    def __init__(self, mask_IH: Tensor, generator: torch.Generator | None = None) -> None:
        super().__init__()
        inputs, units = mask_IH.shape
        dense_HH = torch.ones(units, units, dtype=mask_IH.dtype)
        self.register_buffer("sparsity_mask", torch.cat([mask_IH, dense_HH]).T.contiguous().float())
        self.ff1 = nn.Linear(inputs + units, units)
        self.ff2 = nn.Linear(inputs + units, units)
        self.time_a = nn.Linear(inputs + units, units)
        self.time_b = nn.Linear(inputs + units, units)
        for linear in (self.ff1, self.ff2, self.time_a, self.time_b):
            nn.init.xavier_uniform_(linear.weight, generator=generator)
            bound = linear.in_features**-0.5
            nn.init.uniform_(linear.bias, -bound, bound, generator=generator)

    def forward(self, x_BTI: Tensor, h_BH: Tensor) -> Tensor:
        """Activities (B, T, H) of every step, from the activity before the first."""
        inputs = x_BTI.shape[-1]
        weight = torch.cat(
            [
                self.ff1.weight * self.sparsity_mask,
                self.ff2.weight * self.sparsity_mask,
                self.time_a.weight + self.time_b.weight,  # the step lasts 1, so that both add up
            ]
        )  # (3H, I + H)
        bias = torch.cat([self.ff1.bias, self.ff2.bias, self.time_a.bias + self.time_b.bias])
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

    def forward(self, x_BTI: Tensor, state_BU: Tensor) -> tuple[Tensor, Tensor]:
        """Motor activity (B, T, M), and the state (B, U) after every step, for the last one to be carried on."""
        states_BU, y = [], x_BTI
        for layer, h_BH in zip(self.children(), state_BU.split(self.sizes, dim=1), strict=True):
            y = layer(y, h_BH)
            states_BU.append(y[:, -1])
        return y, torch.cat(states_BU, dim=1)
