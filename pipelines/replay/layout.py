"""Names of the files in which DQN-Replay keeps an agent's experience; the bucket's own layout, written and read here.

`{Game}/{agent}/replay_logs/` holds, for each log n = 0, 1, ...: `$store$_{kind}_ckpt.{n}.gz` for the four kinds and the
two small side files `add_count_ckpt.{n}.gz` and `invalid_range_ckpt.{n}.gz`. Every file is a gzip'd `.npy`.
Source: Agarwal et al. 2020 (arXiv 1907.04543) and Dopamine's circular replay buffer of 2019.
"""

import re
from dataclasses import dataclass

KINDS = ("observation", "action", "reward", "terminal")
SIDE_KINDS = ("add_count", "invalid_range")
ALL_KINDS = KINDS + SIDE_KINDS
AGENTS = (1, 2, 3, 4, 5)  # what the public bucket holds; our own collections count from 1 too

_NAME = re.compile(rf"(?:\$store\$_({'|'.join(KINDS)})|({'|'.join(SIDE_KINDS)}))_ckpt\.(0|[1-9][0-9]*)\.gz", re.ASCII)


@dataclass(frozen=True, order=True)
class LogName:
    """One file of one log: log number `checkpoint` (the n above), then what it holds."""

    checkpoint: int
    kind: str

    def __str__(self) -> str:
        return file_name(self.kind, self.checkpoint)


def log_folder(game: str, agent: int) -> str:
    """Folder of one agent's logs, relative to the bucket's root, without a slash at its end."""
    return f"{game}/{agent}/replay_logs"


def file_name(kind: str, checkpoint: int) -> str:
    """Name of one file. Raises ValueError for a kind outside ALL_KINDS or a negative checkpoint."""
    if kind not in ALL_KINDS or checkpoint < 0:
        raise ValueError(f"No log file holds '{kind}' of checkpoint {checkpoint}: kinds are {', '.join(ALL_KINDS)}")
    return f"{'$store$_' if kind in KINDS else ''}{kind}_ckpt.{checkpoint}.gz"


def parse_name(name: str) -> LogName | None:
    """Read a file name (no folders) back; None when it is no log file, as buckets hold other files too."""
    match = _NAME.fullmatch(name)
    return LogName(int(match[3]), match[1] or match[2]) if match else None
