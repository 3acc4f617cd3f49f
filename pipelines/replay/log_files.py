"""The six files of one log, read and found to agree; everything but the frames, of which only the header is read.

Without the observation file (a plan that may not touch it) the lengths of the others are compared alone.
"""

from collections.abc import Mapping

import numpy as np
from numpy.typing import NDArray

from pipelines.bucket.bucket import Bucket
from pipelines.errors import WorldlineError
from pipelines.replay.layout import KINDS, SIDE_KINDS
from pipelines.replay.listing import RemoteObject
from pipelines.replay.log_reader import read_array, read_header
from pipelines.replay.ring_log import RingLog

FRAME = (84, 84)
REPAIR = "fetch that checkpoint again from its source, or remove all of its files"
NUMBERS = {"action": "iu", "reward": "f", "terminal": "iub", "add_count": "iu", "invalid_range": "iu"}
NO_ACTION, NO_REWARD, NO_TERMINAL = 255, 2.0, 2  # stand for impossible numbers and fail their checks


def read_log(checkpoint: int, kinds: Mapping[str, RemoteObject], bucket: Bucket) -> RingLog | str:
    """One checkpoint's small arrays; or, when its files disagree in length, one line that says so.

    Actions become uint8, rewards float32, terminals uint8; numbers that cannot be are replaced (above), as rows that
    were never written may hold anything. Raises WorldlineError for a damaged file and for arrays of another kind.
    """
    arrays = {kind: read_array(item, bucket) for kind, item in kinds.items() if kind != "observation"}
    for kind, allowed in NUMBERS.items():
        if arrays[kind].dtype.kind not in allowed:
            raise WorldlineError(f"{kinds[kind].url} holds {arrays[kind].dtype}, not what a {kind} is: {REPAIR}")
    if arrays["add_count"].size != 1 or arrays["invalid_range"].ndim != 1:
        raise WorldlineError(f"{kinds['add_count'].url} or its invalid_range has an unexpected shape: {REPAIR}")
    shapes = {kind: array.shape for kind, array in arrays.items() if kind not in SIDE_KINDS}
    if "observation" in kinds:
        shapes["observation"] = _frames(kinds["observation"], bucket)
    if odd := next((kind for kind, shape in shapes.items() if len(shape) != 1), None):
        raise WorldlineError(f"{kinds[odd].url} has shape {shapes[odd]}, one number a row is expected: {REPAIR}")
    if len(set(shapes.values())) != 1:
        rows = ", ".join(f"{kind} {shapes[kind][0]:,}" for kind in KINDS if kind in shapes)
        return f"log {checkpoint} ({rows})"
    return RingLog(
        checkpoint,
        int(arrays["add_count"].reshape(())),
        _where(arrays["action"], (arrays["action"] >= 0) & (arrays["action"] < NO_ACTION), NO_ACTION, np.uint8),
        _where(arrays["reward"], np.isfinite(arrays["reward"]), NO_REWARD, np.float32),
        _where(arrays["terminal"], np.isin(arrays["terminal"], (0, 1)), NO_TERMINAL, np.uint8),
        arrays["invalid_range"].astype(np.int64),
    )


def _frames(item: RemoteObject, bucket: Bucket) -> tuple[int, ...]:
    header = read_header(item, bucket)
    if header.dtype != np.uint8 or header.shape[1:] != FRAME:
        raise WorldlineError(
            f"{item.url} holds {header.dtype} of shape {header.shape}, frames are uint8 (N, 84, 84): {REPAIR}"
        )
    return header.shape[:1]


def _where(array: NDArray, possible: NDArray[np.bool_], instead: float, dtype: type[np.generic]) -> NDArray:
    return np.where(possible, array, instead).astype(dtype)
