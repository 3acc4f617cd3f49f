"""What every score comes from in the end: the exact replay objects of a bucket, or the ROMs that were played."""

import csv
import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pipelines.leaderboard.entry import Entry


@dataclass(frozen=True)
class Origin:
    """One score's roots: (artefact that names the root, what it says) of every one, itself included."""

    experiment: str
    score: str
    roots: tuple[tuple[str, dict[str, Any]], ...]

    @property
    def artefacts(self) -> list[str]:
        """The artefacts that name a root, in the graph's order: the lines of origins.csv that are about this score."""
        return list(dict.fromkeys(artefact for artefact, _ in self.roots))

    @property
    def objects(self) -> list[dict[str, Any]]:
        """The remote replay objects: url, bytes, crc32c, version."""
        return [root for _, root in self.roots if root.get("url")]

    @property
    def roms(self) -> list[tuple[str, str]]:
        """(game, md5) of every ROM, each once."""
        found = [(str(root.get("game", "")), str(root["rom_md5"])) for _, root in self.roots if root.get("rom_md5")]
        return list(dict.fromkeys(found))


def origins(entries: Sequence[Entry]) -> list[Origin]:
    """One for every entry, in their order."""
    return [
        Origin(
            entry.experiment,
            str(entry.score.ref),
            tuple((str(found.ref), root) for found in (*entry.ancestors, entry.score) for root in found.manifest.roots),
        )
        for entry in entries
    ]


def write_csv(found: Sequence[Origin], path: Path) -> None:
    """A line for every root of every artefact, however many scores share it; columns are all names any root has."""
    lines = {
        (artefact, json.dumps(root, sort_keys=True, default=str)): root for o in found for artefact, root in o.roots
    }
    names = sorted({name for root in lines.values() for name in root})
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(["artefact", *names])
        for (artefact, _), root in lines.items():
            writer.writerow([artefact, *(root.get(name, "") for name in names)])
