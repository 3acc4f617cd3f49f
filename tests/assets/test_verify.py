"""What a store and Dagster's record of it do not agree on has a line, each way; a faulty night is a failed run."""

import shutil
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path

import dagster as dg
import pytest

from assets.definitions import defs
from assets.instance import open_instance
from assets.launch import main
from assets.rebuild import rebuild
from assets.resources import Installation
from assets.verify import VerifyConfig, nightly_verify, verify, verify_job
from pipelines.errors import Members
from pipelines.home import dagster_home
from pipelines.store.artefact import Artefact
from pipelines.store.store import Store
from tests.fakes import make
from tests.pipelines.conftest import TinyRun, tiny, tiny_copy  # noqa: F401 -- fixtures

ALL = VerifyConfig(nights=1)


@pytest.fixture
def here(tiny_copy: TinyRun, monkeypatch: pytest.MonkeyPatch) -> TinyRun:  # noqa: F811
    monkeypatch.setenv("WORLDLINE_HOME", str(tiny_copy.home))
    monkeypatch.setenv("DAGSTER_HOME", "set by open_instance")
    monkeypatch.delenv("WORLDLINE_STORAGE", raising=False)
    return tiny_copy


@pytest.fixture
def known(here: TinyRun) -> Iterator[dg.DagsterInstance]:
    """Dagster's instance, which knows all that stands."""
    with open_instance() as instance:
        rebuild(instance, Installation(), Members())
        yield instance


def found(instance: dg.DagsterInstance) -> list[str]:
    return verify(instance, Installation(), ALL).faults


def test_each_difference_has_its_line_and_its_repair_mends_it(here: TinyRun, known: dg.DagsterInstance) -> None:
    store, key, scores = here.store, here.experiment.key, here.made["scores"]
    sound = verify(known, Installation(), ALL)
    assert sound.faults == [] and str(sound).endswith(
        f"Held {len(here.made)} names against Dagster's record: none differs."
    )
    other = Artefact(scores.ref, scores.place, scores.manifest, "0" * 64)
    known.report_runless_asset_event(event(other, f"{key}|Breakout"))
    [line] = found(known)
    assert line.startswith(
        f"scores {key}|Breakout is 000000000000... to Dagster, {scores.digest[:12]}... in the store: "
    )
    known.report_runless_asset_event(event(scores, f"{key}|Breakout"))
    assert found(known) == []
    manifest = here.made["segments"].place / "manifest.json"
    manifest.write_text(manifest.read_text() + " ")  # other bytes that say the same: another digest
    unknown = [name for name in store.names() if name.startswith("segments/")]
    assert found(known) == [
        f"{name} is unknown to Dagster: worldline doctor --rebuild tells it" for name in unknown[:1]
    ]
    rebuild(known, Installation(), Members())
    stale = [line for line in found(known) if "unknown to Dagster" in line]
    assert stale == []


@pytest.mark.slow
def test_what_only_one_side_has_is_named(here: TinyRun, known: dg.DagsterInstance) -> None:
    store, key = here.store, here.experiment.key
    store.remove_pointer(f"tokens/{key}/Breakout")
    assert found(known) == [
        f"tokens {key}|Breakout is {here.made['tokens'].digest[:12]}... to Dagster, and nothing in the store "
        f"{store.where} has its name: make it again (worldline materialize EXPERIMENT --until tokens)"
    ]
    known.wipe_assets([dg.AssetKey("pretrained")])
    assert f"pretrained/{key} is unknown to Dagster: worldline doctor --rebuild tells it" in found(known)
    store.remove(here.made["leaderboard"])
    gone = f"leaderboard/all: {here.made['leaderboard'].ref} is not in the store {store.where}"
    assert any(line.startswith(gone) for line in found(known))


@pytest.mark.slow
def test_a_removed_experiment_and_one_at_work_are_no_faults(here: TinyRun, known: dg.DagsterInstance) -> None:
    key = here.experiment.key
    here.store.remove_pointer(f"scores/{key}/Breakout")
    run = known.create_run_for_job(
        defs.resolve_job_def("evaluate"),
        tags={"dagster/partition": f"{key}|Breakout"},
        run_config={},
        status=dg.DagsterRunStatus.STARTED,
    )
    assert found(known) == []
    known.report_run_failed(run)
    assert len(found(known)) == 1
    here.store.forget(key)
    shutil.rmtree(here.home / "experiments")
    assert not [line for line in found(known) if key in line]


@pytest.mark.slow
def test_the_job_fails_with_a_line_for_each_fault(here: TinyRun, known: dg.DagsterInstance) -> None:
    def run(**config: object) -> dg.ExecuteInProcessResult:
        return defs.resolve_job_def("verify").execute_in_process(
            instance=known, run_config={"ops": {"verify_share": {"config": config}}}, raise_on_error=False
        )

    done = run(nights=1)
    [output] = [each for each in done.all_node_events if each.is_successful_output]
    metadata = output.step_output_data.metadata
    total = sum(each.manifest.total_bytes for each in here.store.artefacts())
    assert done.success and (metadata["bytes"].value, metadata["faults"].value) == (total, 0)
    changed = here.made["scores"].path("episodes.parquet")
    changed.write_bytes(bytes(changed.stat().st_size))
    here.made["segments"].path("segments.parquet").unlink()
    lines = failure(run(nights=1)).splitlines()
    assert len(lines) == 2 and all("is damaged: " in line and "make it again (worldline " in line for line in lines)
    assert "is no day" in failure(run(day="27.11.2026")) and "1 in 0 nights" in failure(run(nights=0))
    shutil.rmtree(here.store.root)
    assert failure(run()).startswith(f"The store {here.store.root} cannot be read (No such file or directory): ")


def test_a_tick_asks_for_its_days_share() -> None:
    assert nightly_verify.default_status == dg.DefaultScheduleStatus.STOPPED
    at = datetime(2026, 11, 28, 3, tzinfo=UTC)
    with dg.DagsterInstance.ephemeral() as instance, dg.build_schedule_context(instance, at) as context:
        asked = nightly_verify(context)
    assert isinstance(asked, dg.RunRequest) and asked.run_key == "2026-11-28"
    assert asked.run_config == {"ops": {"verify_share": {"config": {"day": "2026-11-28"}}}}
    assert dg.validate_run_config(verify_job, asked.run_config)


def test_the_command_says_the_same_and_needs_no_record(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("WORLDLINE_HOME", str(tmp_path))
    monkeypatch.setenv("DAGSTER_HOME", "set by open_instance")
    monkeypatch.delenv("WORLDLINE_STORAGE", raising=False)
    store = Store(tmp_path / "store")
    store.point("segments/Freeway", make(store, "segments").ref)
    assert main(["verify", "--nights", "1"]) == 0
    assert capsys.readouterr().out.endswith("Dagster has no record here: worldline doctor --rebuild makes one.\n")
    assert not dagster_home().exists()
    assert main(["init"]) == 0
    assert main(["verify", "--nights", "1"]) == 1
    out, err = capsys.readouterr()
    assert err.splitlines()[-1] == "segments/Freeway is unknown to Dagster: worldline doctor --rebuild tells it"
    assert out.endswith("Held 1 names against Dagster's record: 1 differ.\n")
    assert main(["verify", "--day", "soon"]) == 2


def event(artefact: Artefact, partition: str) -> dg.AssetMaterialization:
    """What a run of the asset would have left."""
    return dg.AssetMaterialization(
        artefact.ref.stage, partition=partition, tags={"dagster/data_version": artefact.digest}
    )


def failure(done: dg.ExecuteInProcessResult) -> str:
    """What the failed step says."""
    [event] = [each for each in done.all_events if each.is_step_failure]
    assert event.step_failure_data.user_failure_data is not None
    return str(event.step_failure_data.user_failure_data.description)
