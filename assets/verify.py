"""`verify`: a night's share of the store is re-hashed, and all its names are held against Dagster's own record.

The job, its schedule `nightly_verify` (off until it is switched on: `worldline automate on nightly_verify`) and the
command `worldline verify` are one. Nothing is changed: every fault is a line with its repair, and fails the run.
Cost: 1 s per GB of the share, and 1 ms for each name and each materialisation on record.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import UTC, date, datetime

import dagster as dg

from assets.orphans import UNFINISHED
from assets.partitions import partition_of
from assets.rebuild import Teller, dimensions, named
from assets.resources import Installation
from assets.step import one_line_failures
from pipelines.errors import Members, UsageError, WorldlineError
from pipelines.graph import table
from pipelines.graph.make import step_named
from pipelines.store.nightly import NIGHTS, Share, verify_share
from pipelines.store.store import maker

EVERY_NIGHT = "0 3 * * *"  # UTC
PARTITION = "dagster/partition"  # Dagster's own tag on runs
OP = "verify_share"  # a job's own name is refused for its op
SHOWN = 12  # hex digits of a digest


class VerifyConfig(dg.Config):
    """Whose turn: the share of `day` (2026-11-27; empty is today, UTC) where all is looked at within so many nights."""

    day: str = ""
    nights: int = NIGHTS


@dataclass(frozen=True)
class Verdict:
    """What the share showed, how many names were held against the record (None: there is no record), what differs."""

    share: Share
    names: int | None
    differences: tuple[str, ...] = ()

    @property
    def faults(self) -> list[str]:
        """A line each."""
        return [*self.share.faults, *self.differences]

    def __str__(self) -> str:
        if self.names is None:
            return f"{self.share}. Dagster has no record here: worldline doctor --rebuild makes one."
        differ = f"{len(self.differences)} differ" if self.differences else "none differs"
        return f"{self.share}. Held {self.names} names against Dagster's record: {differ}."


def verify(instance: dg.DagsterInstance | None, installation: Installation, config: VerifyConfig) -> Verdict:
    """Look at a share of the store, and at what `instance` has on record. Raises UsageError for a day that is none.

    Raises WorldlineError where the store cannot be read: what it holds is not known then.
    """
    try:
        day = date.fromisoformat(config.day) if config.day else datetime.now(UTC).date()
    except ValueError as error:
        raise UsageError(f"'{config.day}' is no day: write it as 2026-11-27, or leave it out for today") from error
    store = installation.store()
    try:
        store.require_reachable()
    except OSError as error:
        raise WorldlineError(
            f"The store {store.where} cannot be read ({error.strerror}): mount it, or make something first (worldline "
            "demo)"
        ) from error
    share = verify_share(store, day, config.nights)
    if instance is None:
        return Verdict(share, None)
    names, found = differences(instance, installation, share)
    if found:  # somebody may have made something between the look at the store and the one at the record
        again = differences(instance, installation, share)[1]
        found = [line for line in found if line in again]
    return Verdict(share, names, tuple(found))


def differences(instance: dg.DagsterInstance, installation: Installation, share: Share) -> tuple[int, list[str]]:
    """How many names were looked at, and what the store and Dagster's record do not agree on, a line each.

    Left out are partitions on which a run is at work, what a removed experiment had, and what `share` told already.
    """
    members, store = Members(), installation.store()
    partitions, experiments, _ = named(store, members, store.find)
    experiments |= {each.key for each in installation.experiments(Members())}
    statuses = [*UNFINISHED, dg.DagsterRunStatus.QUEUED]
    busy = {run.tags.get(PARTITION) for run in instance.get_runs(dg.RunsFilter(statuses=statuses))} - {None}
    unread = {place for name in members.failed if (place := _place(name)) is not None}
    told = "\n".join(share.faults)
    lines = [f"{name}: {why}" for name, why in members.failed.items() if str(why) not in told]
    teller, looked = Teller(instance, store), len(members.failed)
    for stage in table.NAMES:
        recorded, here = teller.recorded(stage), partitions[stage]
        newest = teller.digests[stage]
        for key, partition in here.items():
            looked += len(partition.names)
            if key in busy:
                continue
            unknown = [name for name, found in partition.names.items() if (key, found.digest) not in recorded]
            lines += [f"{name} is unknown to Dagster: worldline doctor --rebuild tells it" for name in unknown]
            if not unknown and newest[key] not in (digests := [each.digest for each in partition.names.values()]):
                lines.append(
                    f"{_called(stage, key)} is {_short(newest[key])} to Dagster, {_short(*digests)} in the store: "
                    "materialize it again, which finds what stands"
                )
        for key, digest in newest.items():
            of = dimensions(stage, key).get("experiment")
            if key not in here and key not in busy and (stage, key) not in unread and of in (None, *experiments):
                lines.append(
                    f"{_called(stage, key)} is {_short(digest)} to Dagster, and nothing in the store {store.where} "
                    f"has its name: make it again ({maker(stage)})"
                )
    return looked, lines


def _place(name: str) -> tuple[str, str | None] | None:
    """The stage and partition that a pointer is of, where it is of one."""
    found = step_named(name)
    return None if found is None else (found[0].stage, partition_of(*found))


def _called(stage: str, key: str | None) -> str:
    """A partition in words."""
    return stage if key is None else f"{stage} {key}"


def _short(*digests: str) -> str:
    return " and ".join(f"{digest[:SHOWN]}..." for digest in digests)


def _metadata(found: Verdict) -> dict[str, dg.MetadataValue]:
    """What the UI shows of the step."""
    share = found.share
    shown: Iterable[tuple[str, int]] = (
        ("artefacts", share.artefacts),
        ("bytes", share.bytes),
        ("of_artefacts", share.total),
        ("names", found.names or 0),
        ("faults", len(found.faults)),
    )
    return {name: dg.MetadataValue.int(value) for name, value in shown}


@dg.op(name=OP)
def verify_op(context: dg.OpExecutionContext, config: VerifyConfig, installation: Installation) -> None:
    """Re-hash a night's share of the store, and hold its names against Dagster's record."""
    with one_line_failures():
        found = verify(context.instance, installation, config)
        context.log.info(str(found))
        if found.faults:
            raise dg.Failure("\n".join(found.faults), {"exit_code": 1, **_metadata(found)}, allow_retries=False)
        context.add_output_metadata(_metadata(found))


@dg.job(
    name="verify",
    description="Re-hashes a night's share of all artefacts (a thirtieth; `nights: 1` is all), and holds every name in "
    "the store against Dagster's own record. Fails with a line for each fault, and its repair.",
)
def verify_job() -> None:
    """One op."""
    verify_op()


@dg.schedule(
    name="nightly_verify",
    job=verify_job,
    cron_schedule=EVERY_NIGHT,
    execution_timezone="UTC",
    description="Another share of the store is re-hashed each night, all of it within a month.",
)
def nightly_verify(context: dg.ScheduleEvaluationContext) -> dg.RunRequest:
    """A tick asks for the share of its day."""
    day = context.scheduled_execution_time.date().isoformat()
    return dg.RunRequest(run_key=day, run_config={"ops": {OP: {"config": {"day": day}}}})
