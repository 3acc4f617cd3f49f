"""Asset checks. A stage judges its own output while it makes it and writes the verdicts into the manifest; here they
are shown to Dagster, with one check more: do the files still hash to what the manifest says?

The specs are not marked blocking: Dagster's blocking ends with the run, so the store itself refuses a parent that
failed a blocking check.
"""

from typing import Any

import dagster as dg

from assets.metadata import picture
from pipelines.configs.base import StageConfig
from pipelines.store.artefact import Artefact
from pipelines.store.manifest import CheckEntry
from pipelines.store.store import REHASH_PARENTS_UP_TO

FILES = "files_match_manifest"


def specs(config: type[StageConfig]) -> list[dg.AssetCheckSpec]:
    """The checks of a stage's asset: what the stage declares in CHECKS, and the files."""
    key = dg.AssetKey(config.STAGE)
    own = [dg.AssetCheckSpec(name, asset=key, description="Found by the stage itself.") for name in config.CHECKS]
    files = dg.AssetCheckSpec(FILES, asset=key, description="Re-hashes the files; above 2 GiB, compares their sizes.")
    return [*own, files]


def results(artefact: Artefact, config: type[StageConfig]) -> list[dg.AssetCheckResult]:
    """One result per spec. A declared check that the manifest lacks counts as failed."""
    found = {check.name: check for check in artefact.manifest.checks}
    absent = "the manifest holds no such check"
    own = [found.get(name) or CheckEntry(name, False, False, absent) for name in config.CHECKS]
    return [_result(check, artefact) for check in [*own, files_check(artefact)]]


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
    return dg.AssetCheckResult(
        check_name=check.name,
        passed=check.passed,
        severity=dg.AssetCheckSeverity.ERROR if check.blocking else dg.AssetCheckSeverity.WARN,
        description=check.detail,
        metadata=shown,
    )
