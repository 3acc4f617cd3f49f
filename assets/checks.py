"""Asset checks. A stage judges its own output while it makes it and writes the verdicts into the manifest; here they
are shown to Dagster, with one check more: do the files still hash to what the manifest says?

The specs are not marked blocking: Dagster's blocking ends with the run, so the store itself refuses a parent that
failed a blocking check.
"""

from typing import Any

import dagster as dg

from assets.metadata import picture
from pipelines.errors import WorldlineError
from pipelines.graph.rounds import look
from pipelines.store.artefact import Artefact
from pipelines.store.manifest import CheckEntry
from pipelines.store.stage_config import StageConfig
from pipelines.store.store import REHASH_PARENTS_UP_TO, Store

FILES = "files_match_manifest"
NO_DRIFT = dg.AssetCheckSpec(
    "no_drift",
    asset=dg.AssetKey("scores"),
    description="Holds an evaluation against the pooled episodes of earlier ones of the same checkpoint: do the 95% "
    "intervals of the means overlap, and were emulator, ROM, rules and code the same?",
)


def specs(config: type[StageConfig]) -> list[dg.AssetCheckSpec]:
    """The checks of a stage's asset: what the stage declares in CHECKS, and the files."""
    key = dg.AssetKey(config.STAGE)
    own = [dg.AssetCheckSpec(name, asset=key, description="Found by the stage itself.") for name in config.CHECKS]
    files = dg.AssetCheckSpec(FILES, asset=key, description="Re-hashes the files; above 2 GiB, compares their sizes.")
    return [*own, files]


def results(artefact: Artefact, config: type[StageConfig]) -> list[dg.AssetCheckResult]:
    """One result per spec. A declared check that the manifest lacks counts as failed, unless it is of some inputs."""
    found = {check.name: check for check in artefact.manifest.checks}
    absent = {True: "does not apply to what this was made from", False: "the manifest holds no such check"}
    own = [
        found.get(name) or CheckEntry(name, name in config.OF_SOME, False, absent[name in config.OF_SOME])
        for name in config.CHECKS
    ]
    return [_result(check, artefact) for check in [*own, files_check(artefact)]]


def no_drift(scores: Artefact, store: Store) -> dg.AssetCheckResult:
    """Reads the other evaluations of the game in the store; never an error: what moved is for a person to judge."""
    try:
        found = look(scores, store)
    except WorldlineError as error:  # of an older evaluation; this one was just made
        return _verdict(NO_DRIFT.name, False, f"the past cannot be read: {error}", {})
    shown: dict[str, Any] = {}
    for each in found.compared:
        shown |= {f"{each.planner}/mean": each.ours.value, f"{each.planner}/past_mean": each.theirs.value}
    if found.past is not None:
        shown |= {"past_evaluations": len(found.past.members), "past": str(found.past.newest.ref)}
    return _verdict(NO_DRIFT.name, not found.found, str(found), shown)


def files_check(artefact: Artefact) -> CheckEntry:
    """Re-hash every file, or above 2 GiB look at sizes only: about 1 s per GB."""
    rehash = artefact.manifest.total_bytes <= REHASH_PARENTS_UP_TO
    faults = artefact.faults(rehash)
    how = "sha256" if rehash else "size"
    sound = f"{len(artefact.manifest.files)} files have the {how} that the manifest names"
    return CheckEntry(FILES, not faults, True, "; ".join(faults[:3]) or sound)


def _result(check: CheckEntry, artefact: Artefact) -> dg.AssetCheckResult:
    shown: dict[str, Any] = dict(check.counts)
    if check.picture in artefact.names():
        shown["picture"] = picture(artefact.path(check.picture))
    return _verdict(check.name, check.passed, check.detail, shown, check.blocking)


def _verdict(
    name: str, passed: bool, detail: str, shown: dict[str, Any], blocking: bool = False
) -> dg.AssetCheckResult:
    severity = dg.AssetCheckSeverity.ERROR if blocking else dg.AssetCheckSeverity.WARN
    return dg.AssetCheckResult(check_name=name, passed=passed, severity=severity, description=detail, metadata=shown)
