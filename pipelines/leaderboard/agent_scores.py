"""What was measured of one agent on one game: pooled evaluations of every training run that differs in its seed alone.

Evaluations of one checkpoint are pooled as pipelines/evaluation/pool.py says. Checkpoints are runs of one agent where
their lineages are equal but for training seeds: the same data, code and configs all the way down, and the same question
asked of them. Those that learn a game of their own are then one agent over all games. All of it is read from manifests,
so a renamed or forgotten experiment changes nothing.
"""

import hashlib
import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import pandas as pd

from pipelines.errors import WorldlineError
from pipelines.evaluation.pool import Pool, circumstances, planners_of, pools, read_by
from pipelines.leaderboard.drift import drift
from pipelines.store.artefact import Artefact
from pipelines.store.lineage import Node, edges, flat, walk_all
from pipelines.store.ref import Ref
from pipelines.store.stage_config import canonical_json
from pipelines.store.store import Store

ORDER = (  # the graph's order, in which tables list the stages
    "collected_replay",
    "replay",
    "trajectories",
    "imported_trajectories",
    "segments",
    "imported_shards",
    "pretrained",
    "tokens",
    "world_action_model",
    "finetuned",
    "videos",
    "video_pretrained",
    "world_model_agent",
    "scores",
)

EPISODES = ("trajectories", "imported_trajectories")  # stages that make whole episodes

LEARNED = "world_model_agent"  # the stage whose agents learn from their own play, each of one game

TRAINED = ("pretrained", "world_action_model", "finetuned", "video_pretrained", LEARNED)  # stages that train


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
        """What the score says was played (`emulator`, and `rom_md5` where there is a ROM); empty where it does not."""
        return next((root for root in self.score.manifest.roots if root.get("rom_md5") or root.get("emulator")), {})

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


SEEDED = (*TRAINED, "tokens")  # stages below which only training seeds may differ

GAME_S_OWN = ("game", "rom_md5")  # of a config: what differs from game to game of one agent

MOST_NAMED = 2


@dataclass(frozen=True)
class Run:
    """One training of an agent and its pool of evaluations on one game. `name` is its last checkpoint's address, `seed`
    that of its training; None where the training is not in the store. `entry` is the newest evaluation.
    """

    name: str
    seed: int | None
    experiments: tuple[str, ...]
    pool: Pool
    entry: Entry


@dataclass(frozen=True)
class Sample:
    """`runs` by training seed, at least one; all asked the same of one planner in the same circumstances."""

    agent: str
    runs: tuple[Run, ...]

    @property
    def newest(self) -> Entry:
        """The newest evaluation of all."""
        return max((run.entry for run in self.runs), key=lambda entry: entry.score.manifest.created)

    @property
    def game(self) -> str:
        """What was played."""
        return self.newest.game

    @property
    def experiments(self) -> tuple[str, ...]:
        """Every experiment that stands behind it."""
        return tuple(dict.fromkeys(name for run in self.runs for name in run.experiments))

    @property
    def seeds(self) -> int | None:
        """How many training runs it stands on; None where their training is not in the store."""
        return len(self.runs) if all(run.seed is not None for run in self.runs) else None

    @property
    def planner(self) -> str:
        """Whose episodes it is of; others that played beside it are in `episodes` too."""
        return self.runs[0].pool.planner

    @property
    def sources(self) -> tuple[str, ...]:
        """The addresses of all evaluations in it, run by run."""
        return tuple(str(member.ref) for run in self.runs for member in run.pool.members)

    @cached_property
    def episodes(self) -> pd.DataFrame:
        """The pools' episodes with their `run`. Random play asks no checkpoint: its runs are one, each seed once."""
        found = pd.concat([run.pool.episodes.assign(run=run.name) for run in self.runs], ignore_index=True)
        if "seed" not in found:
            return found
        again = (found["planner"] == "random") & found["seed"].notna() & found.duplicated(["planner", "seed"])
        return found[~again].reset_index(drop=True)

    @property
    def returns(self) -> dict[str, tuple[float, ...]]:
        """The planner's raw returns by run. Raises WorldlineError for one that is no finite number."""
        found = {run.name: run.pool.returns(self.planner) for run in self.runs}
        return {name: returns for name, returns in found.items() if returns}

    @property
    def drifts(self) -> list[str]:
        """Where a newest evaluation does not say what the earlier ones it is pooled with said."""
        return [
            f"{run.pool.newest.ref}: {compared}"
            for run in self.runs
            if len(run.pool.members) > 1
            for compared in drift(run.pool.newest, run.pool.members[:-1]).compared
            if compared.planner == self.planner and compared.apart
        ]

    @property
    def apart(self) -> list[str]:
        """Evaluations of the same question that cannot be pooled, with the reason."""
        return [f"{each.artefact.ref}: {', '.join(each.why)}" for run in self.runs for each in run.pool.apart]


def samples(entries: Sequence[Entry]) -> list[Sample]:
    """Every pool of evaluations in its sample, in the order in which they first come, greedy before who searches."""
    by_run: dict[str, list[Entry]] = {}
    for entry in entries:
        by_run.setdefault(_run_name(entry), []).append(entry)
    agents: dict[str, dict[str, list[Run]]] = {}
    origins = _Origins()
    for name, mine in by_run.items():
        for pool in pools(entry.score for entry in mine):
            run = _run(name, pool, mine)
            agent, rest = _agent(run, origins)
            agents.setdefault(agent, {}).setdefault(rest, []).append(run)
    found = []
    for games in agents.values():
        label = _label(run for runs in games.values() for run in runs)
        for runs in games.values():
            found.append(Sample(label, tuple(sorted(runs, key=lambda run: (run.seed or 0, run.name)))))
    places = {str(entry.score.ref): place for place, entry in reversed(list(enumerate(entries)))}
    first = {id(sample): min(places[source] for source in sample.sources) for sample in found}
    return sorted(found, key=lambda sample: (first[id(sample)], sample.planner != "greedy", sample.planner))


def _run_name(entry: Entry) -> str:
    """The last checkpoint behind a score; the experiment where there is none in its lineage."""
    checkpoints = [found.ref for stage in ("imported", *TRAINED) for found in entry.of(stage)]
    return str(checkpoints[-1]) if checkpoints else entry.experiment


def _run(name: str, pool: Pool, entries: Sequence[Entry]) -> Run:
    members = {member.ref for member in pool.members}
    mine = [entry for entry in entries if entry.score.ref in members]
    newest = next(entry for entry in mine if entry.score.ref == pool.newest.ref)
    trained = [found for stage in TRAINED for found in newest.of(stage)]
    seed = int(trained[-1].manifest.config.get("seed", 0)) if trained else None
    return Run(name, seed, tuple(dict.fromkeys(entry.experiment for entry in mine)), pool, newest)


def _agent(run: Run, origins: "_Origins") -> tuple[str, str]:
    """What makes a run one of an agent's, and what else makes it one of a sample's, as texts."""
    manifest = run.entry.score.manifest
    # What cannot be traced is like nothing else. The collection is only what a score is compared with.
    below = [origins.of(parent) for parent in run.entry.tree.parents if parent.ref.stage != "collected_replay"]
    own = below if below and None not in below else run.name
    planner = run.pool.planner
    asked = {"planner": planner, **read_by(planner, manifest.config)}
    known = circumstances(run.entry.score, planner).items()
    around = {name: value for name, value in known if "manifest of" not in name}
    everywhere = {name: around.pop(name) for name in ("emulator", "rules", "code version")}
    agent = {name: value for name, value in asked.items() if name not in GAME_S_OWN}
    return canonical_json([own, agent, everywhere]), canonical_json([manifest.subject, asked, around])


class _Origins:
    """What artefacts are apart from training seeds, as digests; each is worked out once."""

    def __init__(self) -> None:
        self._known: dict[Ref, str | None] = {}

    def of(self, node: Node) -> str | None:
        """None where it cannot be told."""
        if node.fault and node.ref.stage in SEEDED:
            return None
        if node.ref not in self._known:
            self._known[node.ref] = self._read(node)
        return self._known[node.ref]

    def _read(self, node: Node) -> str | None:
        if node.ref.stage not in SEEDED:
            return str(node.ref)
        below = [self.of(parent) for parent in node.parents]
        if node.artefact is None or None in below:
            return None
        manifest = node.artefact.manifest
        config = {name: value for name, value in manifest.config.items() if name != "seed"}
        subject = manifest.subject
        if node.ref.stage == LEARNED:
            subject, config = "", _of_any_game(config)
        own = [node.ref.stage, subject, manifest.code_version, config, below]
        return hashlib.sha256(canonical_json(own).encode()).hexdigest()


def _of_any_game(config: Mapping[str, Any]) -> dict[str, Any]:
    """A config without what differs from game to game, at any depth."""
    return {
        name: _of_any_game(value) if isinstance(value, Mapping) else value
        for name, value in config.items()
        if name not in GAME_S_OWN
    }


def _label(runs: Iterable[Run]) -> str:
    """The experiments of an agent in a word or two."""
    by_seed = sorted(runs, key=lambda run: run.seed or 0)
    names = list(dict.fromkeys(name for run in by_seed for name in run.experiments))
    more = len(names) - MOST_NAMED
    return " + ".join(names) if more <= 0 else f"{names[0]} + {more + 1} more"
