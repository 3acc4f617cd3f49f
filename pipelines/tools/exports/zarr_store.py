"""Trajectories as a sharded zarr v3 store `{Game}.zarr` for reading over a network (see zarr_trajectories.py).

Measured on 20,008 frames of Seaquest: 23,000 frames per CPU second, reading back included; 131 bytes a frame.
Run: `worldline export trajectories trajectories/Pong --to zarr --out DIR`.
"""

from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

from pipelines.episodes.trajectories import FLAT, Trajectories
from pipelines.episodes.zarr_trajectories import SHARD, ZarrTrajectories, ZarrWriter
from pipelines.progress import Advance
from pipelines.tools.exports.exported import require_same
from pipelines.tools.exports.target import Origin


@dataclass(frozen=True)
class ZarrStore:
    """An `Export` of one game's trajectories."""

    source: Trajectories

    form: ClassVar[str] = "zarr"
    unit: ClassVar[str] = "frames"

    @property
    def name(self) -> str:
        return f"{self.source.game}.zarr"

    @property
    def size(self) -> int:
        return len(self.source)

    @property
    def options(self) -> dict[str, Any]:
        return {}

    @property
    def counts(self) -> dict[str, int]:
        return {"episodes": self.source.num_episodes, "transitions": len(self.source)}

    def write(self, path: Path, origin: Origin, advance: Advance) -> None:
        source = self.source
        writer = ZarrWriter(
            path,
            source.episode_starts,
            source.game,
            source.action_names,
            origin.record(),
            source.frame_shape,
            sum(source.actions.shape[1:]),
        )
        for name in FLAT:
            writer.write(name, 0, getattr(source, name))
        writer.write("source_rows", 0, source.source_rows(0, len(source)))
        for start in range(0, len(source), SHARD):
            stop = min(start + SHARD, len(source))
            writer.write("observations", start, source.frames(start, stop))
            advance(stop - start)
        writer.close()

    def read_back(self, path: Path, advance: Advance) -> None:
        require_same(self.source, ZarrTrajectories(path), tuple(FLAT), advance)
