"""Evaluations of one checkpoint on one game whose episodes of one planner count together.

A re-evaluation asks the same question with fresh seeds and makes an artefact of its own; nothing is ever appended to a
file. Which artefacts make a pool is read from their manifests: the question must be equal (game, rules, the address of
the checkpoint, the settings that this planner reads), and so must be the circumstances (emulator, ROM, code, the
checkpoint's bytes). An evaluation in which two planners play is in a pool of each.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any

import numpy as np

from pipelines.errors import WorldlineError, may_pass, not_now
from pipelines.evaluation.player_settings import SearchConfig, read_search
from pipelines.store.artefact import Artefact
from pipelines.store.stage_config import Spec, canonical_json

if TYPE_CHECKING:
    import pandas as pd

STAGE = "scores"

# Of a config: who plays, and what not everyone reads.
OF_PLANNERS = ("planner", "beam_width", "beam_horizon", "beam_steps", "beside", "search", "max_steps")

FREE = ("seed", "episodes", "random_episodes", "beam_episodes")  # of a config: which episodes and how many, not how

EPISODE_COLUMNS = ("planner", "return", "ended")

NO_PLANNER = ("random", "behaviour")  # entries of a score's metrics that are references

UNKNOWN = "not recorded"


@dataclass(frozen=True)
class Apart:
    """An evaluation that asks the same question and yet cannot be pooled: `why`, a difference each."""

    artefact: Artefact
    why: tuple[str, ...]


@dataclass(frozen=True)
class Pool:
    """Oldest first, at least one of them. `apart` were made in other circumstances than the newest.

    `planner` is whose question they all ask; others that played in them are there to be compared with.
    """

    members: tuple[Artefact, ...]
    planner: str
    apart: tuple[Apart, ...] = ()

    @property
    def newest(self) -> Artefact:
        """The evaluation whose circumstances decide who is a member."""
        return self.members[-1]

    @property
    def game(self) -> str:
        """What was played."""
        return self.newest.manifest.subject

    @cached_property
    def episodes(self) -> "pd.DataFrame":
        """All members' episodes with their `evaluation` (address). An emulator's seed that several played counts once.

        Raises WorldlineError for a damaged table.
        """
        import pandas as pd  # where tables are read: describing an experiment needs none

        tables = [episodes_of(member).assign(evaluation=str(member.ref)) for member in self.members]
        found = pd.concat([table for table in tables if len(table)] or tables, ignore_index=True)
        if "seed" not in found:
            return found
        again = found.duplicated(["planner", "seed"]) & found["seed"].notna()
        return found[~again].reset_index(drop=True)

    def returns(self, planner: str) -> tuple[float, ...]:
        """Raw returns of all its episodes. Raises WorldlineError for one that is no finite number."""
        import pandas as pd

        table = self.episodes
        found = pd.to_numeric(table.loc[table["planner"] == planner, "return"], errors="coerce").to_numpy(float)
        if not np.isfinite(found).all():
            raise WorldlineError(
                f"{', '.join(str(member.ref) for member in self.members)}: an episode of {planner} has no finite "
                "return; delete that evaluation's folder and evaluate again"
            )
        return tuple(found.tolist())


def pools(artefacts: Iterable[Artefact]) -> list[Pool]:
    """A pool for every question that these scores ask of a planner, in the order in which they first come."""
    asked: dict[tuple[str, str], dict[str, Artefact]] = {}
    for artefact in artefacts:
        for planner in planners_of(artefact) if artefact.ref.stage == STAGE else ():
            asked.setdefault((planner, question(artefact, planner)), {})[str(artefact.ref)] = artefact
    return [_pool(by_age(found.values()), planner) for (planner, _), found in asked.items()]


def pool_of(artefact: Artefact, artefacts: Iterable[Artefact], planner: str) -> Pool:
    """The pool around `artefact`: itself, and those of `artefacts` that it can be pooled with."""
    others = [other for other in artefacts if other.ref != artefact.ref]
    return _pool([*by_age(other for other in others if asks_alike(other, artefact, planner)), artefact], planner)


def by_age(artefacts: Iterable[Artefact]) -> list[Artefact]:
    """Oldest first; of one second, by address."""
    return sorted(artefacts, key=lambda found: (found.manifest.created, found.ref))


def asks_alike(one: Artefact, other: Artefact, planner: str) -> bool:
    """Whether a planner plays in both, and is asked the same."""
    both = set(planners_of(one)) & set(planners_of(other))
    return planner in both and question(one, planner) == question(other, planner)


def question(asked: Artefact | Spec, planner: str) -> str:
    """What an evaluation asks of a planner, as text.

    Equal for evaluations that differ in seeds, in numbers of episodes, and in settings that this planner does not read.
    """
    if isinstance(asked, Artefact):
        manifest = asked.manifest
        subject, config, parents = manifest.subject, manifest.config, [parent.ref for parent in manifest.parents]
    else:
        subject, config, parents = asked.subject, asked.config, [str(parent) for parent in asked.parents]
    return canonical_json([subject, planner, read_by(planner, config), parents])


def read_by(planner: str, config: Mapping[str, Any]) -> dict[str, Any]:
    """Of an evaluation's config, what decides about a planner's episodes of given seeds."""
    found = {name: value for name, value in config.items() if name not in FREE and name not in OF_PLANNERS}
    if planner == config.get("planner", "greedy"):
        found["max_steps"] = config.get("max_steps", 0)
    else:  # the search that plays beside it
        found["max_steps"] = config.get("beam_steps", 0) or config.get("max_steps", 0)
    if planner == "greedy":
        return found
    found |= {name: config[name] for name in ("beam_width", "beam_horizon") if name in config}
    return found | {"search": read_search(planner, SearchConfig(**config.get("search", {})))}


def circumstances(artefact: Artefact, planner: str) -> dict[str, str]:
    """What else decides about a planner's episodes, by name; none of it is chosen by who asks."""
    manifest = artefact.manifest
    played = next((root for root in manifest.roots if root.get("rom_md5") or root.get("emulator")), {})
    rules = [f"{name} {played[name]}" for name in ("sticky", "noop_max", "max_steps") if name in played]
    found = {
        "emulator": str(played.get("emulator", UNKNOWN)),
        "ROM": str(played.get("rom_md5", UNKNOWN)),
        "rules": ", ".join(rules) or UNKNOWN,
        "code version": manifest.code_version,
    }
    found |= {f"manifest of {parent.ref}": parent.manifest_sha256[:16] for parent in manifest.parents}
    settings = manifest.metrics.get(planner, {}).get("settings")
    if isinstance(settings, Mapping):
        found[f"settings of {planner}"] = ", ".join(f"{name} {value}" for name, value in sorted(settings.items()))
    return found


def differences(ours: Mapping[str, Any], theirs: Mapping[str, Any]) -> tuple[str, ...]:
    """Where two mappings disagree, theirs first, in words; what only one of them names is no disagreement."""
    return tuple(
        f"{name} was {theirs[name]}, is {ours[name]}" for name in ours if name in theirs and ours[name] != theirs[name]
    )


def planners_of(artefact: Artefact) -> list[str]:
    """Who played in one evaluation, without random play, greedy first; they alone have a mean return."""
    found = {name: value for name, value in artefact.manifest.metrics.items() if name not in NO_PLANNER}
    names = [name for name, value in found.items() if isinstance(value, Mapping) and "mean" in value]
    return sorted(names, key=lambda name: (name != "greedy", name))


def episodes_of(artefact: Artefact) -> "pd.DataFrame":
    """The evaluated episodes; an empty table when the score came without them. Raises WorldlineError if damaged."""
    import pandas as pd

    name = next((name for name in ("episodes.parquet", "episodes.jsonl") if name in artefact.names()), "")
    if not name:
        return pd.DataFrame(columns=list(EPISODE_COLUMNS))
    path = artefact.path(name)
    try:
        table = pd.read_parquet(path) if path.suffix == ".parquet" else pd.read_json(path, lines=True)
    except (ValueError, OSError) as error:
        if may_pass(error):
            raise not_now(path, error) from error
        kind = "Parquet table" if path.suffix == ".parquet" else "table of JSON lines"
        raise WorldlineError(f"{path} is no readable {kind} ({error}): evaluate again") from error
    if absent := [name for name in EPISODE_COLUMNS if name not in table]:
        raise WorldlineError(
            f"{path} lacks the column '{absent[0]}': it holds {', '.join(map(str, table.columns))}; evaluate again"
        )
    return table


def _pool(aged: Sequence[Artefact], planner: str) -> Pool:
    """The last decides."""
    ours = circumstances(aged[-1], planner)
    members, apart = [], []
    for each in aged:
        why = differences(ours, circumstances(each, planner))
        if why:
            apart.append(Apart(each, why))
        else:
            members.append(each)
    return Pool(tuple(members), planner, tuple(apart))
