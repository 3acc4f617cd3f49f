"""A lost history told anew: what stands in the store and has a name is reported to Dagster's instance.

`worldline doctor --rebuild` does so after a Dagster home was deleted, or for a store that came from elsewhere. Nothing
is computed but hashes; an event that the instance holds already is not told again. Runs, their logs and observations
are gone: no manifest holds them. Cost: the files are hashed once, about 1 s per GB, and 20 ms for each artefact.
"""

import hashlib
from collections.abc import Callable
from dataclasses import dataclass, field

import dagster as dg
from dagster._core.definitions.asset_checks.asset_check_evaluation import (  # no public name, but in a public signature
    AssetCheckEvaluationTargetMaterializationData as Target,
)

from assets.checks import FILES, NO_DRIFT, no_drift, results
from assets.metadata import describe
from assets.partitions import EXPERIMENT, partition_of
from assets.resources import Installation
from assets.stages import parents
from pipelines.errors import Members, WorldlineError
from pipelines.graph import table
from pipelines.graph.make import step_named
from pipelines.store.artefact import Artefact, Report
from pipelines.store.ref import Ref
from pipelines.store.store import Store

REBUILT = "worldline/rebuilt"  # a tag: these events belong to no run
VERSION, OURS, CODE = "dagster/data_version", "dagster/data_version_is_user_provided", "dagster/code_version"
INPUT, POINTER, DIMENSION = "dagster/input_data_version/", "dagster/input_event_pointer/", "dagster/partition/"
NONE = "INITIAL"  # the version of an input of which there is no event
PAGE = 500  # events a question


@dataclass(frozen=True)
class Told:
    """How many artefacts were reported, how many the instance knew, and how many names belong to no partition."""

    added: int
    known: int
    nameless: int

    def __str__(self) -> str:
        apart = f"; {self.nameless} names are of no partition" if self.nameless else ""
        return f"{self.added} artefacts told to Dagster, {self.known} known there already{apart}."


@dataclass
class Partition:
    """The artefacts that one partition of an asset had, the newest last."""

    key: str | None
    names: dict[str, Artefact] = field(default_factory=dict)

    def add(self, name: str, artefact: Artefact) -> None:
        """One that has several names counts where it is named last."""
        for other in [other for other, found in self.names.items() if found.digest == artefact.digest]:
            del self.names[other]
        self.names[name] = artefact


def rebuild(instance: dg.DagsterInstance, installation: Installation, members: Members) -> Told:
    """Report every artefact that a name leads to as a materialisation of its asset and partition, with its checks.

    What is damaged, stale or gone is left out; `members` keeps why. Experiments become partitions, those too that
    only the store knows.
    """
    store = installation.store()
    partitions, experiments, nameless = named(store, members, store.standing)
    experiments |= {each.key for each in installation.experiments(members)}
    if experiments:
        instance.add_dynamic_partitions(EXPERIMENT, sorted(experiments))
    teller = Teller(instance, store)
    added = known = 0
    for stage in table.NAMES:  # parents before children, as they were made
        recorded = teller.recorded(stage) if partitions[stage] else set()
        for partition in partitions[stage].values():
            for called, artefact in partition.names.items():
                if (partition.key, artefact.digest) in recorded:
                    known += 1
                    continue
                with members.each(called):
                    teller.tell(artefact, partition.key)
                    added += 1
    return Told(added, known, nameless)


def named(
    store: Store, members: Members, look: Callable[[Ref], Artefact | None]
) -> tuple[dict[str, dict[str | None, Partition]], set[str], int]:
    """By stage and partition what has a name; the experiments that have names; how many names are of no partition.

    `look` finds an artefact. Names that lead to none are left out; `members` keeps why.
    """
    found: dict[str, dict[str | None, Partition]] = {name: {} for name in table.NAMES}
    experiments, nameless, claims = set(), 0, []
    for name, ref in store.pointers(members).items():
        placed = step_named(name)
        if placed is None or placed[0].stage != ref.stage:
            nameless += 1
            continue
        step, experiment = placed
        if experiment:
            experiments.add(experiment)
        with members.each(name):
            artefact = look(ref)
            if artefact is None:
                raise WorldlineError(f"{ref} is not in the store {store.where}: make it again, or 'worldline gc'")
            # The name that all experiments share leads to what was made last, whatever the clocks said.
            claims.append((not experiment, artefact.manifest.created, name, step, experiment, artefact))
    for _, _, name, step, experiment, artefact in sorted(claims, key=lambda claim: claim[:3]):
        key = partition_of(step, experiment)
        found[step.stage].setdefault(key, Partition(key)).add(name, artefact)
    return found, experiments, nameless


class Teller:
    """Reports artefacts to an instance, which holds of each asset `newest`, the last event, and `digests`, the newest
    artefact of each partition.
    """

    def __init__(self, instance: dg.DagsterInstance, store: Store) -> None:
        self.instance, self.store = instance, store
        self.newest: dict[str, int] = {}
        self.digests: dict[str, dict[str | None, str]] = {name: {} for name in table.NAMES}

    def recorded(self, stage: str) -> set[tuple[str | None, str]]:
        """(partition, digest) of every materialisation of an asset that the instance holds."""
        found, cursor, more = set(), None, True
        while more:
            page = self.instance.fetch_materializations(dg.AssetKey(stage), limit=PAGE, cursor=cursor)
            for record in page.records:  # the newest first
                made = record.asset_materialization
                version = (made.tags or {}).get(VERSION, "") if made is not None else ""
                found.add((record.partition_key, version))
                self.newest.setdefault(stage, record.storage_id)
                self.digests[stage].setdefault(record.partition_key, version)
            cursor, more = page.cursor, page.has_more
        return found

    def tell(self, artefact: Artefact, key: str | None) -> None:
        """One artefact's events. Raises WorldlineError where its files are not what its manifest says."""
        asset, adopted = dg.AssetKey(artefact.ref.stage), bool(artefact.manifest.adopted)
        checks = results(artefact, table.stage(artefact.ref.stage).config)
        files = next(check for check in checks if check.check_name == FILES)
        if not files.passed:
            raise WorldlineError(
                f"{artefact.ref} is damaged: {files.description}; delete {artefact.where} and make it again"
            )
        if NO_DRIFT.asset_key == asset:
            checks.append(no_drift(artefact, self.store))
        shown = describe(Report(artefact, skipped=adopted, adopted=adopted))
        made = dg.AssetMaterialization(asset, metadata=shown, partition=key, tags=self._tags(artefact, key))
        self.instance.report_runless_asset_event(made)
        asked = dg.AssetRecordsFilter(asset, asset_partitions=[key]) if key is not None else asset
        record = self.instance.fetch_materializations(asked, limit=1).records[0]
        self.newest[artefact.ref.stage] = record.storage_id
        self.digests[artefact.ref.stage][key] = artefact.digest
        target = Target(storage_id=record.storage_id, run_id=record.run_id, timestamp=record.timestamp)
        for check in checks:
            self.instance.report_runless_asset_event(_evaluation(asset, check, target))

    def _tags(self, artefact: Artefact, key: str | None) -> dict[str, str]:
        """What Dagster notes in a run: the dimensions of the partition, and the versions of code, data and inputs, by
        which it tells what is out of date.
        """
        own = dimensions(artefact.ref.stage, key)
        tags = {VERSION: artefact.digest, OURS: "true", CODE: artefact.manifest.code_version, REBUILT: "true"}
        if len(own) > 1:
            tags |= {DIMENSION + name: part for name, part in own.items()}
        for parent in parents(table.stage(artefact.ref.stage)):
            read = [
                digest
                for other, digest in sorted(self.digests[parent].items(), key=lambda item: str(item[0]))
                if all(own.get(name, part) == part for name, part in dimensions(parent, other).items())
            ]
            version = hashlib.sha256("".join(read).encode()).hexdigest()
            tags[INPUT + parent] = version if parent in self.newest else NONE
            tags[POINTER + parent] = str(self.newest.get(parent, "NULL"))
        return tags


def dimensions(stage: str, key: str | None) -> dict[str, str]:
    """The parts of a partition's key by name: `experiment`, `game`, `agent`."""
    names = table.stage(stage).per.split()
    return dict(zip(sorted(names), key.split("|"), strict=True)) if key is not None and names else {}


def _evaluation(asset: dg.AssetKey, check: dg.AssetCheckResult, target: Target) -> dg.AssetCheckEvaluation:
    assert check.check_name is not None
    return dg.AssetCheckEvaluation(
        asset_key=asset,
        check_name=check.check_name,
        passed=check.passed,
        metadata=check.metadata,
        target_materialization_data=target,
        severity=check.severity,
        description=check.description,
        blocking=False,
    )
