"""Delta-IRIS's golden files: all outputs of a file, from its weights, batches, config and draws alone.

Tolerances are what the recording measured against float64, with room for another order of sums.
"""

import numpy as np
from torch import Tensor

from models.parity.delta_iris.case import Case
from models.parity.delta_iris.networks import (
    actor_critic_outputs,
    revival_outputs,
    tokenizer_outputs,
    world_model_outputs,
)
from models.parity.delta_iris.training import training_outputs
from models.parity.delta_iris.worlds import env_outputs, imagine_outputs
from models.parity.golden_file import GoldenFile, Tolerance
from models.parity.learning import vanishing

BYTES = ("/frames_uint8", "/encode_decode_uint8")  # drawn: a pixel at the edge of rounding falls to either side
ACTIVATION = 2e-4  # absolute, and relative where numbers are large
LOSS = 1e-5
# A black frame is constant behind a convolution, and the next group norm multiplies its rounding by 300: what adds up
# in the convolution's bias is off by so much of its weights' gradient (measured against float64: 2.5e-4).
BIAS = 1e-3
GRADIENT, GRADIENT_NORM = 3e-4, 2e-4  # relative
NO_GRADIENT = 1e-6  # absolute, where the true one is 0
# After a step, of a network: absolute of the weights' sum, relative of their L2.
AFTER_STEP = {
    "tokenizer": (1e-3, 1e-5),
    "world_model": (1e-4, 1e-5),
    "actor_critic": (2e-3, 2e-4),
    "target": (2e-3, 1e-5),
}
LATER_ACTIONS = 1e-4  # of the policy's loss at the second step


def outputs(golden: GoldenFile) -> dict[str, Tensor | np.ndarray]:
    """Every output of the file by its entry. Raises ValueError or KeyError where an input is missing or damaged."""
    case = Case.of(golden)
    found = tokenizer_outputs(case) | revival_outputs(case) | world_model_outputs(case) | actor_critic_outputs(case)
    return {**found, **env_outputs(case), **imagine_outputs(case), **training_outputs(case)}


def _gradient(golden: GoldenFile, network: str, name: str) -> float | Tolerance:
    if name in vanishing(golden, network):
        return Tolerance(absolute=NO_GRADIENT)
    weight = f"{name.removesuffix('.bias')}.weight"
    kernel, beside = golden.arrays.get(f"weights/{network}/{weight}"), golden.arrays.get(f"grad/{network}/{weight}")
    if name.endswith(".bias") and kernel is not None and kernel.ndim == 4 and beside is not None:
        return Tolerance(relative=GRADIENT, absolute=BIAS * float(beside))
    return GRADIENT


def tolerance(golden: GoldenFile, name: str) -> float | Tolerance:
    """The largest error of an entry."""
    kind, *rest = name.split("/")
    if name.endswith(BYTES):
        return Tolerance(absolute=1.0)
    if kind in ("loss", "metrics"):
        later = name.endswith("_step2/loss_actions") or name.endswith("_step2/total")
        return Tolerance(relative=LOSS, absolute=LATER_ACTIONS if later else LOSS)
    if kind == "grad":
        return _gradient(golden, rest[0], rest[-1])
    if kind == "grad_norm":
        return GRADIENT_NORM
    if kind in ("after_step", "after_step2") or (kind == "after_update" and rest[0].startswith("target")):
        of_sum, of_norm = AFTER_STEP[rest[0].removesuffix("_step2")]
        return Tolerance(absolute=(of_sum, of_norm * float(abs(golden.arrays[name].flat[-1]))))
    return Tolerance(relative=ACTIVATION, absolute=ACTIVATION)
