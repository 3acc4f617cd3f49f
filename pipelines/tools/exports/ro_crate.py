"""The lineage of an artefact as an RO-Crate 1.1: a folder with every manifest, and ro-crate-metadata.json about them.

Each artefact is a Dataset whose folder `lineage/<address>/` holds its manifest, byte for byte, and a CreateAction says
what ran on what. Who asked for the run is not in a manifest, and not in the crate. SHA256SUMS lists every file.
Run: `worldline lineage NAME --to ro-crate --out DIR`.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

from pipelines.progress import Advance
from pipelines.store.artefact import Artefact
from pipelines.store.files import SUMS, listing
from pipelines.store.lineage import KEPT, facts, kept
from pipelines.store.manifest import MANIFEST_NAME, Manifest
from pipelines.tools.exports.exported import differs
from pipelines.tools.exports.lineage_documents import Code, as_json, inputs, refuse_secrets, roots, urn
from pipelines.tools.exports.target import Origin

METADATA = "ro-crate-metadata.json"
CONTEXT = "https://w3id.org/ro/crate/1.1/context"
PROFILE = "https://w3id.org/ro/crate/1.1"
NO_LICENSE = "No licence is stated: ask whoever made the crate."

Entity = dict[str, Any]


@dataclass(frozen=True)
class RoCrate:
    """An `Export` of a lineage, its top first. `manifests` are their bytes, in the same order."""

    lineage: list[Artefact]
    manifests: list[bytes]
    name: str

    form: ClassVar[str] = "ro-crate"
    unit: ClassVar[str] = "manifests"

    @property
    def size(self) -> int:
        return len(self.lineage)

    @property
    def options(self) -> dict[str, Any]:
        return {}

    @property
    def counts(self) -> dict[str, int]:
        return {"artefacts": len(self.lineage)}

    def write(self, path: Path, origin: Origin, advance: Advance) -> None:
        for artefact, raw in zip(self.lineage, self.manifests, strict=True):
            manifest = path / _folder(str(artefact.ref)) / MANIFEST_NAME
            manifest.parent.mkdir(parents=True)
            manifest.write_bytes(raw)
            advance(1)
        (path / METADATA).write_text(as_json({"@context": CONTEXT, "@graph": self._entities()}), encoding="utf-8")
        (path / SUMS).write_text(listing(path), encoding="utf-8")
        refuse_secrets(path)

    def read_back(self, path: Path, advance: Advance) -> None:
        names = [f"{_folder(str(each.ref))}{MANIFEST_NAME}" for each in self.lineage]
        found = kept(names, lambda name: path / name)
        if {ref: each.digest for ref, each in found.items()} != {each.ref: each.digest for each in self.lineage}:
            raise differs("the manifests")
        advance(self.size)

    def _entities(self) -> list[Entity]:
        top = self.lineage[0]
        found: dict[str, Entity] = {}  # programs and roots are shared
        for artefact, raw in zip(self.lineage, self.manifests, strict=True):
            for entity in _of_artefact(artefact, len(raw)):
                found.setdefault(entity["@id"], entity)
        sums = {"@id": SUMS, "@type": "File", "name": "sha256 of every file", "encodingFormat": "text/plain"}
        return [
            {
                "@id": METADATA,
                "@type": "CreativeWork",
                "conformsTo": {"@id": PROFILE},
                "about": {"@id": "./"},
            },
            {
                "@id": "./",
                "@type": "Dataset",
                "name": f"Lineage of {top.ref}",
                "description": f"What {top.ref} was made from, as manifests. 'sha256sum -c {SUMS}' hashes them; "
                f"'worldline lineage {top.ref} --verify' hashes every file of every artefact where they lie.",
                "datePublished": top.manifest.created,
                "license": NO_LICENSE,
                "hasPart": [*_many(found, "Dataset"), *_many(found, "File"), {"@id": SUMS}],
                "mentions": _many(found, "CreateAction"),
                "mainEntity": {"@id": _folder(str(top.ref))},
            },
            *found.values(),
            sums,
        ]


def _of_artefact(artefact: Artefact, size: int) -> list[Entity]:
    """The artefact, its manifest of `size` bytes, the run that made it, its program, what has no address."""
    manifest, folder = artefact.manifest, _folder(str(artefact.ref))
    code = Code.of(manifest)
    sources = [{"@id": _folder(ref)} for ref in dict.fromkeys(entry.ref for entry in inputs(manifest))]
    return [
        {
            "@id": folder,
            "@type": "Dataset",
            "name": str(artefact.ref),
            "description": f"{facts(manifest)}; its files are not in the crate, their sha256 are in the manifest.",
            "identifier": urn(str(artefact.ref)),
            "dateCreated": manifest.created,
            "hasPart": [{"@id": f"{folder}{MANIFEST_NAME}"}],
            **({"isBasedOn": sources} if sources else {}),
        },
        {
            "@id": f"{folder}{MANIFEST_NAME}",
            "@type": "File",
            "name": f"Manifest of {artefact.ref}",
            "encodingFormat": "application/json",
            "contentSize": str(size),
            "sha256": artefact.digest,
        },
        {
            "@id": f"#run/{artefact.ref}",
            "@type": "CreateAction",
            "name": f"{artefact.ref.stage} of {artefact.ref.subject}",
            "description": _said(manifest),
            "endTime": manifest.created,
            "instrument": {"@id": f"#{code.name}"},
            "object": [*sources, *({"@id": f"#root/{name}"} for name in roots(manifest))],
            "result": {"@id": folder},
        },
        {
            "@id": f"#{code.name}",
            "@type": "SoftwareApplication",
            "name": "Worldline",
            "softwareVersion": code.version,
            "identifier": code.urn,
        },
        *(
            {"@id": f"#root/{name}", "@type": "CreativeWork", "name": f"Root {name}", "description": text}
            for name, text in roots(manifest).items()
        ),
    ]


def _said(manifest: Manifest) -> str:
    adopted = f"; nothing was computed, its files are those of {manifest.adopted}" if manifest.adopted else ""
    return f"Code version {manifest.code_version}, config {as_json(manifest.config, None).strip()}{adopted}"


def _folder(ref: str) -> str:
    return f"{KEPT}/{ref}/"


def _many(found: Mapping[str, Entity], kind: str) -> list[Entity]:
    return [{"@id": name} for name, entity in found.items() if entity["@type"] == kind]
