"""Ranks of two hosts: two network namespaces with a cable between them, which see one store."""

import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from pipelines.graph.experiment import register
from pipelines.recipes.registry import recipe
from pipelines.training import state
from tests.fakes import ROOT, wait_for

pytestmark = pytest.mark.slow

NAMES = [f"wl{os.getpid()}-{number}" for number in (0, 1)]
CABLE = [f"wl{os.getpid() % 10_000_000}v{number}" for number in (0, 1)]  # at most 15 letters
ENDS = list(zip(NAMES, CABLE, strict=True))
FIRST = "10.77.0.1"
CHANGES = ["pretrain.loop.precision=float32", "pretrain.loop.save_seconds=0.1"]


@pytest.fixture
def hosts() -> Iterator[list[list[str]]]:
    """What to write before a command so that it runs on the first or the second host."""
    if os.getuid() or shutil.which("ip") is None:
        pytest.skip("network namespaces need root and iproute2")
    make = [
        *(f"netns add {name}" for name in NAMES),
        f"link add {CABLE[0]} netns {NAMES[0]} type veth peer name {CABLE[1]} netns {NAMES[1]}",
        *(f"-n {name} addr add 10.77.0.{n}/24 dev {end}" for n, (name, end) in enumerate(ENDS, 1)),
        *(f"-n {name} link set {end} up" for name, cable in ENDS for end in ("lo", cable)),
    ]
    try:
        for each in make:
            done = subprocess.run(["ip", *each.split()], capture_output=True, text=True)
            if done.returncode:
                pytest.skip(f"no network namespaces here: {done.stderr.strip()}")
        yield [["ip", "netns", "exec", name] for name in NAMES]
    finally:
        for name in NAMES:
            subprocess.run(["ip", "netns", "del", name], capture_output=True)


def home_with_segments(path: Path, steps: int) -> Path:
    changed = [f"pretrain.phases.tokenizer.steps={steps}", *CHANGES]
    register(path / "experiments", "far", recipe("mini", changed))
    for verb in ("collect", "fetch", "downsample", "segment"):
        command = [sys.executable, "-m", "pipelines.cli", verb, "--recipe", "mini"]
        done = subprocess.run(command, env=environment(path), capture_output=True, text=True)
        assert done.returncode == 0, done.stderr
    return path


def environment(home: Path, **more: str) -> dict[str, str]:
    ours = {"WORLDLINE_HOME": str(home), "WORLDLINE_STORAGE": "", "OMP_NUM_THREADS": "1", "PYTHONPATH": str(ROOT)}
    ours |= {"WORLDLINE_QUIET": ""}  # that it goes on is said
    return os.environ | ours | more


def on_both(hosts: list[list[str]], home: Path) -> list[subprocess.Popen[str]]:
    options = ["--nnodes", "2", "--nproc-per-node", "1", "--master-addr", FIRST, "--master-port", "29500"]
    return [
        subprocess.Popen(
            [*host, sys.executable, "-m", "torch.distributed.run", *options, "--node-rank", str(number),
             "-m", "pipelines.cli", "pretrain", "far"],
            env=environment(home, GLOO_SOCKET_IFNAME=CABLE[number]), text=True, start_new_session=True,
            stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
        )
        for number, host in enumerate(hosts)
    ]  # fmt: skip


def weights(home: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in home.glob("store/pretrained/*/*/*.safetensors")}


def test_two_hosts_train_as_two_ranks_of_one_do(hosts: list[list[str]], tmp_path: Path) -> None:
    here, far = tmp_path / "here", home_with_segments(tmp_path / "far", 4)
    shutil.copytree(far, here)
    told = [process.communicate(timeout=200)[0] for process in on_both(hosts, far)]
    assert weights(far), told
    alone = [sys.executable, "-m", "pipelines.cli", "pretrain", "far", "--ranks", "2"]
    assert subprocess.run(alone, env=environment(here), capture_output=True, timeout=200).returncode == 0
    assert weights(far) == weights(here)


def test_when_one_host_dies_the_other_ends_and_both_go_on_later(hosts: list[list[str]], tmp_path: Path) -> None:
    home = home_with_segments(tmp_path, 400)
    first, second = on_both(hosts, home)
    wait_for(lambda: any((home / "store").rglob(state.NAME)), 120)
    os.killpg(second.pid, signal.SIGKILL)
    assert first.wait(120) != 0
    second.communicate()
    left = subprocess.run(["ip", "netns", "pids", NAMES[0]], capture_output=True, text=True)
    assert left.stdout == ""
    again = on_both(hosts, home)
    told = [process.communicate(timeout=200)[0] for process in again]
    assert weights(home), told
    assert any("resum" in text.lower() or "goes on" in text.lower() or "going on" in text.lower() for text in told), (
        told
    )
