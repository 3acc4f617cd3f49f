"""What a Croissant document says is what `mlcroissant` reads, and what the artefact holds."""

import io
import json
import shutil
import sys
from pathlib import Path

import mlcroissant
import pandas as pd
import pytest
from absl import logging as absl_logging

from pipelines.errors import WorldlineError
from pipelines.store.artefact import Artefact
from pipelines.tools.exports.croissant import Croissant
from pipelines.tools.exports.export import export
from tests.pipelines.conftest import TinyRun

# With mlcroissant comes a log handler that holds pytest's captured stream and closes it when Dagster sets up its logs.
absl_logging.get_absl_handler().python_handler.stream = sys.__stderr__


@pytest.mark.parametrize("stage", ["replay", "trajectories", "segments", "tokens"])
def test_mlcroissant_finds_no_fault_and_every_file(tiny: TinyRun, stage: str, tmp_path) -> None:
    artefact = tiny.made[stage]
    done = export(artefact, Croissant(artefact, "data.json", "https://data.example/x/", "CC-BY-4.0"), tmp_path)
    found = mlcroissant.Dataset(jsonld=done.path).metadata
    assert found.ctx.issues.errors == set()
    assert found.license == ["CC-BY-4.0"] and found.ctx.is_v1_1()
    listed = {each.name: (each.sha256, each.content_size, each.content_url) for each in found.distribution}
    assert listed == {
        entry.path: (entry.sha256, f"{entry.bytes} B", f"https://data.example/x/{entry.path}")
        for entry in artefact.manifest.files
    }
    said = json.loads(done.path.read_text())
    pinned = [(entry.ref, f"sha256:{entry.manifest_sha256}") for entry in artefact.manifest.parents]
    assert [(each["name"], each["identifier"]) for each in said["isBasedOn"]] == pinned and pinned
    assert Croissant(artefact, "again", "https://data.example/x/", "CC-BY-4.0").text() == done.path.read_text()


def test_records_of_a_table_load_through_the_document(tiny: TinyRun, tmp_path) -> None:
    artefact = tiny.made["segments"]
    shutil.copy(artefact.path("segments.parquet"), tmp_path)  # files lie beside the document unless told otherwise
    done = export(artefact, Croissant(artefact, "segments.json"), tmp_path)
    (table,) = json.loads(done.path.read_text())["recordSet"]
    records = list(mlcroissant.Dataset(jsonld=done.path).records(table["@id"]))
    expected = pd.read_parquet(artefact.path("segments.parquet"))
    assert [list(record.values())[:3] for record in records] == expected.iloc[:, :3].to_numpy().tolist()
    assert [field["dataType"] for field in table["field"]] == ["sc:Integer"] * 3 + ["sc:Text"]


def test_arrays_are_described_and_nothing_is_claimed_that_nobody_stated(tiny: TinyRun) -> None:
    made = tiny.made
    frames = made["trajectories"].manifest.counts["transitions"]
    said = json.loads(Croissant(made["trajectories"], "x").text())
    assert f"observations uint8 [{frames}, 84, 84]" in said["distribution"][0]["description"]
    assert not said.keys() & {"license", "creator", "datePublished", "citeAs"} and said["recordSet"] == []
    described = [
        each.get("description", "") for each in json.loads(Croissant(made["tokens"], "x").text())["distribution"]
    ]
    assert any(text.startswith(f"zarr array uint16 [{frames}, ") for text in described)


def test_a_document_that_reads_back_otherwise_is_refused(tiny: TinyRun, tmp_path) -> None:
    what, path = Croissant(tiny.made["segments"], "x"), tmp_path / "x"
    path.write_text(what.text().replace(tiny.made["segments"].manifest.files[0].sha256, "0" * 64))
    with pytest.raises(WorldlineError, match="its list of files"):
        what.read_back(path, lambda *_: None)


class Far:
    """A file that lies in a bucket."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def open(self) -> io.RawIOBase:
        return self.path.open("rb", buffering=0)


class FarArtefact(Artefact):
    """An artefact whose files are too large to have here."""

    def source(self, name: str) -> Far:
        return Far(self.path(name))


@pytest.mark.parametrize("stage", ["replay", "trajectories", "segments"])
def test_what_lies_in_a_bucket_is_described_where_it_lies(tiny: TinyRun, stage: str) -> None:
    here = tiny.made[stage]
    far = FarArtefact(here.ref, here.place, here.manifest, here.digest)
    assert Croissant(far, "x").text() == Croissant(here, "x").text()
