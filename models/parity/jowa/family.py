"""JOWA's golden files: all outputs of a file, from its weights, batch, config and draws alone.

What the file itself says it left out, because rounding alone moves it, is not expected.
"""

from torch import Tensor

from models.parity.golden_file import GoldenFile
from models.parity.jowa.case import Case
from models.parity.jowa.config import stages
from models.parity.jowa.networks import env_outputs, forward_outputs, tokenizer_outputs
from models.parity.jowa.planning import imagine_outputs, plan_outputs, play_outputs
from models.parity.jowa.training import stage_outputs

TOLERANCE = 1e-4  # relative
REWARDS = ("/rewards", "/path_rewards", "/nodes_rewards")  # classes -1, 0 and 1 as floats


def outputs(golden: GoldenFile) -> dict[str, Tensor]:
    """Every output of the file by its entry. Raises ValueError or KeyError where an input is missing or damaged."""
    case = Case.of(golden)
    found = tokenizer_outputs(case) | forward_outputs(case) | env_outputs(case)
    for stage in stages(golden.config):
        found |= stage_outputs(case, stage)
    found |= dict(plan_outputs(case)) | dict(play_outputs(case)) | imagine_outputs(case)
    left_out = set(golden.config["left_out_entries"])
    if strangers := sorted(left_out - found.keys()):
        raise ValueError(f"meta/config leaves out {strangers[0]}, which is no output")
    return {name: value for name, value in found.items() if name not in left_out}


def tolerance(golden: GoldenFile, name: str) -> float:
    """Rewards must be equal; all else agrees to 1e-4 of the entry's largest number."""
    return 0.0 if name.endswith(REWARDS) else TOLERANCE
