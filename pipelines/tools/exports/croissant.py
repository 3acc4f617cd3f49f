"""A data artefact in Croissant 1.1, the JSON-LD that data sets are found and loaded by: files, hashes, columns.

Everything comes from the manifest, but for columns of Parquet files (record sets) and shapes of arrays in HDF5 and zarr
(descriptions), which the files say of themselves. What nobody stated is left out: a licence, an author. The same
artefact gives the same bytes. Run: `worldline export croissant trajectories/Pong --out FILE`.
"""

import json
from collections.abc import Iterator
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any, ClassVar
from urllib.parse import quote

from pipelines.progress import Advance
from pipelines.store.artefact import Artefact
from pipelines.store.lineage import facts
from pipelines.tools.exports.exported import differs
from pipelines.tools.exports.lineage_documents import as_json, urn
from pipelines.tools.exports.target import Origin

STAGES = ("trajectories", "imported_trajectories", "tokens", "segments", "replay")
VERSION = "http://mlcommons.org/croissant/1.1"
ENCODINGS = {
    ".parquet": "application/x-parquet",  # as the format's readers call it
    ".h5": "application/x-hdf5",
    ".json": "application/json",
    ".jsonl": "application/jsonlines",
    ".png": "image/png",
    ".csv": "text/csv",
    ".gz": "application/gzip",
}
BYTES = "application/octet-stream"  # chunks of zarr, and whatever else has no type of its own

# The terms of the format that are neither schema.org's nor named as their own property.
OWN_TERMS = (
    "arrayShape citeAs column containedIn equivalentProperty extract field fileProperty fileObject fileSet format "
    "includes isArray isLiveDataset jsonPath key md5 parentField path recordSet references regex repeated replace "
    "samplingRate separator source subField transform"
)
CONTEXT: dict[str, Any] = {
    "@language": "en",
    "@vocab": "https://schema.org/",
    "cr": "http://mlcommons.org/croissant/",
    "dct": "http://purl.org/dc/terms/",
    "prov": "http://www.w3.org/ns/prov#",
    "rai": "http://mlcommons.org/croissant/RAI/",
    "sc": "https://schema.org/",
    "conformsTo": "dct:conformsTo",
    "data": {"@id": "cr:data", "@type": "@json"},
    "dataType": {"@id": "cr:dataType", "@type": "@vocab"},
    "description": {"@container": "@language"},
    "examples": {"@id": "cr:examples", "@type": "@json"},
    "name": {"@container": "@language"},
    **{term: f"cr:{term}" for term in OWN_TERMS.split()},
}


@dataclass(frozen=True)
class Croissant:
    """An `Export` of one artefact's description.

    name: of the file to write. url: where the artefact's files lie ("": beside the document). license: a URL or a name
    ("": not stated).
    """

    artefact: Artefact
    name: str
    url: str = ""
    license: str = ""

    form: ClassVar[str] = "croissant"
    unit: ClassVar[str] = "files"

    @property
    def size(self) -> int:
        return len(self.artefact.manifest.files)

    @property
    def options(self) -> dict[str, Any]:
        return {"url": self.url, "license": self.license}

    @property
    def counts(self) -> dict[str, int]:
        return {"described files": self.size}

    def write(self, path: Path, origin: Origin, advance: Advance) -> None:
        path.write_text(self.text(), encoding="utf-8")
        advance(self.size)

    def read_back(self, path: Path, advance: Advance) -> None:
        listed = json.loads(path.read_text(encoding="utf-8"))["distribution"]
        if {each["name"]: each["sha256"] for each in listed} != {
            entry.path: entry.sha256 for entry in self.artefact.manifest.files
        }:
            raise differs("its list of files")
        advance(self.size)

    def text(self) -> str:
        """The document."""
        manifest, ref = self.artefact.manifest, self.artefact.ref
        stated = {"license": self.license} if self.license else {}
        parents = [  # not typed as data sets: readers look for the one that the document is about
            {
                "@id": urn(entry.ref),
                "@type": "CreativeWork",
                "name": entry.ref,
                "identifier": _sha(entry.manifest_sha256),
            }
            for entry in manifest.parents
        ]
        origin = {"isBasedOn": parents, "prov:wasDerivedFrom": [{"@id": each["@id"]} for each in parents]}
        return as_json(
            {
                "@context": CONTEXT,
                "@type": "sc:Dataset",
                "@id": urn(str(ref)),
                "conformsTo": VERSION,
                "name": f"{ref.stage}-{ref.subject.replace('/', '-')}-{ref.key}",
                "description": f"{ref}, made by Worldline: {facts(manifest)}.",
                "identifier": _sha(self.artefact.digest),
                "dateCreated": manifest.created,
                **stated,
                **(origin if parents else {}),
                "distribution": [self._file(number) for number in range(self.size)],
                "recordSet": list(self._record_sets()),
            }
        )

    def _file(self, number: int) -> dict[str, Any]:
        entry = self.artefact.manifest.files[number]
        base = f"{self.url.rstrip('/')}/" if self.url else ""
        arrays = self._arrays(entry.path)
        return {
            "@type": "cr:FileObject",
            "@id": _id(entry.path),
            "name": entry.path,
            **({"description": arrays} if arrays else {}),
            "contentUrl": base + quote(entry.path),
            "contentSize": f"{entry.bytes} B",
            "encodingFormat": ENCODINGS.get(PurePosixPath(entry.path).suffix, BYTES),
            "sha256": entry.sha256,
        }

    def _arrays(self, name: str) -> str:
        """`actions uint8 [68]; observations uint8 [68, 84, 84]` of an HDF5 file or a zarr array; "" of others."""
        if PurePosixPath(name).name == "zarr.json":
            found = json.loads(self.artefact.path(name).read_bytes())
            return f"zarr array {found['data_type']} {found['shape']}" if "shape" in found else ""
        if not name.endswith(".h5"):
            return ""
        import h5py

        found = {}
        with closing(self._opened(name)) as raw, h5py.File(raw, "r") as file:
            file.visititems(lambda path, node: found.update({path: node} if isinstance(node, h5py.Dataset) else {}))
            arrays = [f"{path} {found[path].dtype} {list(found[path].shape)}" for path in sorted(found)]
        return f"HDF5 arrays: {'; '.join(arrays)}"

    def _record_sets(self) -> Iterator[dict[str, Any]]:
        """One for each Parquet file; columns that hold lists or records are left out."""
        for name in self.artefact.names():
            if name.endswith(".parquet"):
                import pyarrow.parquet

                with closing(self._opened(name)) as raw:
                    schema = pyarrow.parquet.read_schema(raw)
                table = f"{_id(name)}-rows"
                fields = [
                    {
                        "@type": "cr:Field",
                        "@id": f"{table}/{_id(column.name)}",
                        "name": column.name,
                        "dataType": kind,
                        "source": {"fileObject": {"@id": _id(name)}, "extract": {"column": column.name}},
                    }
                    for column in schema
                    if (kind := _data_type(column.type))
                ]
                yield {"@type": "cr:RecordSet", "@id": table, "name": table, "field": fields}

    def _opened(self, name: str) -> Any:
        source = self.artefact.source(name)
        return source.open("rb") if isinstance(source, Path) else source.open()


def _sha(digest: str) -> str:
    return f"sha256:{digest}"


def _id(name: str) -> str:
    """A name without what an identifier of JSON-LD cannot hold."""
    return quote(name.replace(" ", "_"), safe="_.-/")


def _data_type(arrow: Any) -> str:
    from pyarrow import types

    if types.is_dictionary(arrow):
        return _data_type(arrow.value_type)
    kinds = {
        "sc:Boolean": types.is_boolean,
        "sc:Integer": types.is_integer,
        "sc:Float": types.is_floating,
        "sc:Text": lambda each: types.is_string(each) or types.is_large_string(each),
    }
    return next((kind for kind, holds in kinds.items() if holds(arrow)), "")
