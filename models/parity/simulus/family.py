"""Simulus's golden files: all outputs of a file, from its weights, batches, config and draws alone.

The largest error of an entry is ten times what the recording itself was off float64, as the file lists it.
"""

import numpy as np
from torch import Tensor

from models.parity.blocks import act_outputs
from models.parity.golden_file import GoldenFile, Tolerance
from models.parity.simulus.case import Case, stacked
from models.parity.simulus.networks import (
    backbone_outputs,
    bins_outputs,
    tokenizer_outputs,
    world_model_outputs,
)
from models.parity.simulus.training import imagine_outputs, replay_outputs, training_outputs
from models.parity.stages import as_recorded

COUNTED = 0.018  # five standard deviations of a frequency in 20,000 draws


def outputs(golden: GoldenFile) -> dict[str, Tensor | np.ndarray]:
    """Every output of the file by its entry. Raises ValueError or KeyError where an input is missing or damaged."""
    case = Case.of(golden)
    found: dict[str, Tensor | np.ndarray] = {}
    for entries in (tokenizer_outputs, bins_outputs, backbone_outputs, world_model_outputs):
        found |= entries(case)
    found |= act_outputs(case, case.recording.act_burn_in, stacked)
    return found | imagine_outputs(case) | training_outputs(case) | replay_outputs(case)


def tolerance(golden: GoldenFile, name: str) -> float | Tolerance:
    """The largest relative error of an entry; frequencies were counted."""
    if name.startswith("replay/inclusion_frequency"):
        return Tolerance(absolute=COUNTED)
    return as_recorded(golden, name)
