"""How near an output must come to the recorded one: 1e-4 of an entry's largest number, but behind a training step.

Residual networks have a kink at 0 in every layer. With other kernels of convolutions than the recording machine's the
sums differ by rounding, some kinks fall to the other side, and gradients in front of them move: measured up to 2 % with
oneDNN turned off, as the recording's notes say too. Adam turns a gradient near 0 into a step of full size, so that what
a small tensor became may differ by a tenth of its way. Plain convolutions have no kinks, and nothing of this applies.

The bias behind the cross attention feeds a batch norm: its true gradient is 0, the recorded one is rounding, and Adam
makes steps of it.
"""

import numpy as np

from models.parity.golden_file import GoldenFile, Tolerance

CLOSE = 1e-4  # of the largest number; of plain files every entry
EXACT = 1e-6
NO_TRUE_GRADIENT = "out_proj.bias"
NO_GRADIENT = (1e-3, 1e-5)  # absolute, and of the gradient of the weight beside it
KINKED, SMOOTH = 3e-2, 1e-2  # relative, of gradients of convolutions and their norms, and of others
TERM = 2e-3  # of the largest gradient of a term, beside KINKED of each
WAY = (0.3, 0.3, 0.15)  # of what changed in a tensor: of its sum (times the root of its size), norm, and change
FOLLOWED = (1e-3, 1e-2)  # of what changed in running statistics, after one step and after several
LATER = {"loss": 3e-3, "metrics": 3e-3}  # of a second step
NORMS = {"train": 5e-3, "train2": 3e-2, "joint": 5e-3}  # of whole gradients
JOINT = 5e-4  # of behaviour in a world that took a step
SCHEDULE = 2e-2  # of how far the encoder went
STEPS = {"train": 1, "train2": 2, "after_joint": 1, "after_schedule": 4}
BUFFERS = ("running_mean", "running_var", "num_batches_tracked", "queue", "mag")


def tolerance(golden: GoldenFile, name: str) -> float | Tolerance:
    """The largest error of an entry."""
    kind, _, rest = name.partition("/")
    plain = golden.config["config"]["encoder_type"] == "plaincnn"
    stage, _, last = rest.partition("/")
    if kind == "after_step":
        return Tolerance(absolute=_way(golden, plain, stage, last, golden.arrays[name]))
    if rest == "sum_l2_deltal2":
        rows = zip(golden.arrays[f"{kind}/names"], golden.arrays[name], strict=True)
        return Tolerance(absolute=np.stack([_way(golden, plain, kind, str(each), row) for each, row in rows]))
    if kind == "grad_terms":
        norms = np.nan_to_num(golden.arrays[name])
        shares = (CLOSE, CLOSE) if plain else (KINKED, TERM)
        return Tolerance(absolute=shares[0] * norms + shares[1] * norms.max(initial=0.0), nan_means_none=True)
    if kind == "schedule":
        return Tolerance(absolute=np.abs(golden.arrays[name]) * (EXACT, EXACT, SCHEDULE))
    return CLOSE if plain else _kinked(golden, kind, stage, last)


def _kinked(golden: GoldenFile, kind: str, stage: str, last: str) -> float | Tolerance:
    """Of other entries of a file with residual networks."""
    if kind == "grad" and stage == "train":
        if last.endswith(NO_TRUE_GRADIENT):
            beside = float(golden.arrays.get(f"grad/train/{last.removesuffix('bias')}weight", np.zeros(())))
            return Tolerance(absolute=max(NO_GRADIENT[0], NO_GRADIENT[1] * beside))
        return KINKED if any(part in last for part in ("encoder", "decoder")) else SMOOTH
    if kind == "metrics" and last.endswith("grad_norm") and stage in NORMS:
        return NORMS[stage]
    if kind in LATER and stage == "train2":
        return LATER[kind]
    return JOINT if kind in LATER and stage == "joint" else CLOSE


def _way(golden: GoldenFile, plain: bool, stage: str, name: str, row: np.ndarray) -> np.ndarray:
    """Of [sum, norm, norm of what changed] of one tensor."""
    size = float(np.sqrt(max(golden.arrays[f"weights/agent/{name}"].size, 1)))
    changed, rounding = float(row[2]), EXACT * np.abs(row) + np.array([EXACT * size, 0.0, 0.0])
    if name.endswith(NO_TRUE_GRADIENT) and stage in STEPS:
        most = 2 * STEPS[stage] * _rate(golden) * size
        return rounding + most * np.array([size, 1.0, 1.0])
    shares = np.array((CLOSE, CLOSE, CLOSE) if plain or name.startswith("_task_behavior.") else WAY)
    if name.endswith(BUFFERS):
        shares = np.full(3, FOLLOWED[STEPS.get(stage, 1) > 1])
    return rounding + changed * shares * np.array([size, 1.0, 1.0])


def _rate(golden: GoldenFile) -> float:
    return float(golden.config["config"]["model_opt"]["lr"])
