"""`worldline reevaluate`: checkpoints play again with fresh seeds, and what they score is held against the past."""

from typing import Annotated

import typer

from pipelines.commands.options import Overrides, Storage, chosen_games, experiment_folder, profile_and_store
from pipelines.errors import Members, WorldlineError, unknown
from pipelines.graph import experiment as experiments
from pipelines.graph.experiment import Experiment
from pipelines.graph.make import plan_of
from pipelines.progress import say

Names = Annotated[list[str] | None, typer.Argument(metavar="EXPERIMENT", help="Names or keys (default: all).")]


def reevaluate(
    names: Names = None,
    games: Annotated[
        str | None, typer.Option(help="Only these games: Pong,Freeway (default: all of each experiment's).")
    ] = None,
    round: Annotated[str, typer.Option(help="Name of the round (default: this ISO week, such as 2026-W47).")] = "",
    changes: Overrides = None,
    storage: Storage = None,
) -> None:
    """Let checkpoints play their games again with fresh seeds, and say whether the scores still hold.

    Every round makes scores of its own, scores/EXPERIMENT/GAME/ROUND; the leaderboard counts the episodes of all rounds
    of a checkpoint together. A round that stands is found, not played again: take another --round for more episodes.
    No emulator's seed is played twice. After each game a line compares the means with those of the rounds before, by
    their 95% intervals, and names what else changed: emulator, ROM, rules, code, libraries.

    Without names, every registered experiment whose checkpoint stands takes part. The same happens weekly in Dagster
    once its schedule weekly_reevaluation is switched on ('worldline ui', Automation).

    Example: worldline reevaluate demo --games Freeway --round extra-1
    """
    from pipelines.graph.rounds import asked, look, make_all, suite, this_round

    _, store = profile_and_store(storage)
    folder = experiment_folder()
    members, others, chosen, asks = Members(), Members(), [], []
    for name in names or []:
        with others.each(name):
            chosen.append(experiments.find(folder, name))
    chosen = chosen if names else experiments.registered(folder)
    playable = suite(chosen, store, round or this_round())
    if not playable and not names:
        raise WorldlineError(f"No experiment in {folder} has a checkpoint to play: make one, such as 'worldline demo'")
    for experiment in chosen:
        if all(each.experiment != experiment for each in playable):
            with others.each(experiment.key):
                _leave_out(experiment, named=bool(names))
    known = {each.game for each in playable}
    wanted = set(chosen_games(games)) or known
    if known and (absent := sorted(wanted - known)):
        raise unknown("game of these checkpoints", absent[0], known, "'worldline experiment list' names their games")
    plans = {each.experiment.key: plan_of(each.experiment, store) for each in playable}
    for each in playable:
        if each.game in wanted:
            with members.each(f"{each.experiment.key}/{each.game}"):
                plan = plans[each.experiment.key]
                asks.append(asked(plan, each.experiment, each.game, store, each.round, changes or []))
    for report in make_all(asks, store, members=members):
        print(f"{report}\n  against the past: {look(report.artefact, store)}", flush=True)
    members.take(others)
    members.end()


def _leave_out(experiment: Experiment, named: bool) -> None:
    line = f"{experiment.key} has no checkpoint yet"
    if named:
        raise WorldlineError(f"{line}: make it with 'worldline materialize {experiment.key}', then evaluate it again")
    say(f"{line}: it is left out")
