"""What a stage returns: the artefact it made or found, and which of the two."""

from dataclasses import dataclass

from pipelines.store.artefact import Artefact


@dataclass(frozen=True)
class Report:
    """`skipped` is True when an artefact with the same key stood there already; then nothing was computed."""

    artefact: Artefact
    skipped: bool

    def __str__(self) -> str:
        manifest = self.artefact.manifest
        counts = ", ".join(f"{value:,} {name}" for name, value in manifest.counts.items())
        size = f"{manifest.total_bytes / 1e6:,.1f} MB"
        if self.skipped:
            return f"{self.artefact.ref}: already there ({size}; {counts}), same config, code version and parents"
        return f"{self.artefact.ref}: made in {manifest.cost['seconds']:.1f} s ({size}; {counts})"
