"""Golden files of the Dreamer family: all outputs of a file, from its weights, batch, config and draws alone."""

import numpy as np
from torch import Tensor

from models.parity.dreamer.behaviour import behaviour_outputs, joint_outputs, policy_outputs
from models.parity.dreamer.case import Case
from models.parity.dreamer.learning import schedule_outputs, term_outputs, training_outputs
from models.parity.dreamer.networks import eval_outputs, film_outputs, video_outputs
from models.parity.dreamer.tolerances import tolerance as tolerance
from models.parity.golden_file import GoldenFile


def outputs(golden: GoldenFile) -> dict[str, Tensor | np.ndarray]:
    """Every output of the file by its entry, but for those that its config says are left out of it.

    Raises ValueError or KeyError where an input is missing or damaged.
    """
    found = every(Case.of(golden))
    for name in golden.config.get("left_out_entries", ()):
        found.pop(name, None)
    return found


def every(case: Case) -> dict[str, Tensor | np.ndarray]:
    """Outputs of all stages."""
    found: dict[str, Tensor | np.ndarray] = {**eval_outputs(case), **training_outputs(case), **term_outputs(case)}
    if not case.config.practises:
        return found | video_outputs(case)
    found |= {**film_outputs(case), **behaviour_outputs(case), **joint_outputs(case), **policy_outputs(case)}
    return found | (schedule_outputs(case) if case.config.split else {})
