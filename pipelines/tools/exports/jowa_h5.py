"""Trajectories in the layout that JOWA's own scripts read: `{Game}.h5`, one group per episode (see jowa_file.py).

Uncompressed as the original writes it, 7,056 bytes a frame; `compress` packs frames with gzip, which h5py reads
without a plugin. Measured on 20,008 frames of Seaquest, reading back included: 38,000 frames per CPU second, with gzip
17,000 at 224 bytes a frame.
Run: `worldline export trajectories trajectories/Pong --to jowa-h5 --out DIR`.
"""

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

import numpy as np

from pipelines.episodes.jowa_h5 import FRAME, SUM, JowaTrajectories, checksum, new_file
from pipelines.episodes.trajectories import CHUNK, Trajectories
from pipelines.errors import UsageError
from pipelines.progress import Advance
from pipelines.tools.exports.exported import BLOCK, require_same
from pipelines.tools.exports.target import Origin

DTYPES = {"actions": np.int32, "rewards": np.float32, "terminals": np.uint8}  # those of DQN-Replay


@dataclass(frozen=True)
class JowaH5:
    """An `Export` of one game's trajectories."""

    source: Trajectories
    compress: bool = False

    form: ClassVar[str] = "jowa-h5"
    unit: ClassVar[str] = "frames"

    def __post_init__(self) -> None:
        if self.source.frame_shape != FRAME:
            raise UsageError(
                f"Frames of {self.source.game} are {self.source.frame_shape}, the layout jowa-h5 holds {FRAME} alone: "
                "export them with --to zarr"
            )

    @property
    def name(self) -> str:
        return f"{self.source.game}.h5"

    @property
    def size(self) -> int:
        return len(self.source)

    @property
    def options(self) -> dict[str, Any]:
        return {"compress": self.compress}

    @property
    def counts(self) -> dict[str, int]:
        return {"episodes": self.source.num_episodes, "transitions": len(self.source)}

    def write(self, path: Path, origin: Origin, advance: Advance) -> None:
        source = self.source
        with new_file(path) as (file, stop_if_refused):
            file.attrs["game"] = source.game
            file.attrs["worldline"] = json.dumps(origin.record())
            for episode in range(source.num_episodes):
                first, stop = (int(row) for row in source.episode_starts[episode : episode + 2])
                group = file.create_group(str(episode))
                packing: dict[str, Any] = {}
                if self.compress:
                    packing = {"chunks": (min(CHUNK, stop - first), *FRAME), "compression": "gzip"}
                frames = group.create_dataset("observations", (stop - first, *FRAME), np.uint8, **packing)
                for start in range(first, stop, BLOCK):
                    until = min(start + BLOCK, stop)
                    frames[start - first : until - first] = source.frames(start, until)
                    stop_if_refused()
                    advance(until - start)
                for name, dtype in DTYPES.items():
                    group[name] = getattr(source, name)[first:stop].astype(dtype)
                group.attrs[SUM] = checksum(group)

    def read_back(self, path: Path, advance: Advance) -> None:
        copy = JowaTrajectories(path, self.source.game)
        copy.require_sums()
        require_same(self.source, copy, tuple(DTYPES), advance)
