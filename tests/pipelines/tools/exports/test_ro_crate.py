"""The crate as `rocrate` reads it: everything that is named is there, and the manifests are those of the store."""

import hashlib
import json
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from rocrate.rocrate import ROCrate

from pipelines.errors import WorldlineError
from pipelines.tools.exports.export import export
from pipelines.tools.exports.lineage_documents import raw_manifest, whole_lineage
from pipelines.tools.exports.ro_crate import METADATA, RoCrate
from tests.pipelines.conftest import TinyRun


@pytest.fixture
def what(tiny: TinyRun) -> RoCrate:
    lineage = whole_lineage(tiny.store, [tiny.made["scores"].ref])
    return RoCrate(lineage, [raw_manifest(tiny.store, each) for each in lineage], "crate")


def named(value: Any) -> Iterator[str]:
    """What a JSON-LD graph points at."""
    if isinstance(value, dict):
        if value.keys() == {"@id"}:
            yield value["@id"]
        for each in value.values():
            yield from named(each)
    elif isinstance(value, list):
        for each in value:
            yield from named(each)


def bytes_of(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def test_rocrate_loads_it_and_every_entity_resolves(tiny: TinyRun, what: RoCrate, tmp_path) -> None:
    folder = export(what.lineage[0], what, tmp_path).path
    crate = ROCrate(folder)
    graph = json.loads((folder / METADATA).read_text())["@graph"]
    inside = {name for name in named(graph) if not name.startswith("https://")}
    assert len(inside) > 20 and all(crate.dereference(name) is not None for name in inside)
    assert crate.mainEntity["name"] == str(tiny.made["scores"].ref)
    actions = crate.get_by_type("CreateAction")
    assert {each["result"]["name"] for each in actions} == {str(artefact.ref) for artefact in what.lineage}
    for action, artefact in zip(actions, what.lineage, strict=True):
        assert action["endTime"] == artefact.manifest.created
        assert action["instrument"]["softwareVersion"] == artefact.manifest.libraries["worldline"]
        read = [each["name"] for each in action["object"] if each.type == "Dataset"]
        assert read == [entry.ref for entry in artefact.manifest.parents]
        manifest = crate.dereference(f"lineage/{artefact.ref}/manifest.json")
        raw = (folder / manifest.id).read_bytes()
        assert manifest["sha256"] == artefact.digest == hashlib.sha256(raw).hexdigest()
        assert manifest["contentSize"] == str(len(raw))


def test_it_is_checked_without_worldline_and_is_the_same_every_time(what: RoCrate, tmp_path) -> None:
    first, second = (export(what.lineage[0], what, tmp_path / name).path for name in "ab")
    assert bytes_of(first) == bytes_of(second)
    subprocess.run(["sha256sum", "-c", "--quiet", "SHA256SUMS"], cwd=first, check=True)
    listed = {line.split("  ", 1)[1] for line in (first / "SHA256SUMS").read_text().splitlines()}
    assert listed == bytes_of(first).keys() - {"SHA256SUMS"}


def test_a_manifest_with_a_secret_stays_at_home(what: RoCrate, tmp_path, monkeypatch) -> None:
    secret = next(str(root["rom_md5"]) for each in what.lineage for root in each.manifest.roots if "rom_md5" in root)
    monkeypatch.setenv("SOME_TOKEN", secret)
    with pytest.raises(WorldlineError, match="holds what looks like a secret"):
        export(what.lineage[0], what, tmp_path / "out")
    assert list((tmp_path / "out").iterdir()) == []
