"""One score on the leaderboard, with everything it was made from."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
import pandas as pd

from pipelines.errors import WorldlineError
from pipelines.lineage.walk import Node, edges, flat, walk
from pipelines.store.artefact import Artefact
from pipelines.store.store import Store

ORDER = (  # the graph's order, in which tables list the stages
    "collected_replay",
    "replay",
    "trajectories",
    "segments",
    "pretrained",
    "tokens",
    "world_action_model",
    "finetuned",
    "scores",
)
TRAINED = ("pretrained", "world_action_model", "finetuned")  # stages that train
NO_AGENT = ("random", "behaviour")  # entries of a score's metrics that are references, not planners
EPISODE_COLUMNS = ("planner", "return", "ended")


@dataclass(frozen=True)
class Entry:
    """`experiment` is the name the caller gave; `tree` is the score's lineage, faults included."""

    experiment: str
    score: Artefact
    tree: Node

    @cached_property
    def ancestors(self) -> list[Artefact]:
        """Everything the score was made from that the store still holds, in the graph's order."""
        return in_order([node.artefact for node in flat(self.tree)[1:] if node.artefact is not None])

    @property
    def faults(self) -> list[str]:
        """Ancestors that are missing, damaged or not the ones that were pinned, in words."""
        return [f"{node.ref}: {node.fault}" for node in edges(self.tree) if node.fault]

    @property
    def game(self) -> str:
        """The score's subject."""
        return self.score.manifest.subject

    @property
    def planners(self) -> list[str]:
        """How the agent chose its actions: "greedy", "beam", ... in the order greedy first."""
        metrics = self.score.manifest.metrics
        names = [name for name, value in metrics.items() if isinstance(value, Mapping) and name not in NO_AGENT]
        return sorted(names, key=lambda name: (name != "greedy", name))

    def number(self, *path: str) -> float | None:
        """A finite number from the score's metrics, None when it was not measured."""
        return number(self.score.manifest.metrics, *path)

    @property
    def rom(self) -> dict[str, Any]:
        """What the score says of the ROM that was played (`rom_md5`, `replays_rom`, ...); empty where it does not."""
        return next((root for root in self.score.manifest.roots if root.get("rom_md5")), {})

    @property
    def seeds(self) -> int | None:
        """How many training runs the score stands on; None where its training is not in the store."""
        runs = {found.ref for stage in TRAINED for found in self.of(stage)}
        return 1 if runs else None

    def returns(self, planner: str) -> tuple[float, ...]:
        """Raw return of every episode the planner played; empty when the score came without them.

        Raises WorldlineError for a return that is no finite number.
        """
        table = self.episodes
        found = pd.to_numeric(table.loc[table["planner"] == planner, "return"], errors="coerce").to_numpy(float)
        if not np.isfinite(found).all():
            raise WorldlineError(f"{self.score.ref}: an episode of {planner} has no finite return; evaluate again")
        return tuple(found.tolist())

    @cached_property
    def episodes(self) -> pd.DataFrame:
        """The evaluated episodes; an empty table when the score came without them. Raises WorldlineError if damaged."""
        name = next((name for name in ("episodes.parquet", "episodes.jsonl") if name in self.score.names()), "")
        if not name:
            return pd.DataFrame(columns=list(EPISODE_COLUMNS))
        path = self.score.path(name)
        try:
            table = pd.read_parquet(path) if path.suffix == ".parquet" else pd.read_json(path, lines=True)
        except (ValueError, OSError) as error:
            kind = "Parquet table" if path.suffix == ".parquet" else "table of JSON lines"
            raise WorldlineError(f"{path} is no readable {kind} ({error}): evaluate again") from error
        if absent := [name for name in EPISODE_COLUMNS if name not in table]:
            raise WorldlineError(
                f"{path} lacks the column '{absent[0]}': it holds {', '.join(map(str, table.columns))}; evaluate again"
            )
        return table

    def of(self, stage: str, game: str | None = None) -> list[Artefact]:
        """Its ancestors of one stage, only those about `game` when given."""
        return [
            found
            for found in self.ancestors
            if found.ref.stage == stage and (game is None or found.ref.subject.split("/")[0] == game)
        ]


def gather(scores: Sequence[tuple[str, Artefact]], store: Store) -> list[Entry]:
    """Each (experiment, score) with its lineage. Raises WorldlineError for a score that holds no planner's result."""
    entries = [Entry(name, score, walk(store, score.ref)) for name, score in scores]
    for entry in entries:
        if not entry.planners:
            raise WorldlineError(f"{entry.score.ref} holds no planner's result in its metrics: evaluate again")
    return entries


def in_order(artefacts: Sequence[Artefact]) -> list[Artefact]:
    """In the graph's order, then by address, each once."""
    unique = {artefact.ref: artefact for artefact in artefacts}
    places = {stage: place for place, stage in enumerate(ORDER)}
    return [unique[ref] for ref in sorted(unique, key=lambda ref: (places.get(ref.stage, len(ORDER)), ref))]


def number(metrics: Mapping[str, Any], *path: str) -> float | None:
    """The finite number at `path` inside nested mappings, else None."""
    value: Any = metrics
    for part in path:
        value = value.get(part) if isinstance(value, Mapping) else None
    if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value):
        return None
    return float(value)
