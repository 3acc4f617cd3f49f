"""One score on the leaderboard, with everything it was made from."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

from pipelines.errors import WorldlineError
from pipelines.evaluation.pool import planners_of
from pipelines.lineage.walk import Node, edges, flat, walk_all
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
    def rom(self) -> dict[str, Any]:
        """What the score says of the ROM that was played (`rom_md5`, `replays_rom`, ...); empty where it does not."""
        return next((root for root in self.score.manifest.roots if root.get("rom_md5")), {})

    def number(self, *path: str) -> float | None:
        """A finite number from the score's metrics, None when it was not measured."""
        return number(self.score.manifest.metrics, *path)

    def of(self, stage: str, game: str | None = None) -> list[Artefact]:
        """Its ancestors of one stage, only those about `game` when given."""
        return [
            found
            for found in self.ancestors
            if found.ref.stage == stage and (game is None or found.ref.subject.split("/")[0] == game)
        ]


def gather(scores: Sequence[tuple[str, Artefact]], store: Store) -> list[Entry]:
    """Each (experiment, score) with its lineage. Raises WorldlineError for a score that holds no planner's result."""
    trees = walk_all(store, [score.ref for _, score in scores])
    entries = [Entry(name, score, tree) for (name, score), tree in zip(scores, trees, strict=True)]
    for entry in entries:
        if not planners_of(entry.score):
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
