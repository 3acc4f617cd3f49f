"""What an export made, as one line for stdout; and the check that a copy says what its source says."""

from dataclasses import dataclass
from pathlib import Path

import numpy as np

from pipelines.episodes.trajectories import TrajectoryReader
from pipelines.errors import WorldlineError
from pipelines.progress import Advance, size

BLOCK = 4096  # frames: 29 MB of them


@dataclass(frozen=True)
class Exported:
    """`counts` are what went out, by name."""

    source: str
    path: Path
    counts: dict[str, int]

    def __str__(self) -> str:
        files = [file for file in self.path.rglob("*") if file.is_file()] if self.path.is_dir() else [self.path]
        room = sum(file.stat().st_size for file in files)
        counts = ", ".join(f"{count:,} {name}" for name, count in self.counts.items())
        many = "1 file" if len(files) == 1 else f"{len(files):,} files"
        return f"{self.source} -> {self.path}: {counts}, {size(room)} in {many}, read back"


def require_same(source: TrajectoryReader, copy: TrajectoryReader, arrays: tuple[str, ...], advance: Advance) -> None:
    """Read a copy back and compare it with its source, bit for bit. Raises WorldlineError at the first difference."""
    for name in ("game", "episode_starts", *arrays):
        if not np.array_equal(getattr(source, name), getattr(copy, name)):
            raise differs(name)
    for start in range(0, len(source), BLOCK):
        stop = min(start + BLOCK, len(source))
        if not np.array_equal(source.frames(start, stop), copy.frames(start, stop)):
            raise differs(f"frames {start} to {stop - 1}")
        advance(stop - start)
    copy.close()


def differs(what: str) -> WorldlineError:
    """The error for a copy that reads back otherwise."""
    return WorldlineError(
        f"The export does not read back as written ({what}): check the disk that it went to and run it again"
    )
