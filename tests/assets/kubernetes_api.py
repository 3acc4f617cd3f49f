"""A stand-in for a cluster: the part of Kubernetes' API that jobs and pods need, over HTTP; pods are processes here."""

import json
import os
import subprocess
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit

import yaml


@dataclass
class Pod:
    """What was asked for, and the process that stands for it; None where it never starts."""

    body: dict[str, Any]
    process: "subprocess.Popen[bytes] | None"
    log: Path

    @property
    def code(self) -> int | None:
        """The exit code, once it has ended."""
        return self.process.poll() if self.process else None

    def seen(self) -> dict[str, Any]:
        """As the API shows it."""
        state: dict[str, Any] = {"running": {}}
        if self.code is not None:
            state = {"terminated": {"exitCode": self.code, "reason": "Completed" if self.code == 0 else "Error"}}
        [container] = self.body["spec"]["containers"]
        status = {
            "name": container["name"], "image": container["image"], "imageID": "", "ready": True, "restartCount": 0,
            "state": state,
        }  # fmt: skip
        phase = "Running" if self.code is None else "Succeeded" if self.code == 0 else "Failed"
        return self.body | {"status": {"phase": phase, "containerStatuses": [status]}}


@dataclass
class Cluster:
    """Its jobs and pods by name, all pods ever asked for, and `program`, which runs instead of a pod's `command`."""

    folder: Path
    program: Sequence[str] = ()
    pods: dict[str, Pod] = field(default_factory=dict)
    jobs: dict[str, dict[str, Any]] = field(default_factory=dict)
    asked: list[dict[str, Any]] = field(default_factory=list)

    def create(self, body: dict[str, Any], runs: bool = True) -> dict[str, Any]:
        """Start a pod."""
        self.asked.append(body)
        name, [container] = body["metadata"]["name"], body["spec"]["containers"]
        environment = os.environ | {each["name"]: each.get("value", "") for each in container.get("env", [])}
        log, process = self.folder / f"{name}.log", None
        with log.open("wb") as file:
            if runs:
                command = container.get("args") or list(self.program) or container["command"]
                process = subprocess.Popen(command, env=environment, stdout=file, stderr=subprocess.STDOUT)
        self.pods[name] = Pod(body, process, log)
        return self.pods[name].seen()

    def create_job(self, body: dict[str, Any]) -> dict[str, Any]:
        """Start the one pod of a job."""
        name, pod = body["metadata"]["name"], body["spec"]["template"]
        self.jobs[name] = body
        labels = pod["metadata"].get("labels", {}) | {"job-name": name}
        self.create(pod | {"metadata": pod["metadata"] | {"labels": labels, "name": f"{name}-pod"}})
        return body

    def job(self, name: str) -> dict[str, Any]:
        """As the API shows it."""
        code = self.pods[f"{name}-pod"].code
        return self.jobs[name] | {"status": {"active" if code is None else "failed" if code else "succeeded": 1}}

    def delete(self, name: str) -> None:
        """Tell it to stop, as Kubernetes does, and forget it."""
        pod = self.pods.pop(name)
        if pod.process:
            pod.process.terminate()
            pod.process.wait(60)

    def follow(self, name: str) -> Iterator[bytes]:
        """The lines of its log with their times, until it has ended."""
        pod = self.pods[name]
        with pod.log.open("rb") as file:
            while True:
                over = pod.code is not None or name not in self.pods
                for line in file:
                    yield f"{datetime.now(UTC):%Y-%m-%dT%H:%M:%S.%fZ} ".encode() + line
                if over:
                    return
                time.sleep(0.02)


@contextmanager
def cluster(folder: Path, program: Sequence[str] = ()) -> Iterator[Cluster]:
    """Serve one, and write `folder`/kubeconfig for its clients."""
    found = Cluster(folder, program)
    server = ThreadingHTTPServer(("127.0.0.1", 0), type("Bound", (Handler,), {"cluster": found}))
    server.daemon_threads = True
    settings = {
        "apiVersion": "v1", "kind": "Config", "current-context": "here",
        "contexts": [{"name": "here", "context": {"cluster": "here", "user": "me", "namespace": "worldline"}}],
        "clusters": [{"name": "here", "cluster": {"server": f"http://127.0.0.1:{server.server_address[1]}"}}],
        "users": [{"name": "me", "user": {}}],
    }  # fmt: skip
    (folder / "kubeconfig").write_text(yaml.safe_dump(settings))
    threading.Thread(target=server.serve_forever, args=(0.05,), daemon=True).start()
    try:
        yield found
    finally:
        server.shutdown()
        server.server_close()
        for name in list(found.pods):
            found.delete(name)


class Handler(BaseHTTPRequestHandler):
    """The requests of clients: pods made, listed, read and deleted; events, of which there are none."""

    cluster: Cluster

    def do_POST(self) -> None:
        body = json.loads(self.rfile.read(int(self.headers["content-length"])))
        create = self.cluster.create_job if self.path.endswith("/jobs") else self.cluster.create
        self._say(create(body), 201)

    def do_GET(self) -> None:
        url = urlsplit(self.path)
        name = url.path.rpartition("/pods/")[2].removesuffix("/log")
        if url.path.endswith("/log"):
            self.send_response(200)
            self.end_headers()
            for line in self.cluster.follow(name):
                self.wfile.write(line)
                self.wfile.flush()
            return
        if "/jobs/" in url.path:
            self._say(self.cluster.job(url.path.rpartition("/jobs/")[2].removesuffix("/status")), 200)
            return
        query = {key: values[0] for key, values in parse_qs(url.query).items()}
        pods = [] if url.path.endswith("/events") else [pod.seen() for pod in self.cluster.pods.values()]
        if wanted := query.get("fieldSelector", "").removeprefix("metadata.name="):
            pods = [pod for pod in pods if pod["metadata"]["name"] == wanted]
        if label := query.get("labelSelector"):
            key, _, value = label.partition("=")
            labels = [pod["metadata"].get("labels", {}) for pod in pods]
            pods = [pod for pod, has in zip(pods, labels, strict=True) if key in has and value in ("", has[key])]
        self._say({"kind": "List", "apiVersion": "v1", "metadata": {}, "items": pods}, 200)

    def do_DELETE(self) -> None:
        name = urlsplit(self.path).path.rpartition("/")[2]
        if "/jobs/" in self.path:
            self._say(self.cluster.jobs.pop(name), 200)
            return
        seen = self.cluster.pods[name].seen()
        self.cluster.delete(name)
        self._say(seen, 200)

    def _say(self, body: dict[str, Any], code: int) -> None:
        self.send_response(code)
        self.send_header("content-type", "application/json")
        self.end_headers()
        self.wfile.write(json.dumps(body).encode())

    def log_message(self, format: str, *arguments: Any) -> None:
        """Nothing."""
