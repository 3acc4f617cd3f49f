"""Data assets do their real work under Dagster, and fail in one line."""

from pathlib import Path
from typing import Any

import dagster as dg
import pytest

from assets.definitions import ASSETS
from assets.resources import Installation
from assets.step import DataConfig
from pipelines.errors import UsageError
from pipelines.graph.experiment import register
from pipelines.graph.recipe import Recipe
from pipelines.home import open_store
from pipelines.stages.fetch import FetchConfig
from pipelines.stages.videos import VideosConfig, identified
from tests.buckets.servers import EmulatedBucket
from tests.pipelines.episodes.videos.made_videos import write_npz
from tests.pipelines.sources.dqn_replay.toy import write_replay

TINY = {"recipe": "mini", "overrides": ["downsample.transitions=1000"]}
CHAIN = [
    ("collected_replay", "Pong"),
    ("replay", dg.MultiPartitionKey({"game": "Pong", "agent": "1"})),
    ("trajectories", "Pong"),
    ("segments", "Pong"),
]


@pytest.fixture(autouse=True)
def _home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WORLDLINE_HOME", str(tmp_path / "home"))
    monkeypatch.delenv("WORLDLINE_STORAGE", raising=False)


def _run(instance: dg.DagsterInstance, stage: str, key: str, config: dict[str, Any]) -> dg.ExecuteInProcessResult:
    return dg.materialize(
        ASSETS,
        selection=dg.AssetSelection.assets(stage),
        partition_key=key,
        instance=instance,
        run_config={"ops": {stage: {"config": config}}, "loggers": {"console": {"config": {"log_level": "CRITICAL"}}}},
        resources={"installation": Installation()},
        raise_on_error=False,
    )


def test_videos_of_an_experiment_are_found_by_others_of_equal_settings(tmp_path: Path) -> None:
    for seed in range(2):
        write_npz(tmp_path / "archives", 26, seed)
    found = identified(VideosConfig(source="npz", path=str(tmp_path / "archives")))
    with dg.DagsterInstance.ephemeral() as instance:
        for name in ("one", "two"):
            recipe = Recipe(name, games=("reach",), stages=(found,))
            key = register(tmp_path / "home" / "experiments", name, recipe).key
            instance.add_dynamic_partitions("experiment", [key])
            result = _run(instance, "videos", key, {})
            [made] = result.asset_materializations_for_node("videos")
            assert made.metadata["skipped"].value is (name == "two") and "picture/videos" in made.metadata
            assert {check.check_name for check in result.get_asset_check_evaluations() if not check.passed} == set()
            assert open_store().resolve(f"videos/{key}") == open_store().resolve("videos")


def _failure(result: dg.ExecuteInProcessResult) -> dg.Failure:
    assert not result.success
    [event] = [event for event in result.all_events if event.is_step_failure]
    return event.step_failure_data.user_failure_data


def test_data_assets_from_play_to_segments_twice() -> None:
    with dg.DagsterInstance.ephemeral() as instance:
        for again in (False, True):
            for stage, key in CHAIN:
                result = _run(instance, stage, key, TINY)
                assert result.success, stage
                [made] = result.asset_materializations_for_node(stage)
                artefact = open_store().open(open_store().resolve(f"{stage}/{str(key).replace('1|Pong', 'Pong/1')}"))
                assert made.metadata["skipped"].value is again
                assert made.tags is not None
                assert made.tags["dagster/data_version"] == artefact.digest
                checks = {each.check_name: each.passed for each in result.get_asset_check_evaluations()}
                assert checks.pop("files_match_manifest")
                recorded = {check.name for check in artefact.manifest.checks}
                assert recorded <= set(checks) <= recorded | {*FetchConfig.OF_SOME}


def test_data_assets_reach_a_bucket_as_the_profile_says(
    gcs_bucket: EmulatedBucket, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its options and its mirror too; the checks of a replay show counts, and pictures where there is one."""
    write_replay(tmp_path / "toy", [13, 29, 5, 61, 13, 40], 53, game="Pong", actions=6)
    gcs_bucket.put_folder(tmp_path / "toy")
    gcs_bucket.write_profile(tmp_path / "emulated.yaml")
    monkeypatch.setenv("WORLDLINE_STORAGE", str(tmp_path / "emulated.yaml"))
    asked = {"recipe": "mini", "overrides": ["source=bucket", "agents=1", "downsample.transitions=60"]}
    with dg.DagsterInstance.ephemeral() as instance:
        for stage, key in CHAIN[1:]:
            result = _run(instance, stage, key, asked)
            assert result.success, stage
            if stage == "replay":
                checks = {each.check_name: each for each in result.get_asset_check_evaluations()}
    assert all(each.passed for each in checks.values())
    assert checks["no_gap"].metadata["joined"].value == 3
    pictured = {name for name, each in checks.items() if "picture" in each.metadata}
    assert pictured == {"add_count", "blank_rows", "episode_length"}
    assert list((tmp_path / "home" / "mirror").rglob("*action_ckpt*.gz"))


def test_an_unknown_recipe_is_one_line_with_its_exit_code() -> None:
    with dg.DagsterInstance.ephemeral() as instance:
        failure = _failure(_run(instance, "segments", "Pong", {"recipe": "dem"}))
    assert str(failure.description).startswith("Unknown recipe 'dem': did you mean 'demo'?")
    assert "\n" not in str(failure.description)
    assert failure.metadata["exit_code"].value == 2


def test_a_missing_parent_is_one_line() -> None:
    with dg.DagsterInstance.ephemeral() as instance:
        failure = _failure(_run(instance, "segments", "Pong", TINY))
    assert "is not in the store" in str(failure.description)
    assert failure.metadata["exit_code"].value == 1


def test_an_error_that_nobody_foresaw_is_one_line_and_its_traceback_holds_no_secret(monkeypatch) -> None:
    def break_down(*_: object) -> None:
        raise RuntimeError("log in\nwith hush-hush")

    monkeypatch.setenv("SOME_TOKEN", "hush-hush")
    monkeypatch.setattr("assets.step.make", break_down)
    with dg.DagsterInstance.ephemeral() as instance:
        result = _run(instance, "segments", "Pong", TINY)
        failure = _failure(result)
        assert not any("hush-hush" in str(event) for event in result.all_events)
    assert str(failure.description).startswith("RuntimeError: log in with ${SOME_TOKEN} - a fault of Worldline")
    assert failure.metadata["exit_code"].value == 1
    assert "in break_down" in str(failure.metadata["traceback"].value)


def test_a_frozen_experiment_takes_no_overrides() -> None:
    with pytest.raises(UsageError, match="is frozen"):
        DataConfig(experiment="demo-1a2b3c4d", overrides=["seed=1"]).resolve(Installation())


def test_the_home_of_the_resource_wins_over_the_environment(tmp_path: Path) -> None:
    assert Installation(home=str(tmp_path / "other")).store().root == tmp_path / "other" / "store"
    assert Installation().store().root == tmp_path / "home" / "store"
    assert Installation(storage="gcs").store().profile.name == "gcs"
    with pytest.raises(UsageError, match="Unknown storage profile 'locl'"):
        Installation(storage="locl").store()
