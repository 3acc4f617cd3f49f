"""Rounds of re-evaluation: what an experiment's checkpoints played before, played again with fresh seeds.

A round has a name, by default its ISO week. It asks what the experiment's own evaluation asks, with a seed of its own,
and makes an artefact of its own: asking for a round twice finds it. The episodes of all rounds make one pool
(pipelines/evaluation/pool.py). Nothing schedules here: `worldline reevaluate` and assets/automation.py do.
"""

import hashlib
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from functools import partial
from typing import Any

from pipelines.environments.registry import emulator_seeds
from pipelines.errors import Members, UsageError, WorldlineError
from pipelines.evaluation.pool import STAGE, planners_of, question
from pipelines.graph import table
from pipelines.graph.config_io import override
from pipelines.graph.experiment import Experiment
from pipelines.graph.make import pointer, run_config, standing
from pipelines.graph.plan import Plan, Step
from pipelines.graph.recipe import Recipe
from pipelines.leaderboard.drift import Drift, drift
from pipelines.progress import say
from pipelines.stages.evaluate import EvaluateConfig
from pipelines.stages.tune import TuneConfig
from pipelines.store.artefact import Artefact, Report
from pipelines.store.ref import Ref, check_name
from pipelines.store.store import Store

OWN = ("evaluate.", "tune.")  # the fields of a recipe that say how a checkpoint plays


def changed(recipe: Recipe, changes: Sequence[str]) -> Recipe:
    """The recipe with other ways to play. Raises UsageError for a change of anything else."""
    for change in changes:
        if not change.startswith(OWN):
            raise UsageError(
                f"'{change}' would change more than how the checkpoint plays: set evaluate.FIELD here, or make another "
                "experiment"
            )
    return override(recipe, *changes)


def evaluate_config(plan: Plan, step: Step) -> EvaluateConfig:
    """The plan's config of a step `scores`."""
    config = plan.config(step)
    assert isinstance(config, EvaluateConfig)
    return config


def play_all(configs: Sequence[EvaluateConfig], store: Store, together: int = 1) -> Iterator[Callable[[], Report]]:
    """`evaluate.run_all`, which imports PyTorch, where anything is to be played; else what finds that which stands."""
    with suppress(WorldlineError):  # what is damaged says so when its turn comes
        if all(store.standing(config.spec().ref) is not None for config in configs):
            return (partial(run_config, config, store) for config in configs)
    from pipelines.stages.evaluate import run_all

    return run_all(configs, store, together)


TRIES = 100


@dataclass(frozen=True)
class Due:
    """A game that a checkpoint has to play; without a `round`, the experiment's own evaluation."""

    experiment: Experiment
    game: str
    checkpoint: Ref
    round: str = ""

    def done(self, store: Store, named: Mapping[str, Ref]) -> bool:
        """Whether its scores stand and are this checkpoint's."""
        name = round_name(self.experiment, self.game, self.round)
        scores = store.find(named[name]) if name in named else None
        return scores is not None and str(self.checkpoint) in {parent.ref for parent in scores.manifest.parents}


@dataclass(frozen=True)
class Asked:
    """An evaluation to be made: `name` is the pointer that it gets; `made` is it where it stands already."""

    config: EvaluateConfig
    name: str
    search: TuneConfig | None = None  # for the settings that it plays with
    made: Report | None = None

    @property
    def label(self) -> str:
        """What it is called where several are made: experiment and game."""
        return "/".join(self.name.split("/")[1:3])

    def make(self, store: Store) -> Report:
        """Play it, or find it."""
        (report,) = make_all([self], store)
        return report


def this_round(moment: datetime | None = None) -> str:
    """The round of a moment (default: now), its ISO week in UTC: 2026-W47."""
    year, week, _ = (moment or datetime.now(UTC)).astimezone(UTC).isocalendar()
    return f"{year}-W{week:02d}"


def suite(
    experiments: Iterable[Experiment], store: Store, round: str = "", members: Members | None = None
) -> list[Due]:
    """Every game of every experiment whose checkpoint stands; what cannot be read is said, or kept in `members`.

    Read from pointers and manifests alone: a plan would list buckets.
    """
    kept, found = members or Members(), []
    named = store.pointers(kept)
    for each in experiments:
        with kept.each(each.key):
            found += [Due(each, game, ref, round) for game, ref in checkpoints(each, store, named).items()]
    for member, why in kept.failed.items() if members is None else ():
        say(f"{member} is left out: {why}")
    return found


def due(experiments: Iterable[Experiment], store: Store, round: str = "", members: Members | None = None) -> list[Due]:
    """Of the suite, what has no scores of its checkpoint; in a round, none of that round. `members`: see `suite`."""
    members, found = members or Members(), []
    named = store.pointers(members)
    for each in suite(experiments, store, round, members):
        with members.each(f"{each.experiment.key}/{each.game}"):
            if not each.done(store, named):
                found.append(each)
    return found


def checkpoints(experiment: Experiment, store: Store, named: Mapping[str, Ref]) -> dict[str, Ref]:
    """By game, the checkpoint that plays it, of those that `named` (the pointers) leads to and the store holds."""
    recipe = experiment.recipe
    rows = [row for row in table.PLANNED if row.makes == "agent" and recipe.template(row.verb) is not None]
    if not rows:
        return {}
    last = recipe.template(rows[-1].verb)
    games = (last.only_game,) if last is not None and last.only_game else recipe.games
    found = {game: pointer(Step(rows[-1].name, game if rows[-1].per_game else None), experiment) for game in games}
    there = {name for name in set(found.values()) if name in named and store.find(named[name]) is not None}
    return {game: named[name] for game, name in found.items() if name in there}


def round_name(experiment: Experiment, game: str, round: str = "") -> str:
    """The pointer of a game's scores, or of those of a round. Raises UsageError for a round that names no file."""
    own = pointer(Step(STAGE, game), experiment)
    return f"{own}/{check_name(round)}" if round else own


def asked(
    plan: Plan, experiment: Experiment, game: str, store: Store, round: str = "", changes: Sequence[str] = ()
) -> Asked:
    """The evaluation of a game: the experiment's own, with `changes`, in a round.

    Raises UsageError for a change of anything but how the checkpoint plays, and for a game that it does not play.
    """
    step = Step(STAGE, game)
    if game not in plan.games(STAGE):
        raise UsageError(f"{experiment.key} does not play '{game}': it plays {', '.join(plan.games(STAGE))}")
    asking = plan.but(changed(plan.recipe, changes)) if changes else plan
    config, search = evaluate_config(asking, step), _search(asking, game)
    other = config.spec() != evaluate_config(plan, step).spec()
    name = round_name(experiment, game, round)
    if round:
        config = replace(config, seed=fresh_seed(config, round, evaluations(store, game)))
    elif not other and (made := standing(plan, step, store)) is not None:
        return Asked(config, name, made=made)
    return Asked(config, f"{name}/{config.planner}-{config.spec().key[:8]}" if other else name, search)


def _search(plan: Plan, game: str) -> TuneConfig | None:
    """The search for the settings that a game is played with, where the recipe has one."""
    if TuneConfig.STAGE not in plan.stages:
        return None
    config = plan.config(Step(TuneConfig.STAGE, game))
    assert isinstance(config, TuneConfig)
    return config


def make_all(
    asks: Sequence[Asked], store: Store, together: int = 1, members: Members | None = None
) -> Iterator[Report]:
    """Play them in turn, or find them; neighbours with one checkpoint share its networks.

    One that fails is left out where `members` keeps why; otherwise it is raised.
    """
    members = Members.or_strict(members)
    for one in asks:
        if one.search is not None:
            with members.each(one.label):
                run_config(one.search, store)
    asks = [one for one in asks if one.label not in members.failed]
    played = play_all([one.config for one in asks if one.made is None], store, together)
    for one in asks:
        play = next(played) if one.made is None else None
        with members.each(one.label):
            report = play() if play is not None else one.made
            assert report is not None, "what is not made is played"
            store.point(one.name, report.artefact.ref)
            yield report


def evaluations(store: Store, game: str) -> list[Artefact]:
    """Every evaluation of a game that the store holds and that can be read."""
    return list(store.artefacts(f"{STAGE}/{game}", Members()))


def fresh_seed(config: EvaluateConfig, round: str, others: Sequence[Artefact]) -> int:
    """The seed of a round: that of the round's name, or where its emulators met those of an earlier round, the next.

    Depends on the name and on who asked the same before, not on the day: a round that stands is found again.
    """
    spec = config.spec()
    same = [
        other
        for other in others
        if any(question(other, name) == question(spec, name) for name in planners_of(other) if name in config.players)
    ]
    played = {int(other.manifest.config["seed"]): _emulators(other.manifest.config) for other in same}
    taken = {seed for seeds in played.values() for seed in seeds}
    for seed in _seeds(round):
        mine = _emulators({**config.spec().config, "seed": seed})
        if seed in played or not mine & taken:
            return seed
    raise UsageError(f"Round '{round}' finds no seeds that were not played before: give it another name")


def look(evaluation: Artefact, store: Store) -> Drift:
    """An evaluation against the earlier ones of its checkpoint that the store holds."""
    return drift(evaluation, evaluations(store, evaluation.manifest.subject))


def _seeds(round: str) -> Iterator[int]:
    for number in range(TRIES):
        yield int.from_bytes(hashlib.sha256(f"{round}/{number}".encode()).digest()[:4], "big")


def _emulators(config: Mapping[str, Any]) -> set[int]:
    counts = (int(config[name]) for name in ("episodes", "random_episodes", "beam_episodes"))
    return set(emulator_seeds(int(config["seed"]), max(counts)))
