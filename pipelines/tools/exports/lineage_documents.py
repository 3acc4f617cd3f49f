"""The lineage of an artefact in the words of others: OpenLineage's run events and PROV-JSON; what all documents share.

They say what manifests say. The artefacts are named by their addresses, never by where they lie; times are those of the
manifests; secrets are hidden. The same lineage gives the same bytes. Command: `worldline lineage NAME --to FORM`.
"""

import hashlib
import json
import uuid
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from graphlib import TopologicalSorter
from pathlib import Path
from typing import Any, ClassVar

from pipelines.errors import WorldlineError
from pipelines.progress import Advance
from pipelines.redact import redact
from pipelines.store.artefact import Artefact
from pipelines.store.lineage import COPY_OF, copied, edges, facts, flat, walk_all
from pipelines.store.manifest import Manifest, ParentEntry
from pipelines.store.ref import Ref
from pipelines.store.store import Store
from pipelines.tools.exports.exported import differs
from pipelines.tools.exports.target import Origin

FORMS = ("openlineage", "prov")
NAMESPACE = "worldline"
EVENT = "https://openlineage.io/spec/2-0-2/OpenLineage.json#/$defs/RunEvent"
VERSION_FACET = (
    "https://openlineage.io/spec/facets/1-0-1/DatasetVersionDatasetFacet.json#/$defs/DatasetVersionDatasetFacet"
)


def whole_lineage(store: Store, refs: Iterable[Ref]) -> list[Artefact]:
    """`refs` and everything that they were made from, each once, level by level.

    Raises WorldlineError where that is not whole, or not what was pinned.
    """
    tops = walk_all(store, refs)
    faults = [f"{node.ref}: {node.fault}" for top in tops for node in edges(top) if node.fault]
    if faults:
        raise WorldlineError(
            f"The lineage of {tops[0].ref} cannot go out, {faults[0]}: mend it ('worldline lineage "
            f"{tops[0].ref} --verify' shows all of it), or make it anew with --remake"
        )
    found: dict[Ref, Artefact] = {}
    for each in (node.known for top in tops for node in flat(top)):
        if each is not None and found.setdefault(each.ref, each).digest != each.digest:
            raise WorldlineError(
                f"The lineage of {tops[0].ref} cannot go out, {each.ref} here has another manifest than where a copy "
                "came from: send the copy's own folder instead"
            )
    return list(found.values())


def raw_manifest(store: Store, each: Artefact) -> bytes:
    """The bytes of an artefact's manifest, in this store or as it came with a copy; fetches none of its files."""
    here = store.find(each.ref)
    if here is not None and here.digest == each.digest:
        return store.raw_manifest(str(each.ref))
    return Path(each.manifest_at).read_bytes()


def refuse_secrets(folder: Path) -> None:
    """Raises WorldlineError where a text that would go out holds what looks like a secret."""
    for path in sorted(folder.rglob("*")):
        if path.suffix in (".json", ".md") and redact(text := path.read_text(encoding="utf-8")) != text:
            raise WorldlineError(
                f"{path.relative_to(folder)} holds what looks like a secret, and cannot be changed without breaking "
                "what pins its hash: make that artefact again from a source without one in its address"
            )


def urn(ref: str) -> str:
    """The name of an artefact wherever it lies."""
    return f"urn:worldline:artefact:{ref}"


def as_json(document: Any, indent: int | None = 1) -> str:
    """JSON that ends with a line break; secrets are hidden."""
    return redact(json.dumps(_shown(document), indent=indent, ensure_ascii=False)) + "\n"


def inputs(manifest: Manifest) -> list[ParentEntry]:
    """What an artefact was made from: its parents, and what it is a copy of."""
    return [*manifest.parents, *copied(manifest)]


def roots(manifest: Manifest) -> dict[str, str]:
    """What has no address, such as remote objects, ROMs and policies: as JSON, by a digest of it."""
    texts = [as_json(root, None).strip() for root in manifest.roots if COPY_OF not in root]
    return {hashlib.sha256(text.encode()).hexdigest()[:16]: text for text in texts}


@dataclass(frozen=True)
class Code:
    """The program that made an artefact, as its manifest tells; "unknown" where it does not."""

    version: str
    digest: str

    @classmethod
    def of(cls, manifest: Manifest) -> "Code":
        """Of one artefact."""
        return cls(manifest.libraries.get("worldline", "unknown"), str(manifest.machine.get("code", "unknown")))

    @property
    def name(self) -> str:
        """One word."""
        return f"worldline-{self.version}-{self.digest}"

    @property
    def urn(self) -> str:
        """The same as a URI."""
        return f"urn:worldline:code:{self.version}:{self.digest}"


@dataclass(frozen=True)
class LineageDocument:
    """An `Export` of `lineage` as one file. `form` is one of FORMS."""

    lineage: list[Artefact]
    form: str
    name: str

    size: ClassVar[int] = 1
    unit: ClassVar[str] = "files"

    @property
    def options(self) -> dict[str, Any]:
        return {}

    @property
    def counts(self) -> dict[str, int]:
        return {"artefacts": len(self.lineage)}

    def write(self, path: Path, origin: Origin, advance: Advance) -> None:
        path.write_text(self.text(), encoding="utf-8")
        advance(1)

    def read_back(self, path: Path, advance: Advance) -> None:
        if path.read_text(encoding="utf-8") != self.text():
            raise differs("the document")
        advance(1)

    def text(self) -> str:
        """One JSON event a line, parents first; or one PROV-JSON document."""
        if self.form == "prov":
            return as_json(_prov(self.lineage))
        by_ref = {str(each.ref): each for each in self.lineage}
        order = TopologicalSorter({ref: [entry.ref for entry in inputs(by_ref[ref].manifest)] for ref in by_ref})
        return "".join(as_json(_event(by_ref[ref]), None) for ref in order.static_order())


def _event(artefact: Artefact) -> dict[str, Any]:
    """The run that made an artefact. Its id follows from the artefact's address and manifest."""
    manifest, producer = artefact.manifest, Code.of(artefact.manifest).urn

    def dataset(ref: str, digest: str, **facets: Any) -> dict[str, Any]:
        version = {"_producer": producer, "_schemaURL": VERSION_FACET, "datasetVersion": digest}
        return {"namespace": NAMESPACE, "name": ref, "facets": {"version": version, **facets}}

    facet = {
        "_producer": producer,
        "_schemaURL": f"urn:worldline:manifest:{manifest.format}",
        "manifest_sha256": artefact.digest,
        "content_sha256": manifest.content,
        "code_version": manifest.code_version,
        "git_commit": manifest.git_commit,
        "config": manifest.config,
        "counts": manifest.counts,
        "files": len(manifest.files),
        "bytes": manifest.total_bytes,
        "cost": manifest.cost,
        "checks": {check.name: check.passed for check in manifest.checks},
        "roots": list(manifest.roots),
        "parts_read": {entry.ref: entry.part for entry in manifest.parents if entry.part},
        "adopted": manifest.adopted,
    }
    return {
        "eventType": "COMPLETE",
        "eventTime": manifest.created,
        "producer": producer,
        "schemaURL": EVENT,
        "run": {"runId": str(uuid.uuid5(uuid.NAMESPACE_URL, f"{urn(str(artefact.ref))}#{artefact.digest}"))},
        "job": {"namespace": NAMESPACE, "name": f"{artefact.ref.stage}/{artefact.ref.subject}"},
        "inputs": [dataset(entry.ref, entry.manifest_sha256) for entry in inputs(manifest)],
        "outputs": [dataset(str(artefact.ref), artefact.digest, worldline_manifest=facet)],
    }


def _prov(lineage: list[Artefact]) -> dict[str, Any]:
    """W3C PROV: artefacts and roots are entities, runs activities, the program that ran is a software agent."""
    found: dict[str, dict[str, Any]] = {
        "prefix": {name: f"urn:worldline:{name}:" for name in ("artefact", "run", "root", "code", "fact")},
        **{kind: {} for kind in ("entity", "activity", "agent")},
        **{kind: {} for kind in ("wasGeneratedBy", "used", "wasDerivedFrom", "wasAssociatedWith")},
    }

    def tell(kind: str, **said: str) -> None:
        found[kind][f"_:{kind}{len(found[kind]) + 1}"] = {f"prov:{name}": value for name, value in said.items()}

    for artefact in lineage:
        manifest, code = artefact.manifest, Code.of(artefact.manifest)
        made, run, agent = f"artefact:{artefact.ref}", f"run:{artefact.ref}", f"code:{code.version}:{code.digest}"
        found["entity"][made] = {
            "prov:label": str(artefact.ref),
            "fact:holds": facts(manifest),
            "fact:manifest_sha256": artefact.digest,
            "fact:content_sha256": manifest.content,
        }
        found["activity"][run] = {
            "prov:endTime": manifest.created,
            "prov:label": f"{artefact.ref.stage} of {artefact.ref.subject}",
            "fact:code_version": manifest.code_version,
            "fact:config": as_json(manifest.config, None).strip(),
        }
        kind = {"$": "prov:SoftwareAgent", "type": "prov:QUALIFIED_NAME"}
        found["agent"][agent] = {"prov:type": kind, "prov:label": code.name}
        tell("wasGeneratedBy", entity=made, activity=run, time=manifest.created)
        tell("wasAssociatedWith", activity=run, agent=agent)
        for name, text in roots(manifest).items():
            found["entity"][f"root:{name}"] = {"fact:is": text}
        for source in (*_sources(manifest), *(f"root:{name}" for name in roots(manifest))):
            tell("used", activity=run, entity=source)
            tell("wasDerivedFrom", generatedEntity=made, usedEntity=source, activity=run)
    return found


def _sources(manifest: Manifest) -> Iterator[str]:
    yield from (f"artefact:{ref}" for ref in dict.fromkeys(entry.ref for entry in inputs(manifest)))


def _shown(value: Any) -> Any:
    if isinstance(value, dict):
        return {name: _shown(each) for name, each in value.items()}
    if isinstance(value, list | tuple):
        return [_shown(each) for each in value]
    return redact(value) if isinstance(value, str) else value
