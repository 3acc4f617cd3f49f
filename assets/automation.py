"""What runs by itself once it is switched on: a weekly round of re-evaluation, and sensors that follow new work.

Switch on in the UI (Automation), or with `worldline automate on`; the daemon that `worldline ui` starts does the rest.
All are off until then, but for `dead_runs`, which starts nothing; `verify.py` has `nightly_verify`. What is due
is read from the store, not from Dagster's history: what the command line made counts, and what stands is not asked for.
Cost of a look: a pointer and a manifest for each experiment and game, 0.3 ms.
"""

import json
import os
from collections.abc import Iterable

import dagster as dg

from assets.orphans import close_orphans
from assets.partitions import EXPERIMENT, partition_of
from assets.pipes import PIPES
from assets.resources import Installation
from assets.stages import JOBS
from assets.verify import nightly_verify
from pipelines.errors import Members, WorldlineError
from pipelines.graph.make import board_config
from pipelines.graph.plan import Step
from pipelines.graph.rounds import Due, due, this_round
from pipelines.store.store import Store

SUNDAY_NIGHT = "0 22 * * 0"  # UTC: the last hours of an ISO week, which names the round
LOOK_EVERY = 60  # seconds
DEAD_EVERY = 30
ROUND = "worldline/round"
PARTITION = "dagster/partition"  # Dagster's own tag on runs
UNDER_WAY = [
    dg.DagsterRunStatus.QUEUED,
    dg.DagsterRunStatus.NOT_STARTED,
    dg.DagsterRunStatus.STARTING,
    dg.DagsterRunStatus.STARTED,
    dg.DagsterRunStatus.CANCELING,
]


def weekly_reevaluation(cron: str = SUNDAY_NIGHT) -> dg.ScheduleDefinition:
    """The schedule: a tick asks for the round of its week, for every experiment and game with a checkpoint."""

    @dg.schedule(
        name="weekly_reevaluation",
        cron_schedule=cron,
        execution_timezone="UTC",
        job=JOBS["evaluate"],
        description="Every checkpoint plays its games again with fresh seeds; the episodes add to its pool.",
    )
    def schedule(
        context: dg.ScheduleEvaluationContext, installation: Installation
    ) -> list[dg.RunRequest] | dg.SkipReason:
        name = this_round(context.scheduled_execution_time)
        members = Members()
        try:
            found = due(installation.experiments(members), reachable(installation), name, members)
        except (WorldlineError, OSError) as error:
            return dg.SkipReason(f"Round {name} must wait: {error}")
        if found:  # run keys tell the requests of one tick apart; a second tick of the same week needs this
            asked = {run.tags.get(PARTITION) for run in under_way(context.instance, {ROUND: name})}
            found = [each for each in found if partition(each) not in asked]
        if not found:
            return dg.SkipReason(f"Round {name}: every checkpoint has its scores, or they are under way{_but(members)}")
        register(context.instance, found)
        return [request(each) for each in found]

    return schedule


def new_checkpoints(seconds: int = LOOK_EVERY) -> dg.SensorDefinition:
    """The sensor of checkpoints: trained, fine-tuned or imported, here or from the command line.

    Its cursor is the checkpoint that it last saw of each partition, so that a failed evaluation is not repeated.
    """

    @dg.sensor(
        name="new_checkpoints",
        job=JOBS["evaluate"],
        minimum_interval_seconds=seconds,
        description="A checkpoint that nobody has evaluated plays its experiment's games.",
    )
    def sensor(context: dg.SensorEvaluationContext, installation: Installation) -> dg.SensorResult | dg.SkipReason:
        members = Members()
        try:
            found = due(installation.experiments(members), reachable(installation), "", members)
        except (WorldlineError, OSError) as error:
            return dg.SkipReason(f"No checkpoint can be seen: {error}")
        seen: dict[str, str] = json.loads(context.cursor or "{}")
        new = [each for each in found if seen.get(partition(each)) != str(each.checkpoint)]
        cursor = json.dumps(seen | {partition(each): str(each.checkpoint) for each in new})
        if not new:
            why = f"Every checkpoint has its scores, or was asked to play{_but(members)}"
            return dg.SensorResult(skip_reason=why, cursor=cursor)
        register(context.instance, new)
        return dg.SensorResult(run_requests=[request(each) for each in new], cursor=cursor)

    return sensor


def new_scores(seconds: int = LOOK_EVERY) -> dg.SensorDefinition:
    """The sensor of scores: makes the leaderboard anew, once for all evaluations that run at the same time.

    Its cursor is the key of the leaderboard that it last asked for.
    """

    @dg.sensor(
        name="new_scores",
        job=JOBS["report"],
        minimum_interval_seconds=seconds,
        description="Scores that the leaderboard does not show yet bring a new one, when no evaluation is running.",
    )
    def sensor(context: dg.SensorEvaluationContext, installation: Installation) -> dg.SensorResult | dg.SkipReason:
        if running := len(under_way(context.instance)):
            return dg.SkipReason(f"Evaluations under way: {running}; the leaderboard waits for all of them")
        try:
            store = reachable(installation)
            wanted = board_config(store).spec()
            stands = store.remaking().standing(wanted.ref) is not None
        except (WorldlineError, OSError) as error:
            return dg.SkipReason(f"No leaderboard can be made: {error}")
        if stands or wanted.key == context.cursor:
            return dg.SensorResult(skip_reason="The leaderboard shows all scores, or was asked for", cursor=wanted.key)
        return dg.SensorResult(run_requests=[dg.RunRequest(run_key=wanted.key)], cursor=wanted.key)

    return sensor


@dg.sensor(
    name="dead_runs",
    minimum_interval_seconds=DEAD_EVERY,
    default_status=dg.DefaultSensorStatus.RUNNING,
    description="Fails runs whose process is gone, whoever started them, so that they hold no place in the queue.",
)
def dead_runs(context: dg.SensorEvaluationContext) -> dg.SkipReason:
    """The sensor that asks for no run. Dagster itself would keep a killed run "started" for two weeks."""
    told = f"{close_orphans(context.instance)} runs were dead"
    if os.environ.get(PIPES):
        from assets.pods import end_leftovers

        try:
            told += f", {end_leftovers(context.instance)} pods outlived their run"
        except WorldlineError as error:
            told += f"; pods cannot be seen: {error}"
    return dg.SkipReason(told)


def reachable(installation: Installation) -> Store:
    """The store. Raises OSError or WorldlineError where it cannot be read: what it holds is not known then."""
    store = installation.store()
    store.require_reachable()
    return store


def _but(members: Members) -> str:
    """What could not be read and is left out, for a reason to skip."""
    return "".join(f"; {member} is left out: {why}" for member, why in members.failed.items())


def partition(each: Due) -> str:
    """Its partition of `scores`, as Dagster writes it."""
    return str(partition_of(Step("scores", each.game), each.experiment.key))


def request(each: Due) -> dg.RunRequest:
    """One run of `evaluate`. The key names what is asked: the round, or the checkpoint."""
    return dg.RunRequest(
        run_key=f"{each.round or each.checkpoint.key}/{partition(each)}",
        partition_key=partition_of(Step("scores", each.game), each.experiment.key),
        run_config={"ops": {"scores": {"config": {"round": each.round}}}},
        tags={ROUND: each.round} if each.round else {},
    )


def register(instance: dg.DagsterInstance, found: Iterable[Due]) -> None:
    """Make their experiments partitions: the command line registers them on disk alone."""
    instance.add_dynamic_partitions(EXPERIMENT, sorted({each.experiment.key for each in found}))


def under_way(instance: dg.DagsterInstance, tags: dict[str, str] | None = None) -> list[dg.DagsterRun]:
    """The evaluations that wait or run."""
    return list(instance.get_runs(dg.RunsFilter(job_name="evaluate", statuses=UNDER_WAY, tags=tags or {})))


SCHEDULES = [weekly_reevaluation(), nightly_verify]
SENSORS = [new_checkpoints(), new_scores(), dead_runs]
