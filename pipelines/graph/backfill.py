"""What to make, and in which lanes: the steps of some games up to a stage with all that they are made from.

A lane is what one process does in turn: the consecutive stages of one game, or one stage of all games together. Lanes
that need nothing of each other run side by side. Nothing runs here: `assets/backfill.py` does, `worldline backfill
--dry-run` prints it.
"""

from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass
from itertools import count
from pathlib import Path

from pipelines.errors import Members, UsageError, WorldlineError, unknown
from pipelines.graph import table
from pipelines.graph.experiment import LONGEST_NAME, Experiment, find, registered
from pipelines.graph.make import board_config, difference, plan_of, pointer, standing
from pipelines.graph.plan import Plan, Step
from pipelines.graph.recipe import Recipe
from pipelines.graph.table import BOARD
from pipelines.stages.evaluate import EvaluateConfig
from pipelines.store.store import Store

LAST = EvaluateConfig.STAGE  # what the leaderboard is made from
MADE, THERE, FAILED, WAITS = "made", "there", "failed", "waits"
MOST_NAMED = 3  # games in the name of an experiment that nobody named


@dataclass(frozen=True)
class Outcome:
    """What became of a step: one of the four words above; `text` is its line, its error, or what it waits for."""

    step: Step
    state: str
    seconds: float = 0.0
    text: str = ""
    code: int = 0


@dataclass(frozen=True)
class Lane:
    """Steps that one process does in turn, under the game or the stage that they are of."""

    name: str
    steps: tuple[Step, ...]


def choose(plan: Plan, until: str, only: str | None = None, games: Sequence[str] = ()) -> list[Step]:
    """The steps of `plan` up to stage `until`, of stage `only` and of `games` where given.

    Raises UsageError for an unknown stage, a game that the experiment does not have, for a stage of all games that is
    asked for some of them alone, and when nothing is left.
    """
    known = (*plan.stages, BOARD)
    for stage in (until, only or until):
        if stage not in known:
            raise unknown("stage", stage, known, "'worldline materialize --help' explains them")
    for game in games:
        if game not in plan.every_game:
            raise unknown("game of this experiment", game, plan.every_game, "it was frozen when it was registered")
    steps = plan.steps(LAST if until == BOARD else until)
    if until in (LAST, BOARD):
        steps.append(Step(BOARD))
    chosen = [
        step for step in steps if only in (None, step.stage) and (not games or step.game is None or step.game in games)
    ]
    if not chosen:
        raise UsageError(f"No step is left: stage '{only}' does not come before '{until}' in this experiment")
    if only and (told := of_all(plan, chosen, games)):
        raise UsageError(f"{told}: leave --games out, or freeze an experiment of those games")
    return chosen


def of_all(plan: Plan, steps: Sequence[Step], games: Sequence[str]) -> str:
    """In words, the stages of `steps` that are of all games at once, where `games` are not all; "" where there is none.

    The leaderboard is of all experiments anyway, and told only where nothing else was asked for.
    """
    whole = list(dict.fromkeys(step.stage for step in steps if step.game is None))
    if {BOARD} < {step.stage for step in steps}:
        whole = [stage for stage in whole if stage != BOARD]
    if not games or not whole or {*games} >= {*plan.every_game}:
        return ""
    return (
        f"--games {','.join(games)} does not narrow {', '.join(whole)}, which "
        f"{'is' if len(whole) == 1 else 'are'} of all games of the experiment at once ({', '.join(plan.every_game)})"
    )


def with_parents(plan: Plan, steps: Sequence[Step]) -> list[Step]:
    """These steps and all that they are made from, whichever game's: parents before children."""
    wanted, queue = set(steps), list(steps)
    while queue:
        step = queue.pop()
        more = set() if step.stage == BOARD else plan.parents(step) - wanted
        wanted |= more
        queue += more
    return [step for step in (*plan.steps(), Step(BOARD)) if step in wanted]


@dataclass(frozen=True)
class Asked:
    """What a backfill is of. Without an experiment it is data that all share."""

    plan: Plan
    steps: list[Step]
    experiment: Experiment | None


def as_asked(
    folder: Path, games: Sequence[str], until: str, store: Store, recipe: Recipe | None, experiment: str = ""
) -> Asked:
    """The steps of `games` up to `until` with all that they are made from: of an experiment, or as a recipe says.

    Raises UsageError for an experiment, a stage or a game that is not there, with the way to have it.
    """
    if recipe is not None and until in table.DATA_STAGES and "experiment" not in table.stage(until).per:
        plan = Plan(recipe, store.profile.replay_root, store.profile)
        return Asked(plan, with_parents(plan, choose(plan, until)), None)
    whose = experiment_for(folder, recipe) if recipe is not None else find(folder, experiment)
    plan = plan_of(whose, store)
    if absent := [game for game in games if game not in plan.every_game]:
        every = ",".join([*plan.every_game, *absent])
        raise UsageError(
            f"Experiment '{whose.name}' is of {', '.join(plan.every_game)}, not of {', '.join(absent)}, and frozen: "
            f"leave --experiment out to have one of {', '.join(games)} alone, or make one of all (worldline experiment "
            f"new NAME --recipe {whose.recipe.name} --games {every})"
        )
    return Asked(plan, with_parents(plan, choose(plan, until, games=games)), whose)


def lanes(steps: Sequence[Step]) -> list[Lane]:
    """The lanes of steps that stand in order. A stage of all games together parts what comes before from the rest."""
    found: list[dict[str, list[Step]]] = [{}]
    for step in steps:
        if step.game is None:
            found += [{step.stage: [step]}, {}]
        else:
            found[-1].setdefault(step.game, []).append(step)
    return [Lane(name, tuple(inside)) for block in found for name, inside in block.items()]


def parents(plan: Plan, step: Step, steps: Iterable[Step]) -> set[Step]:
    """Those of `steps` that a step is made from; the leaderboard is of all scores."""
    if step.stage == BOARD:
        return {each for each in steps if each.stage == LAST}
    return plan.parents(step) & set(steps)


def waiting(plan: Plan, step: Step, steps: Collection[Step], lost: Collection[Step]) -> str:
    """What a step waits for: the lost one that it is made from, "" for none. The leaderboard takes what there is."""
    above = parents(plan, step, steps)
    gone = sorted(map(str, above & set(lost)))
    return "" if not gone or (step.stage == BOARD and len(gone) < len(above)) else gone[0]


def missing(plan: Plan, steps: Sequence[Step], store: Store) -> list[Step]:
    """The steps whose artefact does not stand, or would be refused."""
    return [each.step for each in prospect(plan, steps, store, None) if each.state != THERE]


def total(outcomes: Sequence[Outcome]) -> str:
    """One line about all of them."""
    numbers = {state: sum(each.state == state for each in outcomes) for state in (MADE, THERE, FAILED, WAITS)}
    if numbers[THERE] == len(outcomes):
        return "Everything was already there."
    wait = f", {numbers[WAITS]} wait for what failed" if numbers[WAITS] else ""
    return f"{numbers[MADE]} made, {numbers[THERE]} already there{wait}."


def exit_code(outcomes: Sequence[Outcome]) -> int:
    """0 where nothing failed; bad usage only where nothing else went wrong or was made."""
    codes = {each.code for each in outcomes if each.state == FAILED}
    made = any(each.state == MADE for each in outcomes)
    return 0 if not codes else codes.pop() if len(codes) == 1 and not made else WorldlineError.exit_code


def experiment_for(folder: Path, recipe: Recipe) -> Experiment:
    """The registered experiment of this very recipe, or one to be registered under a name that nobody has.

    The name says recipe and games: demo-Pong-Qbert, demo-12-games.
    """
    there = registered(folder, Members())
    for each in there:
        if Experiment(each.name, recipe).key == each.key:
            return each
    named = "-".join(recipe.games) if len(recipe.games) <= MOST_NAMED else f"{len(recipe.games)}-games"
    base = f"{recipe.name}-{named}"[: LONGEST_NAME - 4]
    taken = {each.name for each in there}
    names = (f"{base}-{number}" if number > 1 else base for number in count(1))
    name = next(free for free in names if free not in taken)
    return Experiment(name, recipe)


def prospect(plan: Plan, steps: Sequence[Step], store: Store, experiment: Experiment | None) -> list[Outcome]:
    """What a backfill would find: THERE, FAILED with the error of what it would refuse, MADE with the reason why."""
    found: dict[Step, Outcome] = {}
    for step in steps:
        anew = [each for each in parents(plan, step, steps) if found[each].state == MADE]
        try:
            found[step] = _prospect(plan, step, store, experiment, anew)
        except WorldlineError as error:
            found[step] = Outcome(step, FAILED, text=str(error), code=error.exit_code)
    return list(found.values())


def _prospect(plan: Plan, step: Step, store: Store, experiment: Experiment | None, anew: Sequence[Step]) -> Outcome:
    if step.stage == BOARD:
        if anew:
            return Outcome(step, MADE, text=f"{len(anew)} of its scores would be made")
        ref = board_config(store).spec().ref
        there = store.standing(ref) is not None
        return Outcome(step, THERE if there else MADE, text=str(ref) if there else "scores have come since")
    if (report := standing(plan, step, store)) is not None:
        return Outcome(step, THERE, text=str(report.artefact.ref))
    spec = plan.config(step).spec()
    before = store.pointed(pointer(step, experiment))
    other = store.find(before) if before is not None else None
    if store.holds(spec.ref):
        why = "--remake: it is stale, damaged or of other code"
    elif other is not None and (differs := difference(other, spec)):
        why = differs
    else:
        why = f"after {sorted(map(str, anew))[0]}" if anew else "nothing of these settings is there"
    return Outcome(step, MADE, text=why)


def read_step(text: str) -> Step:
    """The step that `str(step)` wrote. Raises UsageError for an unknown stage."""
    stage, *parts = text.split("/")
    dimensions = table.stage(stage).per.split()
    game = parts[0] if "game" in dimensions else None
    return Step(stage, game, int(parts[1]) if "agent" in dimensions else None)
