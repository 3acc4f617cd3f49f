"""Artefacts in a bucket, by processes of several machines: killed, at once, cut off; and the whole miniature graph."""

import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from pipelines.bucket.bucket_store import BucketStore
from pipelines.cli import run
from pipelines.graph.experiment import register
from pipelines.recipes.registry import recipe
from tests import fakes
from tests.buckets.faults import Fault, FaultProxy, Weather
from tests.buckets.servers import EmulatedBucket

SPEC = fakes.spec("trajectories")
STEPS = 9  # of the miniature recipe
pytestmark = pytest.mark.one_bucket

MAKE = """
import json, os, sys, time
from pathlib import Path
from pipelines.bucket import lease, retry
from pipelines.bucket.bucket_store import BucketStore
from pipelines.cli import run
from pipelines.store.profile import Profile
from tests import fakes

retry.FIRST_WAIT = 0.02
os.environ["WORLDLINE_QUIET"] = ""
url, options, root, text, go, lease.LOST = *sys.argv[1:6], float(sys.argv[6])
lease.POLL = 0.05
store = BucketStore(url, Path(root), Profile("child", options=json.loads(options)))

def build(draft):
    print("building", flush=True)
    while not Path(go).exists():
        time.sleep(0.01)
    fakes.fill(text)(draft)

print(store.produce(fakes.spec("trajectories"), build).artefact.digest)
"""


class Site:
    """A bucket behind a proxy, and the folders of the machines that share it."""

    def __init__(self, bucket: EmulatedBucket, proxy: FaultProxy, folder: Path) -> None:
        self.bucket, self.proxy, self.folder = bucket, proxy, folder
        self.url = f"{bucket.root_url}/store"

    def machine(self, name: str) -> BucketStore:
        return BucketStore(self.url, self.folder / name, self.bucket.profile(self.proxy.endpoint))

    def start(self, name: str, text: str, lost: float = 60.0) -> subprocess.Popen[str]:
        """A process that makes `SPEC` of that text; it takes a lease of others for lost after so many seconds."""
        options = json.dumps(self.bucket.options(self.proxy.endpoint))
        return fakes.start(MAKE, self.url, options, self.folder / name, text, self.folder / "go", lost)

    def go(self) -> None:
        """What waits in `build` goes on."""
        (self.folder / "go").touch()


@pytest.fixture
def site(bucket: EmulatedBucket, proxy: FaultProxy, tmp_path: Path) -> Site:
    return Site(bucket, proxy, tmp_path)


def test_killed_between_its_files_and_its_manifest_it_is_nowhere_and_is_stored_by_the_next_run(site: Site) -> None:
    manifest = f"{SPEC.ref}.json"
    never = Fault("status", match=manifest, times=10_000, listings=True)
    site.proxy.add(Fault("pass", match="more.bin", listings=True, act=lambda: site.proxy.add(never)))
    site.go()
    child = site.start("here", "first")
    fakes.wait_for(lambda: site.proxy.struck("status") > 0)
    child.send_signal(signal.SIGKILL)
    assert fakes.finish(child)[0] == -signal.SIGKILL
    site.proxy.clear()
    there = site.machine("there")
    assert len(there.bucket.below("files")) == 2 and list(there.artefacts()) == [] and there.find(SPEC.ref) is None

    code, out, err = fakes.finish(site.start("here", "second"))
    assert code == 0, err
    assert "building" not in out and "stored now" in err
    found = there.open(SPEC.ref)
    assert found.digest == out.strip() and found.path("data.bin").read_text() == "first"
    assert len(there.bucket.below("files")) == 2


@pytest.mark.slow
def test_two_machines_at_once_end_with_one_artefact(site: Site) -> None:
    children = [site.start(name, name, lost=0.0) for name in ("here", "there")]  # no lease counts
    for child in children:
        assert child.stdout.readline() == "building\n"
    site.go()
    ended = [fakes.finish(child) for child in children]
    assert [code for code, _, _ in ended] == [0, 0], ended
    assert ended[0][1] == ended[1][1]
    assert sum("that one counts, ours is dropped" in err for _, _, err in ended) == 1
    found = site.machine("third").open(SPEC.ref)
    assert found.digest == ended[0][1].strip() and found.path("data.bin").read_text() in ("here", "there")
    assert {name.split("/")[3] for name in site.machine("third").bucket.below("files")} == {found.digest}


def test_another_machine_waits_for_the_one_that_makes_it_and_goes_on_when_that_dies(site: Site) -> None:
    first = site.start("here", "first")
    assert first.stdout.readline() == "building\n"
    second, third = site.start("there", "second"), site.start("third", "third", lost=1.0)
    for child in (second, third):
        assert child.stderr.readline() == f"{SPEC.ref}: another machine is making it, waiting ...\n"
    first.send_signal(signal.SIGKILL)
    fakes.finish(first)
    assert third.stdout.readline() == "building\n"
    site.go()
    ended = [fakes.finish(child) for child in (second, third)]
    assert [code for code, _, _ in ended] == [0, 0], ended
    assert ended[0][1] == ended[1][1], "the one that waited makes nothing"
    there = site.machine("looker")
    assert there.open(SPEC.ref).path("data.bin").read_text() == "third" and there.bucket.below("leases") == {}


@pytest.mark.parametrize("seed", [1, 2])
@pytest.mark.usefixtures("_hasty")
def test_a_store_in_bad_weather_holds_what_was_made(site: Site, seed: int) -> None:
    site.proxy.weather = Weather(0.3, seed, most=1)
    site.proxy.add(
        Fault("status", listings=True, skip=3, times=2, status=429),
        Fault("reset", match="more.bin", listings=True, skip=seed),
        Fault("cut", match="prefix", listings=True, skip=4 * seed, times=2),
        Fault("reset", match=".json", listings=True, skip=seed),
    )
    here, there = site.machine("here"), site.machine("there")
    made = fakes.chain(here)
    for artefact in made.values():
        assert there.open(artefact.ref).manifest == artefact.manifest
        assert there.find(artefact.ref).faults(rehash=True) == []
    assert site.proxy.struck() > 3


# ---- the whole graph ----


class Computer:
    """One user's home, in which commands run as processes with the store in the bucket."""

    def __init__(self, site: Site, name: str) -> None:
        self.home = site.folder / name
        keys = {"replay_root": None, "artefact_root": site.url, "cache_bytes": 10**8}
        secrets = site.bucket.write_profile(site.folder / "far.yaml", site.proxy.endpoint, 20.0, **keys)
        far = {"WORLDLINE_HOME": str(self.home), "WORLDLINE_STORAGE": str(site.folder / "far.yaml")}
        self.environment = {**os.environ, **secrets, **far, "OMP_NUM_THREADS": "1"}
        self.experiment = register(self.home / "experiments", "mini", recipe("mini"))

    def run(self, *command: str) -> subprocess.CompletedProcess[str]:
        call = [sys.executable, "-m", "pipelines.cli", *command]
        return subprocess.run(call, cwd=fakes.ROOT, env=self.environment, capture_output=True, text=True, timeout=300)


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_the_miniature_graph_on_two_computers_that_share_a_bucket(site: Site) -> None:
    """The first is cut off in the middle; the second, through bad weather, goes on with what the first has stored."""
    first, second = Computer(site, "first"), Computer(site, "second")
    site.proxy.add(Fault("status", match="files/world_action_model", times=10_000, listings=True))
    cut = first.run("materialize", "mini")
    assert cut.returncode == 1 and "failed 6 times" in cut.stderr and "Traceback" not in cut.stderr, cut.stderr
    site.proxy.clear()
    here = site.machine("looker")
    before = {artefact.ref.stage: artefact for artefact in here.artefacts()}
    assert {"trajectories", "pretrained", "tokens"} <= set(before) and "world_action_model" not in before

    site.proxy.weather = Weather(0.05, 1, most=2)
    site.proxy.add(*(Fault("status", listings=True, skip=40 * n, times=1, status=503) for n in range(1, 8)))
    done = second.run("materialize", "mini")
    assert done.returncode == 0, done.stdout + done.stderr
    assert done.stdout.splitlines()[-1] == f"{STEPS - len(before)} made, {len(before)} already there.", done.stdout
    assert site.proxy.struck() > 3
    site.proxy.clear()
    after = {artefact.ref.stage: artefact for artefact in site.machine("looker").artefacts()}
    assert all(after[stage].digest == artefact.digest for stage, artefact in before.items())

    again = first.run("materialize", "mini")  # what it had finished and not stored gives way to what stands
    assert again.returncode == 0 and again.stdout.splitlines()[-1] == "Everything was already there.", again.stderr
    for computer in (first, second):
        verified = computer.run("lineage", "leaderboard/all", "--verify")
        assert verified.returncode == 0 and "every file as its manifest says" in verified.stderr, verified.stderr
        listed = computer.run("list").stdout
        assert all(str(artefact.ref) in listed for artefact in after.values())
    for computer in (first, second):
        tidy = computer.run("gc", "--yes")
        assert tidy.returncode == 0 and tidy.stdout.splitlines()[-1].startswith("0 artefacts, "), tidy.stdout
    assert not list((first.home).glob("store-*/finished/**/manifest.json"))


# ---- what commands say, in one line ----


@pytest.fixture
def told(site: Site, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]):
    """Runs a command with the store in the bucket, or in another place; its exit code and what it said."""
    monkeypatch.setenv("WORLDLINE_HOME", str(site.folder / "home"))
    monkeypatch.setenv("WORLDLINE_STORAGE", str(site.folder / "far.yaml"))

    def ran(*command: str, **keys) -> tuple[int, str, str]:
        keys = {"replay_root": None, "artefact_root": site.url} | keys
        for name in site.bucket.write_profile(site.folder / "far.yaml", site.proxy.endpoint, **keys):
            monkeypatch.setenv(name, str(site.bucket.options()[name.removeprefix("EMULATED_").lower()]))
        code = run([*command])
        out, err = capsys.readouterr()
        return code, out, err

    return ran


PLAY = ("collect", "--games", "Freeway", "--set", "collect.steps=200", "--set", "collect.capacity=200")


@pytest.mark.usefixtures("_hasty")
def test_a_bucket_without_write_rights_is_told_before_anything_is_made(site: Site, told) -> None:
    site.proxy.add(Fault("status", match=".probe", status=403, listings=True, times=9))
    code, out, err = told(*PLAY)
    assert code == 1 and out == "" and err.count("\n") == 1
    assert f"The bucket {site.url} does not let this account store artefacts" in err
    assert not list((site.folder / "home").rglob("*.partial/*"))
    code, out, _ = told("list")
    assert code == 0 and out == f"The store {site.url} is empty: worldline demo\n"


@pytest.mark.usefixtures("_hasty")
def test_a_bucket_that_is_not_there_or_does_not_answer_is_one_line(site: Site, told) -> None:
    code, out, err = told("list", artefact_root=site.url.replace("replay", "nobodys-replay"))
    assert code == 1 and out == "" and err.count("\n") == 1 and "nobodys-replay" in err and "artefact_root" in err
    code, _, err = told("list", artefact_root="https://host/store")
    assert code == 1 and err.count("\n") == 1 and "or gs://BUCKET/PREFIX or s3://" in err
    site.proxy.add(Fault("status", listings=True, times=10_000), Fault("status", times=10_000))
    code, out, err = told("list")
    assert code == 1 and out == "" and err.count("\n") == 1 and "failed 6 times" in err, err


@pytest.mark.usefixtures("_hasty")
def test_a_command_makes_lists_verifies_and_tidies_in_a_bucket(site: Site, told) -> None:
    code, _, err = told(*PLAY)
    assert code == 0, err
    [made] = site.machine("looker").artefacts()
    assert f"{made.ref}  " in told("list")[1] and "collected_replay/Freeway" in told("list")[1]
    assert told("lineage", "collected_replay/Freeway", "--verify")[0] == 0
    assert told(*PLAY)[1].count("already there") == 1
    assert told("gc", "--yes")[1].splitlines()[-1].startswith("0 artefacts, 0 leftovers")
