"""What schedule and sensors ask for, from a real store and instance; `test_automation_live.py` lets them fire."""

import json
import shutil
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path

import dagster as dg
import pytest

from assets.automation import ROUND, SCHEDULES, SENSORS, new_checkpoints, new_scores, weekly_reevaluation
from assets.definitions import defs
from assets.partitions import EXPERIMENT
from assets.resources import Installation
from assets.stages import ASSETS
from pipelines.graph.experiment import Experiment, register
from pipelines.graph.rounds import evaluations
from pipelines.recipes.registry import recipe
from pipelines.store.store import Store
from tests.pipelines.conftest import TinyRun, tiny, tiny_copy  # noqa: F401 -- fixtures
from tests.pipelines.evaluation.evaluations import checkpoint
from tests.pipelines.evaluation.evaluations import scores as played

SUNDAY = datetime(2026, 11, 22, 22, tzinfo=UTC)


@pytest.fixture
def instance() -> Iterator[dg.DagsterInstance]:
    with dg.DagsterInstance.ephemeral() as found:
        yield found


@pytest.fixture
def on_disk(tmp_path: Path) -> Iterator[dg.DagsterInstance]:
    """A schedule's context takes no instance that lives in memory."""
    (tmp_path / "dagster").mkdir()
    with dg.DagsterInstance.local_temp(str(tmp_path / "dagster")) as found:
        yield found


@pytest.fixture
def installation(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Installation:
    monkeypatch.delenv("WORLDLINE_STORAGE", raising=False)
    return Installation(home=str(tmp_path / "home"))


@pytest.fixture
def trained(installation: Installation) -> Experiment:
    """An experiment of two games with a checkpoint, and one without."""
    found = register(installation.folder() / "experiments", "trained", recipe("mini", ["games=Pong,Freeway"]))
    register(installation.folder() / "experiments", "waiting", recipe("mini"))
    installation.store().point(f"world_action_model/{found.key}", checkpoint(installation.store()).ref)
    return found


def tick(installation: Installation, instance: dg.DagsterInstance, at: datetime = SUNDAY) -> list[dg.RunRequest] | str:
    with dg.build_schedule_context(
        instance=instance, scheduled_execution_time=at, resources={"installation": installation}
    ) as context:
        found = weekly_reevaluation()(context)
    return str(found.skip_message) if isinstance(found, dg.SkipReason) else found  # type: ignore[return-value]


def look(
    sensor: dg.SensorDefinition, installation: Installation, instance: dg.DagsterInstance, cursor: str | None = None
):  # type: ignore[no-untyped-def]
    """(requests, why there are none, the next cursor)"""
    with dg.build_sensor_context(instance=instance, cursor=cursor, resources={"installation": installation}) as context:
        found = sensor(context)
    if isinstance(found, dg.SkipReason):
        return [], str(found.skip_message), cursor
    assert isinstance(found, dg.SensorResult)
    return list(found.run_requests or ()), str(found.skip_reason and found.skip_reason.skip_message), found.cursor


def test_all_that_start_something_are_off_and_the_schedule_is_weekly() -> None:
    starting = {"weekly_reevaluation", "nightly_verify", "new_checkpoints", "new_scores"}
    assert {each.name for each in (*SCHEDULES, *SENSORS)} == starting | {"dead_runs"}
    assert {each.name for each in (*(defs.schedules or ()), *(defs.sensors or ()))} == {
        each.name for each in (*SCHEDULES, *SENSORS)
    }
    assert all(each.default_status == dg.DefaultScheduleStatus.STOPPED for each in SCHEDULES)
    running = {each.name for each in SENSORS if each.default_status == dg.DefaultSensorStatus.RUNNING}
    assert running == {"dead_runs"}
    assert (SCHEDULES[0].cron_schedule, SCHEDULES[0].execution_timezone) == ("0 22 * * 0", "UTC")


def test_a_tick_asks_for_every_checkpoints_round(
    installation: Installation, trained: Experiment, on_disk: dg.DagsterInstance
) -> None:
    found = tick(installation, on_disk)
    assert [each.run_key for each in found] == [f"2026-W47/{trained.key}|{game}" for game in ("Pong", "Freeway")]
    assert [each.partition_key for each in found] == [f"{trained.key}|{game}" for game in ("Pong", "Freeway")]
    assert all(each.tags[ROUND] == "2026-W47" for each in found)
    assert all(each.run_config["ops"]["scores"]["config"] == {"round": "2026-W47"} for each in found)
    assert on_disk.get_dynamic_partitions(EXPERIMENT) == [trained.key]
    assert dg.validate_run_config(defs.resolve_job_def("evaluate"), found[0].run_config)


def test_a_second_tick_asks_for_nothing_twice(
    installation: Installation, trained: Experiment, on_disk: dg.DagsterInstance
) -> None:
    store = installation.store()
    done = played(store, 4, {"greedy": [1.0]}, game="Pong", checkpoint=checkpoint(store).ref)
    store.point(f"scores/{trained.key}/Pong/2026-W47", done.ref)
    [left] = tick(installation, on_disk)
    assert left.run_key == f"2026-W47/{trained.key}|Freeway"
    on_disk.create_run_for_job(
        defs.resolve_job_def("evaluate"),
        tags={ROUND: "2026-W47", "dagster/partition": str(left.partition_key)},
        run_config=left.run_config,
        status=dg.DagsterRunStatus.STARTED,
    )
    assert tick(installation, on_disk) == "Round 2026-W47: every checkpoint has its scores, or they are under way"
    assert len(tick(installation, on_disk, datetime(2026, 11, 29, 22, tzinfo=UTC))) == 2, "the week after"


def test_a_new_checkpoint_is_asked_to_play_once(
    installation: Installation, trained: Experiment, instance: dg.DagsterInstance
) -> None:
    sensor, store = new_checkpoints(), installation.store()
    found, _, cursor = look(sensor, installation, instance)
    key = checkpoint(store).ref.key
    assert [each.run_key for each in found] == [f"{key}/{trained.key}|{game}" for game in ("Pong", "Freeway")]
    assert not found[0].tags and found[0].run_config["ops"]["scores"]["config"] == {"round": ""}
    assert instance.get_dynamic_partitions(EXPERIMENT) == [trained.key]
    assert look(sensor, installation, instance, cursor)[0] == [], "whether it succeeded or not"
    store.point(f"scores/{trained.key}/Pong", played(store, 0, {"greedy": [1.0]}, game="Pong").ref)
    assert len(look(sensor, installation, instance)[0]) == 1, "what stands is not asked for, whoever made it"
    again = checkpoint(store, trained="again").ref
    store.point(f"world_action_model/{trained.key}", again)
    found, _, newer = look(sensor, installation, instance, cursor)
    assert [each.run_key for each in found] == [f"{again.key}/{trained.key}|{game}" for game in ("Pong", "Freeway")]
    assert set(json.loads(newer).values()) == {str(again)}


def test_new_scores_bring_one_leaderboard_when_all_have_ended(
    installation: Installation, trained: Experiment, instance: dg.DagsterInstance
) -> None:
    sensor, store = new_scores(), installation.store()
    found, why, cursor = look(sensor, installation, instance)
    assert not found and "A leaderboard of no scores is impossible" in why and cursor is None
    store.point(f"scores/{trained.key}/Pong", played(store, 0, {"greedy": [1.0]}, game="Pong").ref)
    running = instance.create_run_for_job(
        defs.resolve_job_def("evaluate"),
        tags={"dagster/partition": f"{trained.key}|Freeway"},
        run_config={},
        status=dg.DagsterRunStatus.STARTED,
    )
    found, why, cursor = look(sensor, installation, instance)
    assert not found and why.startswith("Evaluations under way: 1")
    instance.report_run_failed(running)
    [first], _, cursor = look(sensor, installation, instance, cursor)
    assert look(sensor, installation, instance, cursor)[0] == []
    store.point(f"scores/{trained.key}/Pong/2026-W47", played(store, 1, {"greedy": [1.0]}, game="Pong").ref)
    [second], _, _ = look(sensor, installation, instance, cursor)
    assert second.run_key != first.run_key


@pytest.mark.parametrize("broken", ["gone", "a file", "elsewhere", "damaged experiment", "damaged manifest"])
def test_a_store_that_cannot_be_read_is_named_and_forgets_nothing(
    installation: Installation,
    trained: Experiment,
    instance: dg.DagsterInstance,
    broken: str,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    root, experiments = installation.store().root, installation.folder() / "experiments"
    _, _, cursor = look(new_checkpoints(), installation, instance)
    said = str(root)
    if broken in ("gone", "a file"):
        shutil.rmtree(root)
    if broken == "a file":
        root.write_text("no folder")
    if broken == "elsewhere":
        monkeypatch.setenv("WORLDLINE_STORAGE", said := "nowhere")
    if broken == "damaged experiment":
        (experiments / f"{trained.key}.json").write_text(said := "{}")
        said = str(experiments)
    if broken == "damaged manifest":
        next(root.glob("world_action_model/tiny/*/manifest.json")).write_text("{")
    found, why, kept = look(new_checkpoints(), installation, instance, cursor)
    assert not found and said in why and kept == cursor
    why = tick(installation, instance)
    alone = broken.startswith("damaged")  # what others have to play is asked for
    assert isinstance(why, str) and said in why
    assert why.startswith("Round 2026-W47: every checkpoint" if alone else "Round 2026-W47 must wait: ")


def evaluate(ours: TinyRun, instance: dg.DagsterInstance, **config: object) -> dg.ExecuteInProcessResult:
    instance.add_dynamic_partitions(EXPERIMENT, [ours.experiment.key])
    return dg.materialize(
        [asset for asset in ASSETS if asset.key == dg.AssetKey("scores")],
        partition_key=dg.MultiPartitionKey({"experiment": ours.experiment.key, "game": "Breakout"}),
        instance=instance,
        resources={"installation": Installation(home=str(ours.home))},
        run_config={"ops": {"scores": {"config": config}}},
        raise_on_error=False,
    )


@pytest.mark.slow
def test_a_round_and_other_settings_are_run_config(
    tiny_copy: TinyRun,  # noqa: F811
    instance: dg.DagsterInstance,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.delenv("WORLDLINE_STORAGE", raising=False)
    own, fresh = evaluate(tiny_copy, instance), evaluate(tiny_copy, instance, round="2026-W47")
    assert own.success and fresh.success
    check = {each.check_name: each for each in fresh.get_asset_check_evaluations()}["no_drift"]
    assert check.passed and check.severity == dg.AssetCheckSeverity.WARN
    assert check.description is not None and check.description.startswith("greedy ")
    assert check.metadata["past"].value == str(tiny_copy.made["scores"].ref)
    other = evaluate(tiny_copy, instance, overrides=["evaluate.max_steps=4", "evaluate.beam_episodes=0"])
    assert other.success
    assert len(evaluations(tiny_copy.store, "Breakout")) == 3
    for bad, said in (
        ({"overrides": ["seed=1"]}, "would change more than how the checkpoint plays"),
        ({"overrides": ["evaluate.epsilon=2"]}, "epsilon 2.0 is impossible"),
        ({"round": "../x"}, "cannot name part of an artefact"),
    ):
        failed = evaluate(tiny_copy, instance, **bad)
        [event] = [each for each in failed.all_events if each.is_step_failure]
        assert said in str(event.step_failure_data.user_failure_data.description)  # type: ignore[union-attr]


def test_a_past_that_cannot_be_read_is_a_warning(
    tiny_copy: TinyRun,  # noqa: F811
    instance: dg.DagsterInstance,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.delenv("WORLDLINE_STORAGE", raising=False)
    store: Store = tiny_copy.store
    table = tiny_copy.made["scores"].path("episodes.parquet")
    table.write_bytes(b"\0" * table.stat().st_size)
    done = evaluate(tiny_copy, instance, round="2026-W47")
    assert done.success
    check = {each.check_name: each for each in done.get_asset_check_evaluations()}["no_drift"]
    assert not check.passed and check.severity == dg.AssetCheckSeverity.WARN
    assert "the past cannot be read" in str(check.description) and str(store.root) in str(check.description)
