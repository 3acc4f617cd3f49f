"""Kubernetes: training in a pod of its own, runs whose jobs a launcher starts, and the end of pods that nobody awaits.

WORLDLINE_PIPES names a file with the pod in which training runs, as Kubernetes describes one; its GPUs, node, volumes
and home are said there. Dagster Pipes starts it with the same child as elsewhere, and hears it through its log.
Imported only where it is wanted.
"""

import os
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import dagster as dg
import kubernetes
import yaml
from dagster_k8s import K8sRunLauncher, PipesK8sClient
from dagster_k8s.container_context import K8sContainerContext
from dagster_k8s.job import UserDefinedDagsterK8sConfig
from dagster_k8s.pipes import PipesK8sPodLogsMessageReader
from dagster_k8s.utils import detect_current_namespace
from kubernetes.client.exceptions import ApiException
from kubernetes.config.config_exception import ConfigException
from urllib3.exceptions import HTTPError

from assets.orphans import OfLaunched
from assets.pipes import CHILD, PIPES, Heard
from pipelines import process
from pipelines.errors import UsageError, WorldlineError
from pipelines.graph import table
from pipelines.redact import one_line

RUN = "dagster/run-id"  # label of a pod, as the launcher's own jobs have it
GPU = "nvidia.com/gpu"
POLL_SECONDS = 5.0
GRACE = 120.0  # seconds that a pod gets to end once its run is over
INHERITED = ("WORLDLINE_REMAKE", "WORLDLINE_CPU_SHORTCUTS", "OMP_NUM_THREADS")


def pod() -> dict[str, Any]:
    """What WORLDLINE_PIPES describes. Raises UsageError for a file that cannot be read, and for one without a pod."""
    path = Path(os.environ[PIPES])
    try:
        found = yaml.safe_load(path.read_text(encoding="utf-8"))
        if found["kind"] != "Pod" or not isinstance(found["spec"]["containers"][0], dict):
            raise ValueError(f"kind {found['kind']}")
    except OSError as error:
        raise UsageError(f"{PIPES}={path} cannot be read ({error.strerror}): name the file of a pod") from error
    except (yaml.YAMLError, ValueError, TypeError, KeyError, IndexError) as error:
        raise UsageError(
            f"{PIPES}={path} describes no pod ({one_line(error)[:120]}): it needs kind: Pod and one container, as "
            "deploy/kubernetes/gpu-pod.yaml has them"
        ) from error
    return dict(found)


def gpus() -> int:
    """The GPUs that the pod asks for; 1 where it asks for none, and trains on a CPU."""
    limits = pod()["spec"]["containers"][0].get("resources", {}).get("limits", {})
    return int(limits.get(GPU, 1))


def train(
    context: dg.AssetExecutionContext, heard: Heard, extras: dict[str, Any], environment: Mapping[str, str]
) -> None:
    """Run the child in its pod, until that ends. However this ends, the pod is deleted.

    Raises UsageError where no image is named, and WorldlineError where Kubernetes does not answer.
    """
    wanted = pod()
    container = wanted["spec"]["containers"][0]
    container["image"] = _image(container, context.run.tags)
    container["command"] = process.command(CHILD, parent=False)
    labels = wanted.get("metadata", {}).get("labels", {}) | {RUN: context.run_id}
    inherited = {name: os.environ[name] for name in INHERITED if name in os.environ}
    client = PipesK8sClient(
        env=inherited | dict(environment),
        message_reader=FromLog(heard),
        kubeconfig_file=_kubeconfig(),
        poll_interval=POLL_SECONDS,
    )
    with _answering():
        client.run(
            context=context,
            extras=extras,
            namespace=_namespace(wanted),
            base_pod_meta={"labels": labels},
            base_pod_spec=wanted["spec"],
            pod_wait_timeout=0,  # a training may take weeks; run monitoring has the last word
        )


def end_leftovers(instance: dg.DagsterInstance, grace: float = GRACE) -> int:
    """Delete the pods that go on though their run is over since `grace` seconds; returns how many there were.

    Whoever had to delete them was killed himself, or Kubernetes did not answer him. Pods of runs that this history does
    not know are left alone. Raises WorldlineError where Kubernetes does not answer.
    """
    ended = 0
    with _answering():
        core, namespace = _core(), _namespace(pod())
        for each in core.list_namespaced_pod(namespace, label_selector=RUN).items:
            if each.status.phase in ("Succeeded", "Failed") or each.metadata.deletion_timestamp:
                continue
            record = instance.get_run_record_by_id(each.metadata.labels[RUN])
            if record is None or not record.dagster_run.is_finished:
                continue
            if time.time() - record.update_timestamp.timestamp() > grace:
                core.delete_namespaced_pod(each.metadata.name, namespace)
                ended += 1
    return ended


class FromLog(PipesK8sPodLogsMessageReader):
    """Dagster's own reader of a pod's log, heard by us first."""

    expected_writer_count = 1  # Dagster warns where it has to ask its own

    def __init__(self, heard: Heard) -> None:
        self._heard = heard

    @contextmanager
    def read_messages(self, handler: Any) -> Iterator[Any]:
        """As Dagster's."""
        with super().read_messages(self._heard.before(handler)) as params:
            yield params


class PodLauncher(OfLaunched, K8sRunLauncher):
    """Dagster's launcher, but for two kinds of runs: those that compute on a GPU, and those that it never started.

    What encodes or plays does so in the run's own job, which goes where training goes, with one GPU.
    """

    def get_container_context_for_run(self, run: dg.DagsterRun) -> K8sContainerContext:
        """Where the run's job goes, and what it takes there."""
        found = super().get_container_context_for_run(run)
        if not os.environ.get(PIPES) or not computes(run):
            return found
        spec = pod()["spec"]
        resources = dict(spec["containers"][0].get("resources", {}))
        if GPU in resources.get("limits", {}):
            resources["limits"] = resources["limits"] | {GPU: 1}
        place = {name: spec[name] for name in ("nodeSelector", "tolerations", "affinity") if name in spec}
        wanted = {"container_config": {"resources": resources}, "pod_spec_config": place}
        return found.merge(K8sContainerContext(run_k8s_config=UserDefinedDagsterK8sConfig.from_dict(wanted)))


def computes(run: dg.DagsterRun) -> bool:
    """Whether the run's own process wants a GPU: a training's is in its pod, data want none."""
    asked = {key.to_user_string() for key in run.asset_selection or ()}
    names = {row.name for row in table.STAGES if row.name in asked or (not asked and run.job_name in row.jobs)}
    return any(row.pool == table.GPU and not row.trains for row in table.STAGES if row.name in names)


def _image(container: Mapping[str, Any], tags: Mapping[str, str]) -> str:
    """The pod's own, else that of this run's worker: the launcher notes it on the run, a deployment says it."""
    found = container.get("image") or tags.get("dagster/image") or os.environ.get("DAGSTER_CURRENT_IMAGE")
    if not found:
        raise UsageError(
            f"{os.environ[PIPES]} names no image, and this is no pod that has one: add image: NAME:VERSION"
        )
    return str(found)


def _kubeconfig() -> str | None:
    """For a machine outside of the cluster; within, a pod's account is used."""
    return None if os.environ.get("KUBERNETES_SERVICE_HOST") else os.environ.get("KUBECONFIG")


def _namespace(wanted: Mapping[str, Any]) -> str:
    here = detect_current_namespace(_kubeconfig())
    return str(wanted.get("metadata", {}).get("namespace") or here or "default")


def _core() -> Any:
    if os.environ.get("KUBERNETES_SERVICE_HOST"):
        kubernetes.config.load_incluster_config()
    else:
        kubernetes.config.load_kube_config(config_file=_kubeconfig())
    return kubernetes.client.CoreV1Api()


@contextmanager
def _answering() -> Iterator[None]:
    try:
        yield
    except (ApiException, ConfigException, HTTPError) as error:
        why = f"{error.status} {error.reason}" if isinstance(error, ApiException) else str(error)
        raise WorldlineError(
            f"Kubernetes refuses or does not answer ({one_line(why)[:160]}): see that it runs, and that this account "
            "may make, read and delete pods; the same command goes on"
        ) from error
