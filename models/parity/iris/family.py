"""IRIS's golden files: all outputs of a file, from its weights, batches, config and draws alone.

Tolerances are what the recording measured against float64, with room for another order of sums.
"""

from torch import Tensor

from models.parity.golden_file import GoldenFile, Tolerance
from models.parity.iris.case import Case
from models.parity.iris.config import iris_config
from models.parity.iris.networks import actor_critic_outputs, tokenizer_outputs, world_model_outputs
from models.parity.iris.training import training_outputs
from models.parity.iris.worlds import env_outputs, imagine_outputs
from models.parity.learning import vanishing

EXACT = ("/rewards",)  # classes -1, 0 and 1 as floats
BYTES = ("/frames_uint8", "/reset_observation")
ACTIVATION = 2e-5  # latents, logits, states, frames: absolute, and relative where numbers are large
LOSS = 1e-5
GRADIENT, GRADIENT_NORM = 3e-4, 2e-4  # relative
NO_GRADIENT = 1e-6  # absolute, where the true one is 0
# After a step, of a network: absolute of the weights' sum, relative of their L2.
AFTER_STEP = {"tokenizer": (1e-3, 1e-5), "world_model": (1e-4, 1e-5), "actor_critic": (2e-3, 2e-4)}


def outputs(golden: GoldenFile) -> dict[str, Tensor]:
    """Every output of the file by its entry. Raises ValueError or KeyError where an input is missing or damaged."""
    case = Case.of(golden, iris_config)
    found = tokenizer_outputs(case) | world_model_outputs(case) | env_outputs(case)
    return found | actor_critic_outputs(case) | imagine_outputs(case) | training_outputs(case)


def tolerance(golden: GoldenFile, name: str, network: str = "") -> float | Tolerance:
    """The largest error of an entry; rewards must be equal. network: which one a stage of another name trains."""
    kind, *rest = name.split("/")
    if name.endswith(EXACT):
        return 0.0
    if name.endswith(BYTES) or (kind.startswith("imagine") and rest[-1] == "observations"):
        return Tolerance(absolute=0.5 + 255 * ACTIVATION)
    if kind == "loss":
        return Tolerance(relative=LOSS, absolute=LOSS)
    if kind == "grad":
        return Tolerance(absolute=NO_GRADIENT) if rest[-1] in vanishing(golden, rest[0]) else GRADIENT
    if kind == "grad_norm":
        return GRADIENT_NORM
    if kind in ("after_step", "after_step2"):
        of_sum, of_norm = AFTER_STEP[network or rest[0]]
        return Tolerance(absolute=(of_sum, of_norm * float(abs(golden.arrays[name].flat[-1]))))
    return Tolerance(relative=ACTIVATION, absolute=ACTIVATION)
