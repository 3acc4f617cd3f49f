"""OpenLineage and PROV: valid by the rules of each, whole, the same every time, and without secrets."""

import json
import uuid
from datetime import datetime
from urllib.parse import urlsplit

import jsonschema
import pytest
from prov.model import ProvActivity, ProvAgent, ProvDerivation, ProvDocument, ProvEntity

from pipelines.errors import WorldlineError
from pipelines.store.manifest import Manifest
from pipelines.tools.exports.lineage_documents import LineageDocument, whole_lineage
from tests.pipelines.conftest import TinyRun

CHECKS = jsonschema.FormatChecker(["uuid"])


@CHECKS.checks("date-time", ValueError)
def _is_time(text: str) -> bool:
    return datetime.fromisoformat(text).tzinfo is not None


@CHECKS.checks("uri", ValueError)
def _is_uri(text: str) -> bool:
    return bool(urlsplit(text).scheme) and " " not in text


URI = {"type": "string", "format": "uri"}
FACETS = {
    "type": "object",
    "additionalProperties": {
        "type": "object",
        "required": ["_producer", "_schemaURL"],
        "properties": {"_producer": URI, "_schemaURL": URI},
    },
}


def _named(*more: str) -> dict:
    """An object with a namespace and a name; its facets say who wrote them, by which schema."""
    texts = {name: {"type": "string", "minLength": 1} for name in ("namespace", "name")}
    return {"type": "object", "required": [*texts], "properties": texts | dict.fromkeys(("facets", *more), FACETS)}


# What OpenLineage 2-0-2 asks of a run event, in our own words.
RUN_EVENT = {
    "type": "object",
    "required": ["eventTime", "producer", "schemaURL", "run", "job"],
    "properties": {
        "eventType": {"enum": ["START", "RUNNING", "COMPLETE", "ABORT", "FAIL", "OTHER"]},
        "eventTime": {"type": "string", "format": "date-time"},
        "producer": URI,
        "schemaURL": URI,
        "run": {
            "type": "object",
            "required": ["runId"],
            "properties": {"runId": {"type": "string", "format": "uuid"}, "facets": FACETS},
        },
        "job": _named(),
        "inputs": {"type": "array", "items": _named("inputFacets")},
        "outputs": {"type": "array", "items": _named("outputFacets")},
    },
}


@pytest.fixture
def lineage(tiny: TinyRun):
    return whole_lineage(tiny.store, [tiny.made["scores"].ref])


def events(lineage) -> list[dict]:
    return [json.loads(line) for line in LineageDocument(lineage, "openlineage", "x").text().splitlines()]


def test_run_events_are_valid_and_come_parents_first(lineage) -> None:
    jsonschema.Draft202012Validator.check_schema(RUN_EVENT)
    check = jsonschema.Draft202012Validator(RUN_EVENT, format_checker=CHECKS)
    made: set[str] = set()
    for event in events(lineage):
        check.validate(event)
        (output,) = event["outputs"]
        assert {each["name"] for each in event["inputs"]} <= made, "a run reads what an earlier event made"
        made.add(output["name"])
    assert made == {str(each.ref) for each in lineage} and len(made) > 5
    for broken in ({"eventTime": "yesterday"}, {"run": {"runId": "7"}}, {"producer": "me"}, {"job": {"name": "x"}}):
        assert not check.is_valid(event | broken), "the schema tells these apart"


def test_events_say_what_the_manifests_say(lineage) -> None:
    by_ref = {str(each.ref): each for each in lineage}
    for event in events(lineage):
        artefact = by_ref[event["outputs"][0]["name"]]
        facet = event["outputs"][0]["facets"]["worldline_manifest"]
        assert (facet["manifest_sha256"], facet["content_sha256"]) == (artefact.digest, artefact.manifest.content)
        assert event["eventTime"] == artefact.manifest.created and facet["config"] == artefact.manifest.config
        pins = [each["facets"]["version"]["datasetVersion"] for each in event["inputs"]]
        assert pins == [entry.manifest_sha256 for entry in artefact.manifest.parents]
        assert uuid.UUID(event["run"]["runId"]).version == 5


def test_prov_reads_it_and_writes_the_same_again(lineage) -> None:
    text = LineageDocument(lineage, "prov", "x").text()
    found = ProvDocument.deserialize(content=text, format="json")
    assert ProvDocument.deserialize(content=found.serialize(format="json"), format="json") == found
    runs = {f"urn:worldline:run:{each.ref}" for each in lineage}
    assert {each.identifier.uri for each in found.get_records(ProvActivity)} == runs
    entities = {each.identifier.uri for each in found.get_records(ProvEntity)}
    assert {f"urn:worldline:artefact:{each.ref}" for each in lineage} <= entities
    assert any(uri.startswith("urn:worldline:root:") for uri in entities), "ROM and policy are there"
    derived = {tuple(end.uri for _, end in each.formal_attributes[:2]) for each in found.get_records(ProvDerivation)}
    assert {end for pair in derived for end in pair} <= entities
    pairs = [(each, entry) for each in lineage for entry in each.manifest.parents]
    assert {(f"urn:worldline:artefact:{each.ref}", f"urn:worldline:artefact:{entry.ref}") for each, entry in pairs} <= (
        derived
    )
    assert len(list(found.get_records(ProvAgent))) == 1


@pytest.mark.parametrize("form", ["openlineage", "prov"])
def test_the_same_lineage_gives_the_same_bytes_without_secrets(lineage, form, monkeypatch) -> None:
    text = LineageDocument(lineage, form, "x").text()
    assert LineageDocument(list(lineage), form, "y").text() == text
    secret = next(str(root["rom_md5"]) for each in lineage for root in each.manifest.roots if "rom_md5" in root)
    assert secret in text
    monkeypatch.setenv("SOME_TOKEN", secret)
    hidden = LineageDocument(lineage, form, "x").text()
    assert secret not in hidden and "${SOME_TOKEN}" in hidden


def test_a_lineage_that_is_not_whole_does_not_go_out(tiny_copy: TinyRun) -> None:
    path = tiny_copy.made["segments"].folder / "manifest.json"
    changed = json.loads(path.read_bytes()) | {"git_commit": "another", "counts": {"segments": 1}}
    changed["files"][0]["sha256"] = "0" * 64
    path.write_bytes(Manifest.from_bytes(json.dumps(changed).encode(), "").to_bytes())
    with pytest.raises(WorldlineError, match=r"cannot go out, segments/Breakout/\w+: its .* --verify"):
        whole_lineage(tiny_copy.store, [tiny_copy.made["world_action_model"].ref])
