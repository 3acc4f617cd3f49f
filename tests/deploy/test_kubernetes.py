"""The manifests without a cluster: against Kubernetes' own schemas, against each other, and against what the code does.

The settings are loaded as Dagster loads them, and the job that its launcher would start for a run is held to the same
rules as what stands in the folder.
"""

import re
import shutil
import subprocess
from pathlib import Path
from typing import Any

import dagster as dg
import kubernetes
import kubernetes_validate
import pytest
import yaml
from dagster._core.code_pointer import ModuleCodePointer
from dagster._core.instance.ref import InstanceRef
from dagster._core.launcher import LaunchRunContext
from dagster._core.origin import JobPythonOrigin, RepositoryPythonOrigin
from dagster._core.remote_origin import GrpcServerCodeLocationOrigin, RemoteRepositoryOrigin

from assets.instance import template
from assets.pods import GPU, PodLauncher
from tests.fakes import ROOT

FOLDER = ROOT / "deploy" / "kubernetes"
VERSIONS = ["1.29", "1.37"]  # the oldest that starts `code` before its neighbours, the newest known here
CLAIM, POSTGRES, BUCKET = "worldline-home", "worldline-postgres", "worldline-bucket"
KUSTOMIZATION = yaml.safe_load((FOLDER / "kustomization.yaml").read_text())
SETTINGS = yaml.safe_load((FOLDER / "dagster.yaml").read_text())
GPU_POD = yaml.safe_load((FOLDER / "gpu-pod.yaml").read_text())
ENVIRONMENT = dict(line.split("=", 1) for line in (FOLDER / "worldline.env").read_text().splitlines())
DOCUMENTS = [found for name in KUSTOMIZATION["resources"] for found in yaml.safe_load_all((FOLDER / name).read_text())]
[DEPLOYMENT] = [found for found in DOCUMENTS if found["kind"] == "Deployment"]
DAGSTER = DEPLOYMENT["spec"]["template"]["spec"]
CONTAINERS = {found["name"]: found for found in DAGSTER["initContainers"] + DAGSTER["containers"]}
IMAGE = CONTAINERS["code"]["image"]
SERVER = GrpcServerCodeLocationOrigin(host="127.0.0.1", port=4000, location_name="worldline")


def names(kind: str) -> set[str]:
    return {found["metadata"]["name"] for found in DOCUMENTS if found["kind"] == kind}


@pytest.mark.parametrize("version", VERSIONS)
def test_every_manifest_is_what_kubernetes_understands(version: str) -> None:
    listed = {*KUSTOMIZATION["resources"], "kustomization.yaml"}
    for each in KUSTOMIZATION["configMapGenerator"]:
        listed |= {*each.get("files", []), *each.get("envs", [])}
    assert {path.name for path in FOLDER.iterdir()} == listed
    with_image = GPU_POD | {"metadata": GPU_POD["metadata"] | {"name": "training"}}
    for found in [*DOCUMENTS, with_image]:
        kubernetes_validate.validate(found, version, strict=True)


@pytest.mark.skipif(not shutil.which("kubectl"), reason="no kubectl here")
def test_kubectl_builds_the_folder() -> None:
    done = subprocess.run(["kubectl", "kustomize", str(FOLDER)], capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr
    built = {(found["kind"], found["metadata"]["name"]): found for found in yaml.safe_load_all(done.stdout)}
    assert len(built) == len(DOCUMENTS) + len(KUSTOMIZATION["configMapGenerator"])
    assert built["Deployment", "worldline"]["spec"] == DEPLOYMENT["spec"]
    assert built["ConfigMap", "worldline-env"]["data"] == ENVIRONMENT
    assert yaml.safe_load(built["ConfigMap", "worldline-settings"]["data"]["dagster.yaml"]) == SETTINGS
    assert {found["metadata"].get("namespace", "worldline") for found in built.values()} == {"worldline"}


def held(spec: dict[str, Any]) -> None:
    """What every pod must be: nobody's root, confined, with room asked for, and without a secret in plain text."""
    user = spec["securityContext"]
    assert user["runAsNonRoot"] is True and user["runAsUser"] > 0 and user["seccompProfile"]["type"] == "RuntimeDefault"
    assert not {"hostNetwork", "hostPID", "hostIPC"} & set(spec)
    for volume in spec["volumes"]:
        assert set(volume) - {"name"} <= {"persistentVolumeClaim", "emptyDir", "configMap"}, "hostPath, for one"
        assert volume.get("persistentVolumeClaim", {"claimName": CLAIM})["claimName"] == CLAIM
    for container in [*spec.get("initContainers", []), *spec["containers"]]:
        confined = container["securityContext"]
        assert confined["allowPrivilegeEscalation"] is False and confined["readOnlyRootFilesystem"] is True
        assert confined["capabilities"] == {"drop": ["ALL"]} and not confined.get("privileged")
        assert {"cpu", "memory"} <= set(container["resources"]["requests"])
        assert "memory" in container["resources"]["limits"]
        assert "ports" not in container
        if image := container.get("image"):
            assert re.fullmatch(r"[^:@]+:(?!latest$)[\w.-]+", image), image
        for entry in container.get("env", []):
            assert "valueFrom" in entry or not re.search("PASSWORD|SECRET|TOKEN|POSTGRES|_KEY", entry["name"]), entry
        sources = [each.get("configMapRef") or each["secretRef"] for each in container["envFrom"]]
        assert {each["name"] for each in sources} <= {"worldline-env", POSTGRES, BUCKET}
        mounts = {each["mountPath"]: each["name"] for each in container["volumeMounts"]}
        assert mounts[ENVIRONMENT["WORLDLINE_HOME"]] == "home" and mounts["/tmp"] == "tmp"


def test_every_pod_is_confined_and_nothing_is_exposed() -> None:
    held(DAGSTER)
    held(GPU_POD["spec"])
    assert GPU_POD["spec"]["automountServiceAccountToken"] is False
    assert not names("Service") | names("Ingress")
    [policy] = [found for found in DOCUMENTS if found["kind"] == "NetworkPolicy"]
    assert policy["spec"] == {"podSelector": {}, "policyTypes": ["Ingress"]}, "all pods, and no rule that lets in"
    for name in ("code", "web"):
        command = CONTAINERS[name]["command"]
        assert command[command.index("-h") + 1] == "127.0.0.1"
    assert POSTGRES not in str(GPU_POD), "training does not write history"
    assert names("Namespace") == {KUSTOMIZATION["namespace"]}


def test_what_must_agree_agrees() -> None:
    home = ENVIRONMENT["WORLDLINE_HOME"]
    assert ENVIRONMENT["DAGSTER_HOME"] == f"{home}/dagster", "where the code looks for it"
    assert ENVIRONMENT["WORLDLINE_PIPES"] == f"{home}/dagster/gpu-pod.yaml"
    generated = {each["name"] for each in KUSTOMIZATION["configMapGenerator"]}
    assert generated == {"worldline-env", SETTINGS["run_launcher"]["config"]["instance_config_map"]}
    assert KUSTOMIZATION["generatorOptions"]["disableNameSuffixHash"] is True
    assert names("PersistentVolumeClaim") == {CLAIM}
    account = SETTINGS["run_launcher"]["config"]["service_account_name"]
    assert {account} == names("ServiceAccount") == {DAGSTER["serviceAccountName"]}
    assert {found["image"] for found in CONTAINERS.values()} == {IMAGE}
    assert {"name": "DAGSTER_CURRENT_IMAGE", "value": IMAGE} in CONTAINERS["code"]["env"]
    [location] = yaml.safe_load((FOLDER / "workspace.yaml").read_text())["load_from"]
    code = CONTAINERS["code"]["command"]
    assert location["grpc_server"]["port"] == int(code[code.index("-p") + 1]) == SERVER.port
    assert code[code.index("-m") + 1] == "assets.definitions"
    assert location["grpc_server"]["location_name"] == "worldline"
    for name in ("web", "daemon"):
        assert CONTAINERS[name]["command"][-1] == f"{ENVIRONMENT['DAGSTER_HOME']}/workspace.yaml"
    assert DEPLOYMENT["spec"]["replicas"] == 1 and DEPLOYMENT["spec"]["strategy"] == {"type": "Recreate"}


def test_settings_are_those_of_every_home_but_where_a_cluster_differs() -> None:
    ours = yaml.safe_load(template())
    assert set(SETTINGS) - set(ours) == {"storage", "run_launcher"}
    same = [name for name in ours if name not in ("concurrency", "run_monitoring")]
    assert {name: SETTINGS[name] for name in same} == {name: ours[name] for name in same}
    assert SETTINGS["concurrency"]["pools"] == ours["concurrency"]["pools"]
    monitoring = SETTINGS["run_monitoring"]
    assert ours["run_monitoring"].items() <= monitoring.items()
    grace = SETTINGS["run_launcher"]["config"]["run_k8s_config"]["pod_spec_config"]["terminationGracePeriodSeconds"]
    assert 0 < grace < monitoring["cancel_timeout_seconds"], "a worker is given up after Kubernetes has killed it"
    block = "".join(line.removeprefix("# ") for line in template().splitlines(True) if line.startswith("# ")).partition(
        "storage:\n"
    )
    assert yaml.safe_load(block[1] + block[2]) == {"storage": SETTINGS["storage"]}


@pytest.fixture
def instance(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> dg.DagsterInstance:
    """Dagster's instance as in the cluster, but for PostgreSQL; jobs that it starts are kept in `launched`."""
    monkeypatch.setattr(kubernetes.config, "load_incluster_config", lambda: None)
    for name, value in ENVIRONMENT.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setenv("WORLDLINE_PIPES", str(FOLDER / "gpu-pod.yaml"))
    monkeypatch.setenv("WORLDLINE_NAMESPACE", "worldline")
    monkeypatch.setenv("WORLDLINE_POSTGRES", "postgresql+psycopg2://u:verysecret@db/dagster")
    (tmp_path / "dagster.yaml").write_text((FOLDER / "dagster.yaml").read_text())
    reference = InstanceRef.from_dir(str(tmp_path))
    assert reference.storage_data is not None and reference.storage_data.class_name == "DagsterPostgresStorage"
    without = {name: value for name, value in SETTINGS.items() if name != "storage"}
    (tmp_path / "dagster.yaml").write_text(yaml.safe_dump(without))
    return dg.DagsterInstance.from_config(str(tmp_path))


def launched(instance: dg.DagsterInstance, asset: str, tags: dict[str, str] | None = None) -> dict[str, Any]:
    """The job that the launcher asks Kubernetes for, as it goes over the wire."""
    launcher = instance.run_launcher
    assert isinstance(launcher, PodLauncher)
    repository = RepositoryPythonOrigin("python", ModuleCodePointer("assets.definitions", "defs"), IMAGE)
    run = dg.DagsterRun(
        job_name="__ASSET_JOB",
        asset_selection=frozenset({dg.AssetKey(asset)}),
        job_code_origin=JobPythonOrigin("__ASSET_JOB", repository),
        remote_job_origin=RemoteRepositoryOrigin(SERVER, "__repository__").get_job_origin("__ASSET_JOB"),
        tags=tags or {},
        status=dg.DagsterRunStatus.STARTING,
    )
    instance.add_run(run)
    jobs: list[Any] = []
    launcher._api_client.create_namespaced_job_with_retries = lambda body, namespace: jobs.append((body, namespace))
    launcher.launch_run(LaunchRunContext(run, None))
    [(job, namespace)] = jobs
    assert namespace == "worldline"
    return dict(kubernetes.client.ApiClient().sanitize_for_serialization(job))


@pytest.mark.parametrize("version", VERSIONS)
def test_the_job_of_a_run_is_held_to_the_same(instance: dg.DagsterInstance, version: str) -> None:
    job = launched(instance, "world_action_model")
    kubernetes_validate.validate(job, version, strict=True)
    spec = job["spec"]["template"]["spec"]
    held(spec)
    [container] = spec["containers"]
    assert container["image"] == IMAGE and container["args"][1:5] == ["-m", "dagster", "api", "execute_run"]
    assert spec["serviceAccountName"] == "worldline" and spec["restartPolicy"] == "Never"
    assert job["spec"]["backoffLimit"] == 0, "Dagster starts a second try, and no one else"
    assert "verysecret" not in str(job)
    environment = {each["name"]: each.get("value") for each in container["env"]}
    assert environment["DAGSTER_HOME"] == ENVIRONMENT["DAGSTER_HOME"]
    assert environment["WORLDLINE_NAMESPACE"] == "worldline", "the worker loads the same settings"
    assert "nodeSelector" not in spec and GPU not in container["resources"]["limits"], "its training asks for the GPU"


def test_a_run_that_encodes_goes_where_gpus_are(instance: dg.DagsterInstance) -> None:
    job = launched(instance, "tokens")
    kubernetes_validate.validate(job, VERSIONS[-1], strict=True)
    spec = job["spec"]["template"]["spec"]
    held(spec)
    assert spec["nodeSelector"] == GPU_POD["spec"]["nodeSelector"]
    assert spec["tolerations"] == GPU_POD["spec"]["tolerations"]
    assert spec["containers"][0]["resources"]["limits"][GPU] == "1"


def test_a_run_may_ask_for_room_and_for_nothing_else(instance: dg.DagsterInstance) -> None:
    room = '{"container_config": {"resources": {"limits": {"memory": "64Gi"}}}}'
    job = launched(instance, "trajectories", {"dagster-k8s/config": room})
    assert job["spec"]["template"]["spec"]["containers"][0]["resources"]["limits"] == {"memory": "64Gi"}
    root = '{"container_config": {"security_context": {"privileged": true}}}'
    with pytest.raises(Exception, match="security_context"):
        launched(instance, "trajectories", {"dagster-k8s/config": root})


def test_the_image_is_pinned_holds_all_code_and_belongs_to_nobody() -> None:
    recipe = (ROOT / "deploy" / "Dockerfile").read_text()
    assert all(re.fullmatch(r"\S+:\d+\.\d+\.\d+[\w.-]*", base) for base in re.findall(r"^FROM (\S+)", recipe, re.M))
    assert not re.search(r"https?://", recipe.replace("index-url", "")), "whose index is asked is the builder's to say"
    copied = [name for line in re.findall(r"^COPY (?!--)(.+) \S+$", recipe, re.M) for name in line.split()]
    assert all((ROOT / name).exists() for name in copied)
    project = (ROOT / "pyproject.toml").read_text()
    packages = re.findall(r"include = \[(.+)\]", project)[0].replace('"', "").replace("*", "").split(", ")
    assert set(packages) | {"constraints.txt", "pyproject.toml"} <= set(copied)
    [extras] = re.findall(r"'\.\[(.+)\]'", recipe)
    assert {"postgres", "kubernetes"} <= set(extras.split(","))
    assert all(f"\n{extra} = [" in project for extra in extras.split(","))
    assert recipe.count("--constraint constraints.txt") == recipe.count("pip install")
    assert "ENTRYPOINT" not in recipe, "a run's job gives the whole command as its arguments"
    user = re.findall(r"^USER (\d+):", recipe, re.M)[-1]
    assert int(user) == DAGSTER["securityContext"]["runAsUser"]
