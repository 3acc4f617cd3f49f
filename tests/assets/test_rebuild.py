"""A Dagster home that was deleted says afterwards what it said before, from the store alone."""

import shutil
from typing import Any

import dagster as dg
import pytest

from assets.automation import new_checkpoints, new_scores
from assets.definitions import defs
from assets.instance import open_instance
from assets.launch import main
from assets.partitions import EXPERIMENT
from assets.rebuild import REBUILT, rebuild
from assets.resources import Installation
from pipelines.errors import Members
from pipelines.graph import table
from pipelines.home import dagster_home
from pipelines.store.ref import Ref
from tests.pipelines.conftest import TinyRun, tiny, tiny_copy  # noqa: F401 -- fixtures

OTHERWISE = ("dagster/input_event_pointer/", REBUILT)  # tags that number events, or say whence they are
KEPT = ("address", "manifest_sha256", "bytes", "created", "parents", "files", "cost")


@pytest.fixture
def here(tiny_copy: TinyRun, monkeypatch: pytest.MonkeyPatch) -> TinyRun:  # noqa: F811
    monkeypatch.setenv("WORLDLINE_HOME", str(tiny_copy.home))
    monkeypatch.setenv("DAGSTER_HOME", "set by open_instance")
    monkeypatch.delenv("WORLDLINE_STORAGE", raising=False)
    return tiny_copy


def history() -> dict[str, Any]:
    """By asset: its partitions; tags, names of metadata and some of it of each one's newest event; what checks say."""
    found: dict[str, Any] = {}
    graph = defs.resolve_asset_graph()
    with open_instance() as instance:
        for name in table.NAMES:
            key, events = dg.AssetKey(name), dict[str | None, Any]()
            for record in instance.fetch_materializations(key, limit=100).records:  # the newest first
                made = record.asset_materialization
                assert made is not None
                tags = {tag: value for tag, value in (made.tags or {}).items() if not tag.startswith(OTHERWISE)}
                kept = {each: made.metadata[each].value for each in KEPT}
                events.setdefault(record.partition_key, (tags, sorted(made.metadata), kept))
            checks = {each.name: verdict(instance, each) for each in graph.asset_check_keys if each.asset_key == key}
            found[name] = (instance.get_materialized_partitions(key), events, checks)
    return found


def verdict(instance: dg.DagsterInstance, key: dg.AssetCheckKey) -> tuple[Any, ...] | None:
    """What the last evaluation of a check says, and of which asset's event."""
    [summary] = instance.event_log_storage.get_asset_check_summary_records([key]).values()
    last = summary.last_check_execution_record
    if last is None or last.event is None or last.event.dagster_event is None:
        return None
    told = last.event.dagster_event.asset_check_evaluation_data
    assert told.target_materialization_data is not None
    assert told.target_materialization_data.storage_id == newest(instance, key.asset_key).storage_id
    return told.passed, told.severity, told.description, sorted(told.metadata)


def newest(instance: dg.DagsterInstance, key: dg.AssetKey) -> dg.EventLogRecord:
    """The last materialisation of an asset."""
    return instance.fetch_materializations(key, limit=1).records[0]


def asked_for(sensor: dg.SensorDefinition, instance: dg.DagsterInstance) -> list[Any]:
    """What a sensor would start now."""
    with dg.build_sensor_context(instance=instance, resources={"installation": Installation()}) as context:
        return list(sensor(context).run_requests or [])  # type: ignore[union-attr]


@pytest.mark.slow  # nine runs, to have a history: 10 s
def test_a_deleted_history_is_told_again_as_it_was(here: TinyRun, capsys: pytest.CaptureFixture[str]) -> None:
    key = here.experiment.key
    assert main(["materialize", "--experiment", key]) == 0
    before = history()
    shutil.rmtree(dagster_home())
    capsys.readouterr()
    assert main(["rebuild"]) == 0
    assert capsys.readouterr().out == f"{len(here.made)} artefacts told to Dagster, 0 known there already.\n"
    after = history()
    for name, (partitions, events, checks) in before.items():
        assert after[name][0] == partitions and after[name][1].keys() == events.keys(), name
        assert bool(events) == (name in here.made)
        for partition, event in events.items():
            assert after[name][1][partition] == event, name
        assert after[name][2] == checks, name
    assert main(["rebuild"]) == 0
    assert capsys.readouterr().out == f"0 artefacts told to Dagster, {len(here.made)} known there already.\n"
    assert history() == after, "telling twice adds nothing"
    with open_instance() as instance:
        assert instance.get_dynamic_partitions(EXPERIMENT) == [key]
        assert asked_for(new_checkpoints(), instance) == asked_for(new_scores(), instance) == []
    assert main(["materialize", "--experiment", key, "--until", "segments"]) == 0
    assert capsys.readouterr().out.endswith("Everything was already there.\n")


def test_what_is_damaged_stale_or_gone_has_its_line_and_stops_no_other(
    here: TinyRun, capsys: pytest.CaptureFixture[str]
) -> None:
    store, key = here.store, here.experiment.key
    shutil.rmtree(dagster_home(), ignore_errors=True)
    tokens, scores = here.made["tokens"], here.made["scores"]
    chunk = max((tokens.path(name) for name in tokens.names()), key=lambda path: path.stat().st_size)
    chunk.write_bytes(bytes(chunk.stat().st_size))  # of the same size: only its hash tells
    store.point(f"scores/{key}/Breakout/2026-W47", scores.ref)
    store.point("scores/unregistered/Breakout", scores.ref)
    store.remove(here.made["leaderboard"])
    assert main(["rebuild"]) == 1
    out, err = capsys.readouterr()
    told = len(here.made) - 2
    assert out == f"{told} artefacts told to Dagster, 0 known there already; 1 names are of no partition.\n"
    gone, damaged = sorted(err.splitlines())
    assert gone.startswith(f"leaderboard/all failed: {here.made['leaderboard'].ref} is not in the store")
    assert damaged.startswith(f"tokens/{key}/Breakout failed: {tokens.ref} is damaged: ")
    with open_instance() as instance:
        assert not instance.get_materialized_partitions(dg.AssetKey("tokens"))
        assert len(instance.fetch_materializations(dg.AssetKey("scores"), limit=9).records) == 1, "one of two names"


@pytest.mark.slow
def test_a_store_from_elsewhere_brings_its_experiments_and_all_data_of_a_game(here: TinyRun) -> None:
    """Two experiments' segments of one game are two events of one partition; the name that all share is the newest."""
    shutil.rmtree(here.home / "experiments")
    segments, store = here.made["segments"], here.store
    other = Ref("segments", "Breakout", "0" * 16)
    folder = segments.folder.with_name(other.key)
    shutil.copytree(segments.folder, folder)
    text = (folder / "manifest.json").read_text().replace(segments.ref.key, other.key)
    (folder / "manifest.json").write_text(text.replace(segments.manifest.created, "2000-01-01T00:00:00+00:00"))
    store.point("segments/other-00000000/Breakout", segments.ref)
    store.point("segments/Breakout", other)
    members = Members()
    with open_instance() as instance:
        told = rebuild(instance, Installation(), members)
        assert (told.added, members.failed) == (len(here.made) + 1, {})
        assert set(instance.get_dynamic_partitions(EXPERIMENT)) == {here.experiment.key, "other-00000000"}
        assert instance.get_materialized_partitions(dg.AssetKey("pretrained")) == {here.experiment.key}
        made = newest(instance, dg.AssetKey("scores")).asset_materialization
        assert made is not None and made.tags is not None
        assert made.partition == f"{here.experiment.key}|Breakout" and made.tags[REBUILT] == "true"
        records = instance.fetch_materializations(dg.AssetKey("segments"), limit=9).records
        events = [each.asset_materialization for each in records]
        addresses = [each.metadata["address"].value for each in events if each is not None]
        assert addresses == [str(other), str(segments.ref)]
