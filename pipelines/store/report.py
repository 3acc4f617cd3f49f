"""What a stage returns: the artefact it made or found, and which of the two."""

from dataclasses import dataclass

from pipelines.progress import size
from pipelines.store.artefact import Artefact


@dataclass(frozen=True)
class Report:
    """`skipped` is True when an artefact with the same key stood there already; then nothing was computed."""

    artefact: Artefact
    skipped: bool

    def __str__(self) -> str:
        manifest = self.artefact.manifest
        counts = ", ".join(f"{value:,} {name}" for name, value in manifest.counts.items())
        room = size(manifest.total_bytes)
        how = f"made in {manifest.cost['seconds']:.1f} s ({room}; {counts})"
        if self.skipped:
            how = f"already there ({room}; {counts}), same config, code version and parents"
        return "\n".join([f"{self.artefact.ref}: {how}", *self.findings])

    @property
    def blocked(self) -> bool:
        """Whether a blocking check failed, so that every child will refuse the artefact."""
        return any(check.blocking and not check.passed for check in self.artefact.manifest.checks)

    @property
    def findings(self) -> list[str]:
        """A line for each check that failed, so that nobody has to look for it in the manifest."""
        return [
            f"  {'failed, nothing may be made from this' if check.blocking else 'note'}: {check.name}, {check.detail}"
            for check in self.artefact.manifest.checks
            if not check.passed
        ]
