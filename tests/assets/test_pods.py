"""Training in pods of a cluster that a server here stands for: heard, deleted when cancelled, ended when left over."""

import json
import signal
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import dagster as dg
import kubernetes_validate
import pytest
import yaml
from dagster._core.code_pointer import FileCodePointer
from dagster._core.launcher import LaunchRunContext
from dagster._core.origin import JobPythonOrigin, RepositoryPythonOrigin
from dagster._core.storage.dagster_run import IN_PROGRESS_RUN_STATUSES

from assets import pods
from assets.instance import open_instance
from assets.orphans import close_orphans
from assets.pipes import PIPES, RANKS, Heard, _ranks
from pipelines.errors import UsageError, WorldlineError
from tests.assets.kubernetes_api import Cluster, Pod, cluster
from tests.assets.test_orphans import ORIGIN
from tests.assets.test_pipes import longer, ours  # noqa: F401 -- a fixture
from tests.assets.test_pipes import start as start_training
from tests.fakes import ROOT, finish, start, wait_for
from tests.pipelines.conftest import TinyRun, tiny, tiny_copy  # noqa: F401 -- fixtures

FILE = ROOT / "deploy" / "kubernetes" / "gpu-pod.yaml"
TALKS = """
from dagster_pipes import open_dagster_pipes
with open_dagster_pipes() as pipes:
    print("loading", flush=True)
    pipes.report_custom_message({"metrics": {"step": 1.0, "loss": 0.5}})
    pipes.report_custom_message({"failure": pipes.get_extra("job") + " is missing", "exit_code": 2})
raise SystemExit(2)
"""
RUN = """
import sys
import dagster as dg
from assets import pods
from assets.instance import open_instance
from assets.pipes import Heard

pods.POLL_SECONDS = 0.05

@dg.asset
def trained(context: dg.AssetExecutionContext) -> None:
    pods.train(context, Heard(context), {}, {})

with open_instance() as instance:
    dg.materialize([trained], instance=instance, tags={"dagster/image": "worldline:1"})
"""


CODE = """
import dagster as dg
from assets import pods
from assets.pipes import Heard
from assets.resources import Installation

pods.POLL_SECONDS = 0.05

@dg.asset(pool="gpu")
def trained(context: dg.AssetExecutionContext, installation: Installation) -> None:
    pods.train(context, Heard(context), {}, {})

defs = dg.Definitions([trained], resources={"installation": Installation()}, executor=dg.in_process_executor)
"""


@pytest.fixture
def api(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Cluster]:
    monkeypatch.setenv("WORLDLINE_HOME", str(tmp_path / "home"))
    monkeypatch.setenv("DAGSTER_HOME", "set by open_instance")
    monkeypatch.setenv("KUBECONFIG", str(tmp_path / "kubeconfig"))
    monkeypatch.setenv(PIPES, str(FILE))
    monkeypatch.delenv("KUBERNETES_SERVICE_HOST", raising=False)
    monkeypatch.setattr(pods, "POLL_SECONDS", 0.05)
    with cluster(tmp_path) as found:
        yield found


def test_a_pod_is_heard_and_deleted_when_it_has_ended(api: Cluster, capfd: pytest.CaptureFixture[str]) -> None:
    api.program = [sys.executable, "-c", TALKS]
    told = []

    @dg.asset(partitions_def=dg.StaticPartitionsDefinition(["one"]))
    def trained(context: dg.AssetExecutionContext) -> None:
        heard = Heard(context)
        try:
            pods.train(context, heard, {"job": "tokens"}, {"WORLDLINE_STORAGE": "gcs"})
        finally:
            told.append(heard.failure)

    with open_instance() as instance:
        tags = {"dagster/image": "worldline:1"}
        done = dg.materialize([trained], instance=instance, partition_key="one", tags=tags, raise_on_error=False)
        [seen] = instance.fetch_observations(dg.AssetKey("trained"), limit=5).records
    assert not done.success and told == [("tokens is missing", 2)]
    assert seen.asset_observation is not None and seen.asset_observation.metadata["loss"].value == 0.5
    assert not api.pods
    [asked] = api.asked
    assert kubernetes_validate.validate(asked | {"apiVersion": "v1", "kind": "Pod"}, "1.37", strict=True) == "1.37"
    assert asked["metadata"]["labels"]["dagster/run-id"] == done.run_id
    [container] = asked["spec"]["containers"]
    assert container["image"] == "worldline:1" and container["command"][-1] == "assets.pipes_child"
    assert {"name": "WORLDLINE_STORAGE", "value": "gcs"} in container["env"]
    assert container["resources"] == yaml.safe_load(FILE.read_text())["spec"]["containers"][0]["resources"]


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_training_runs_in_a_pod_to_its_end(ours: TinyRun, api: Cluster, monkeypatch: pytest.MonkeyPatch) -> None:  # noqa: F811
    """The whole graph's step, as `worldline materialize` asks for it; the pod is the real child."""
    monkeypatch.setenv("WORLDLINE_HOME", str(ours.home))
    monkeypatch.setenv("DAGSTER_CURRENT_IMAGE", "worldline:1")
    key = longer(ours, 20)
    code, out, err = finish(start_training(key), 600)
    assert code == 0 and out.endswith("1 made, 0 already there.\n"), err
    assert len(api.asked) == 1 and not api.pods
    with open_instance() as instance:
        assert instance.fetch_observations(dg.AssetKey("world_action_model"), limit=5).records


@pytest.mark.parametrize("number", [signal.SIGTERM, pytest.param(signal.SIGINT, marks=pytest.mark.slow)])
def test_a_pod_does_not_outlive_the_cancellation_of_its_run(
    api: Cluster, number: signal.Signals, tmp_path: Path
) -> None:
    api.program = [sys.executable, "-c", "import time; print('begun', flush=True); time.sleep(600)"]
    worker = start(RUN, tmp_path)
    try:
        wait_for(lambda: any(pod.log.read_text() for pod in list(api.pods.values())), 60)
        [pod] = api.pods.values()
        with open_instance() as instance:
            [run] = instance.get_runs()
            instance.report_run_canceling(run)  # as the launcher does, before it deletes the worker's job
            worker.send_signal(number)
            finish(worker)
            assert not api.pods and pod.code is not None
            assert instance.get_run_by_id(run.run_id).status == dg.DagsterRunStatus.CANCELED  # type: ignore[union-attr]
    finally:
        worker.kill()


@pytest.mark.slow
@pytest.mark.parametrize("killed", [False, True], ids=["told", "killed"])
def test_a_run_that_is_cancelled_leaves_no_job_no_pod_and_no_place(api: Cluster, killed: bool, tmp_path: Path) -> None:
    """The launcher starts the worker's job, that the training's pod; the worker is told to stop, or killed first."""
    api.program = [sys.executable, "-c", "import time; print('begun', flush=True); time.sleep(600)"]
    (tmp_path / "code.py").write_text(CODE)
    settings = yaml.safe_load((FILE.parent / "dagster.yaml").read_text())
    settings["run_launcher"]["config"] |= {
        "load_incluster_config": False,
        "kubeconfig_file": str(tmp_path / "kubeconfig"),
        "job_namespace": "worldline",
        "dagster_home": str(tmp_path / "home" / "dagster"),
        "env_vars": [],
    }
    del settings["storage"]
    (tmp_path / "home" / "dagster").mkdir(parents=True)
    (tmp_path / "home" / "dagster" / "dagster.yaml").write_text(yaml.safe_dump(settings))
    with open_instance() as instance:
        repository = RepositoryPythonOrigin(sys.executable, FileCodePointer(str(tmp_path / "code.py"), "defs"), "w:1")
        run = dg.DagsterRun(
            job_name="__ASSET_JOB",
            asset_selection=frozenset({dg.AssetKey("trained")}),
            job_code_origin=JobPythonOrigin("__ASSET_JOB", repository),
            remote_job_origin=ORIGIN,
            status=dg.DagsterRunStatus.STARTING,
        )
        instance.add_run(run)
        instance.run_launcher.launch_run(LaunchRunContext(run, None))
        [worker] = api.pods.values()
        wait_for(lambda: bool(beside(worker, api)) or worker.code is not None, 120)
        assert worker.code is None, worker.log.read_text()
        [training] = beside(worker, api)
        assert pods.end_leftovers(instance, grace=-1) == 0 and close_orphans(instance, grace=0) == 0
        if killed:
            assert worker.process is not None
            worker.process.kill()
            worker.process.wait()
            assert instance.run_launcher.check_run_worker_health(reload(instance, run)).status.value == "FAILED"
        assert instance.run_launcher.terminate(run.run_id)
        assert not api.jobs and worker.code is not None
        if killed:  # what Dagster's daemon does after cancel_timeout_seconds
            assert reload(instance, run).status == dg.DagsterRunStatus.CANCELING and training.code is None
            instance.report_run_canceled(run)
            assert pods.end_leftovers(instance, grace=-1) == 1
        assert reload(instance, run).status == dg.DagsterRunStatus.CANCELED
        assert training.code is not None and not api.pods
        assert not instance.get_runs(dg.RunsFilter(statuses=IN_PROGRESS_RUN_STATUSES)), "each holds a place in its pool"


def beside(worker: Pod, api: Cluster) -> list[Pod]:
    """The pods of trainings that have begun."""
    return [pod for pod in list(api.pods.values()) if pod is not worker and pod.log.read_text()]


def reload(instance: dg.DagsterInstance, run: dg.DagsterRun) -> dg.DagsterRun:
    found = instance.get_run_by_id(run.run_id)
    assert found is not None
    return found


def test_pods_whose_run_is_over_are_ended_and_no_others(api: Cluster, tmp_path: Path) -> None:
    """What is left where the worker was killed, so that nobody could delete its pod."""

    @dg.asset
    def nothing() -> None: ...

    job = dg.Definitions(assets=[nothing]).resolve_implicit_global_asset_job_def()
    statuses = (dg.DagsterRunStatus.CANCELED, dg.DagsterRunStatus.FAILURE, dg.DagsterRunStatus.STARTED)
    with open_instance() as instance:
        runs = [instance.create_run_for_job(job, status=status).run_id for status in statuses]
        for run in [*runs, "another-history"]:
            api.create(body(run), runs=False)
        assert pods.end_leftovers(instance) == 0, "a run that has just ended is still ending its pod"
        assert pods.end_leftovers(instance, grace=-1) == 2
        assert set(api.pods) == {f"pod-{runs[2]}", "pod-another-history"}


def body(run: str) -> dict[str, Any]:
    container = {"name": "training", "image": "worldline:1"}
    return {"metadata": {"name": f"pod-{run}", "labels": {pods.RUN: run}}, "spec": {"containers": [container]}}


def test_the_sensor_of_dead_runs_ends_pods_too(api: Cluster, monkeypatch: pytest.MonkeyPatch) -> None:
    from assets.automation import dead_runs

    def told() -> str:
        with open_instance() as instance:
            return str(dead_runs(dg.build_sensor_context(instance)).skip_message)

    assert told() == "0 runs were dead, 0 pods outlived their run"
    monkeypatch.setenv("KUBECONFIG", "/nowhere")
    assert "Kubernetes refuses or does not answer" in told()
    monkeypatch.delenv(PIPES)
    assert told() == "0 runs were dead"


def test_a_run_that_a_command_executes_is_not_missed_as_a_job(api: Cluster) -> None:
    @dg.asset
    def nothing() -> None: ...

    job = dg.Definitions(assets=[nothing]).resolve_implicit_global_asset_job_def()
    with open_instance() as instance:
        run = instance.create_run_for_job(job, status=dg.DagsterRunStatus.STARTED)
    launcher = pods.PodLauncher.__new__(pods.PodLauncher)  # no cluster's account here
    assert launcher.check_run_worker_health(run).status.value == "RUNNING"


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("kind: Job", "describes no pod"),
        ("- a\n", "describes no pod"),
        ("kind: Pod\nspec: {containers: []}", "describes no pod"),
        ("kind: [", "describes no pod"),
        (None, "cannot be read (No such file or directory)"),
    ],
)
def test_a_file_that_describes_no_pod_is_one_line(
    text: str | None, why: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(PIPES, str(tmp_path / "pod.yaml"))
    if text is not None:
        (tmp_path / "pod.yaml").write_text(text)
    with pytest.raises(UsageError) as told:
        _ranks()
    assert why in str(told.value) and "\n" not in str(told.value)


def test_as_many_ranks_train_as_the_pod_has_gpus(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    wanted = yaml.safe_load(FILE.read_text())
    limits = wanted["spec"]["containers"][0]["resources"]["limits"]
    monkeypatch.setenv(PIPES, str(tmp_path / "pod.json"))
    monkeypatch.delenv(RANKS, raising=False)
    for limits[pods.GPU], given, ranks in ((1, "", 1), (8, "", 8), ("4", "", 4), (8, "2", 2)):
        monkeypatch.setenv(RANKS, given)
        (tmp_path / "pod.json").write_text(json.dumps(wanted))
        assert _ranks() == ranks


def test_a_pod_without_an_image_is_one_line(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(PIPES, str(FILE))
    monkeypatch.delenv("DAGSTER_CURRENT_IMAGE", raising=False)
    with pytest.raises(UsageError, match="names no image"):
        pods._image({}, {})
    monkeypatch.setenv("DAGSTER_CURRENT_IMAGE", "worldline:3")
    assert pods._image({}, {}) == "worldline:3"
    assert pods._image({}, {"dagster/image": "worldline:2"}) == "worldline:2"
    assert pods._image({"image": "worldline:1"}, {"dagster/image": "worldline:2"}) == "worldline:1"


def test_a_cluster_that_does_not_answer_is_one_line(api: Cluster, tmp_path: Path) -> None:
    (tmp_path / "kubeconfig").write_text("{}")
    with open_instance() as instance, pytest.raises(WorldlineError) as told:
        pods.end_leftovers(instance)
    assert "refuses or does not answer" in str(told.value) and "\n" not in str(told.value)
