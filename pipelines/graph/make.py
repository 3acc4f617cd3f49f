"""Make one artefact of a plan, or the leaderboard: what every command and every Dagster asset goes through.

An experiment's name means what was made. Each step that is made for it gets a pointer with the experiment's key, and
from then on `plan_of` goes on with what those pointers lead to: whether the source still answers, and whether today's
code would make the same, is asked only where a step is not there, or is made anew (`Store.remake`).
"""

import importlib
from collections.abc import Collection

from pipelines.environments.registry import GAMES
from pipelines.errors import Members, UsageError
from pipelines.graph import table
from pipelines.graph.experiment import Experiment
from pipelines.graph.plan import Plan, Step
from pipelines.graph.table import DATA_STAGES
from pipelines.progress import say
from pipelines.stages.report import ReportConfig
from pipelines.store.artefact import Artefact, Report
from pipelines.store.ref import Ref
from pipelines.store.stage_config import Spec, StageConfig, canonical_json
from pipelines.store.store import Store

UNREGISTERED = "unregistered"  # in names: a recipe's, which is frozen as no experiment


def run_config(config: StageConfig, store: Store) -> Report:
    """Run the stage that `config` belongs to, or find its artefact (then nothing is imported)."""
    if (found := store.standing(config.spec().ref)) is not None:
        return Report(found, skipped=True)
    return importlib.import_module(table.stage(config.STAGE).module).run(config, store)


def plan_of(experiment: Experiment, store: Store) -> Plan:
    """The plan of an experiment, which goes on with what was made for it."""

    def made(step: Step) -> Ref | None:
        ref = store.pointed(pointer(step, experiment))
        return ref if ref is not None and store.holds(ref) else None  # whether it is sound is asked of who uses it

    return Plan(experiment.recipe, store.profile.replay_root, store.profile, made)


def standing(plan: Plan, step: Step, store: Store) -> Report | None:
    """What was made of a step, with a word where the recipe would make something else now; None where it is to be made.

    Raises WorldlineError for a damaged or stale artefact.
    """
    ref = plan.made(step)
    if store.remake or ref is None:
        ref = plan.config(step).spec().ref
    found = store.standing(ref)
    return None if found is None else Report(found, skipped=True, other=difference(found, plan.would_make(step)))


def make(plan: Plan, step: Step, store: Store, experiment: Experiment | None = None) -> Report:
    """Run one step of a plan, or find it, and let its names point at the result (`scores/<experiment>/<game>`)."""
    report = standing(plan, step, store) or run_config(plan.config(step), store)
    give_names(store, step, report.artefact.ref, experiment)
    return report


def give_names(store: Store, step: Step, ref: Ref, experiment: Experiment | None) -> None:
    """Let the names of a step mean `ref`: the experiment's own, and for plain data the one that all share."""
    store.point(pointer(step, experiment), ref)
    if experiment is not None and step.stage in DATA_STAGES:
        store.point(pointer(step, None), ref)


def pointer(step: Step, experiment: Experiment | None) -> str:
    """The name people use for a step's artefact: with the experiment's key; plain data of none has no such part."""
    parts = [step.stage]
    if experiment is not None:
        parts.append(experiment.key)
    elif step.stage not in DATA_STAGES:
        parts.append(UNREGISTERED)
    parts += [str(part) for part in (step.game, step.agent) if part is not None]
    return "/".join(parts)


def step_named(name: str) -> tuple[Step, str] | None:
    """The step that a pointer was given for and the key of its experiment ("" of none): what `pointer` was asked.

    Scores of a round, or under other settings, are of their game. None for a name that belongs to no partition.
    """
    stage, *parts = name.split("/")
    if stage not in table.NAMES or stage == table.BOARD:
        return (Step(stage), "") if name == POINTER else None
    row = table.stage(stage)
    dimensions = [dimension for dimension in row.per.split() if dimension != "experiment"]
    experiment = "" if row.kind == "data" and len(parts) == len(dimensions) else parts.pop(0) if parts else UNREGISTERED
    more = len(parts) - len(dimensions)
    if experiment == UNREGISTERED or more < 0 or (more > 0 and row.kind != "evaluation"):
        return None
    at = dict(zip(dimensions, parts, strict=False))
    if at.get("game", GAMES[0]) not in GAMES or not at.get("agent", "0").isdecimal():
        return None
    return Step(stage, at.get("game"), int(at["agent"]) if "agent" in at else None), experiment


def difference(found: Artefact, now: Spec | None) -> str:
    """How an artefact differs from what would be made now, in words; "" where it does not, or nobody can know."""
    manifest = found.manifest
    if now is None or now.ref == found.ref:
        return ""
    if manifest.code_version != now.code_version:
        return f"code version {manifest.code_version} made it, today's is {now.code_version}"
    of_source = table.stage(now.stage).config.filled_by("source")
    for field, value in now.config.items():
        if canonical_json(manifest.config.get(field)) != canonical_json(value):
            if field in of_source:
                return "the source lists other objects now, or is another one"
            return f"{field} is {value} now, it was {str(manifest.config.get(field))[:40]}"
    old, new = [entry.ref for entry in manifest.parents], [str(parent) for parent in now.parents]
    changed = next((pair for pair in zip(old, new, strict=False) if pair[0] != pair[1]), None)
    return f"it is of {changed[0]}, the experiment has {changed[1]} now" if changed else "its inputs are others now"


POINTER = "leaderboard/all"


def board_config(store: Store, experiments: Collection[str] = (), members: Members | None = None) -> ReportConfig:
    """The leaderboard of all experiments, or of those whose keys are given, in the order of their names.

    Scores that are damaged or stale are left out; `members` keeps why. Raises UsageError when there is no score at
    all, or none of an experiment that was asked for.
    """
    found, members = [], members or Members()
    for name, ref in store.pointers(members).items():
        stage, _, rest = name.partition("/")
        experiment = rest.partition("/")[0]
        if stage == "scores" and (not experiments or experiment in experiments) and store.holds(ref):
            with members.each(name):
                found.append((experiment, store.open(ref).ref))
    if absent := sorted(set(experiments) - {experiment for experiment, _ in found}):
        raise UsageError(
            f"Experiment '{absent[0]}' has no scores in {store.where}: evaluate it first "
            f"(worldline materialize --experiment {absent[0]} --until scores)"
        )
    if not found:
        members.end()
    return ReportConfig(scores=tuple(ref for _, ref in found), names=tuple(name for name, _ in found))


def make_board(store: Store, experiments: Collection[str] = (), members: Members | None = None) -> Report:
    """Make the leaderboard, or find it; a stale page is made anew, nothing is lost with it.

    The pointer `leaderboard/all` follows only when no experiment is left out. What is wrong with scores that are left
    out is said, or kept in `members`.
    """
    kept = members or Members()
    report = run_config(board_config(store, experiments, kept), store.remaking())
    for why in kept.failed.values() if members is None else ():
        say(f"Left out of the leaderboard: {why}")
    if not experiments:
        store.point(POINTER, report.artefact.ref)
    return report
