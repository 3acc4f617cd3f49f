"""Neural circuit policies: which neuron reads which, drawn once from a seed (Lechner et al. 2020; AutoNCP of `ncps`).

Inputs feed inter neurons, those feed command neurons, those feed motor neurons, whose activity is the output. The draws
are those of `ncps` 1.0.1 bit for bit, so that masks of its checkpoints and ours agree. That package loops over every
synapse in Python and keeps its unreached neurons in lists; here a neuron's draws are two calls.

Shapes: I inputs, N inter, C command and M motor neurons.
"""

from dataclasses import dataclass
from functools import cache

import numpy as np
from numpy.typing import NDArray

SEED = 22222  # of every wiring in `ncps`, unless another is given

Mask = NDArray[np.bool_]


@dataclass(frozen=True)
class Wiring:
    """True where the row's neuron feeds the column's."""

    inter_IN: Mask
    command_NC: Mask
    motor_CM: Mask

    @property
    def masks(self) -> tuple[Mask, Mask, Mask]:
        """In the order in which activity flows."""
        return self.inter_IN, self.command_NC, self.motor_CM


def layer_sizes(units: int, outputs: int) -> tuple[int, int, int]:
    """Inter, command and motor neurons: N, C, M. Raises ValueError where `units` are too few."""
    if outputs < 1 or outputs >= units - 2:
        raise ValueError(f"{units} units cannot hold {outputs} outputs: give at least {max(outputs, 1) + 3} units")
    command = max(int(0.4 * (units - outputs)), 1)
    return units - outputs - command, command, outputs


@cache
def auto_ncp(inputs: int, units: int, outputs: int, sparsity: float = 0.5, seed: int = SEED) -> Wiring:
    """The wiring of `units` neurons of which `outputs` are motor neurons; equal arguments share one.

    `sparsity`: the share of possible synapses that each layer leaves out. Raises ValueError where `units` are too few,
    there is no input, or the sparsity is not in [0.1, 1].
    """
    inter, command, motor = layer_sizes(units, outputs)
    if inputs < 1 or not 0.1 <= sparsity <= 1:
        raise ValueError(f"{inputs} inputs at sparsity {sparsity} are no wiring: give an input, and 0.1 to 1")
    density, draw = 1.0 - sparsity, np.random.RandomState(seed)
    sensory_fanout, inter_fanout = max(int(inter * density), 1), max(int(command * density), 1)
    recurrent, motor_fanin = max(int(command * density * 2), 1), max(int(command * density), 1)

    inter_IN = np.zeros((inputs, inter), np.bool_)
    _connect(draw, inter_IN, sensory_fanout, inputs)
    command_NC = np.zeros((inter, command), np.bool_)
    _connect(draw, command_NC, inter_fanout, command)
    for _ in range(recurrent):  # synapses among command neurons, which a CfC has no use for: draws alone
        draw.randint(command), draw.randint(command), draw.randint(2)
    motor_CM = np.zeros((command, motor), np.bool_)
    _connect(draw, motor_CM.T, motor_fanin, motor)
    return Wiring(*(_frozen(mask) for mask in (inter_IN, command_NC, motor_CM)))


def _connect(draw: np.random.RandomState, synapses_FT: Mask, fanout: int, most: int) -> None:
    """Every row gets `fanout` columns; columns that none has chosen get the mean number of rows, `most` at most."""
    rows, columns = synapses_FT.shape
    for row in synapses_FT:
        row[draw.permutation(columns)[:fanout]] = True
        draw.randint(2, size=fanout)  # the synapses' signs, which a CfC does not use
    mean = min(max(rows * fanout // columns, 1), most)
    for column in np.flatnonzero(~synapses_FT.any(0)):
        synapses_FT[draw.permutation(rows)[:mean], column] = True
        draw.randint(2, size=mean)


def _frozen(mask: Mask) -> Mask:
    mask.flags.writeable = False
    return mask
