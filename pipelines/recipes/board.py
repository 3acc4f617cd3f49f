"""Which scores stand on the leaderboard: every one that a pointer names and the store still holds."""

from collections.abc import Collection

from pipelines.configs.report import ReportConfig
from pipelines.errors import UsageError
from pipelines.recipes.run import run_config
from pipelines.store.report import Report
from pipelines.store.store import Store

POINTER = "leaderboard/all"


def board_config(store: Store, experiments: Collection[str] = ()) -> ReportConfig:
    """The leaderboard of all experiments, or of those whose keys are given, in the order of their names.

    Raises UsageError when there is no score at all, or none of an experiment that was asked for.
    """
    found = []
    for pointer, ref in store.pointers().items():
        stage, _, name = pointer.partition("/")
        experiment = name.partition("/")[0]
        if stage == "scores" and (not experiments or experiment in experiments) and store.find(ref) is not None:
            found.append((experiment, ref))
    if absent := sorted(set(experiments) - {experiment for experiment, _ in found}):
        raise UsageError(
            f"Experiment '{absent[0]}' has no scores in {store.root}: evaluate it first "
            f"(worldline materialize --experiment {absent[0]} --until scores)"
        )
    return ReportConfig(scores=tuple(ref for _, ref in found), names=tuple(name for name, _ in found))


def make_board(store: Store, experiments: Collection[str] = ()) -> Report:
    """Make the leaderboard, or find it. The pointer `leaderboard/all` follows only when no experiment is left out."""
    report = run_config(board_config(store, experiments), store)
    if not experiments:
        store.point(POINTER, report.artefact.ref)
    return report
