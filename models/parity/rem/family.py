"""REM's golden files: all outputs of a file, from its weights, batches, config and draws alone.

The largest error of an entry is ten times what the recording itself was off float64, as the file lists it. Sums of
weights after a step agree less: a gradient near 0 may round to the other sign, by which Adam's first step goes.
"""

import numpy as np
from torch import Tensor

from models.parity.blocks import act_outputs
from models.parity.golden_file import GoldenFile, Tolerance
from models.parity.rem.case import Case, stacked
from models.parity.rem.networks import (
    retention_outputs,
    retnet_outputs,
    tokenizer_outputs,
    world_model_outputs,
)
from models.parity.rem.training import imagine_outputs, training_outputs
from models.parity.stages import as_recorded

EXACT = ("imagine/rewards",)  # classes -1, 0 and 1 as floats


def outputs(golden: GoldenFile) -> dict[str, Tensor | np.ndarray]:
    """Every output of the file by its entry. Raises ValueError or KeyError where an input is missing or damaged."""
    case = Case.of(golden)
    found: dict[str, Tensor | np.ndarray] = {}
    for entries in (tokenizer_outputs, retention_outputs, retnet_outputs, world_model_outputs):
        found |= entries(case)
    found |= act_outputs(case, case.recording.act_burn_in, stacked)
    return found | imagine_outputs(case) | training_outputs(case)


def tolerance(golden: GoldenFile, name: str) -> float | Tolerance:
    """The largest error of an entry, relative; rewards must be equal."""
    if name in EXACT:
        return 0.0
    return as_recorded(golden, name)
