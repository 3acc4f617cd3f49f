"""The `worldline` command, killed and interrupted in the middle of a bucket's frames: the same command goes on."""

import json
import signal
from collections.abc import Iterator
from pathlib import Path

import pytest

from pipelines.cli import run
from pipelines.home import open_store
from pipelines.process import INTERRUPTED
from pipelines.store.store import Store
from tests import fakes
from tests.buckets.faults import Fault, FaultProxy
from tests.buckets.fixtures import hashes
from tests.buckets.servers import EmulatedBucket
from tests.buckets.test_stages import LENGTHS, RANGE
from tests.pipelines.sources.dqn_replay.toy import write_replay
from tests.pipelines.stages.helpers import nothing_left

WHICH = ("--games", "Freeway", "--agents", "1")
DRAW = ("--set", "downsample.transitions=10000", "--set", "downsample.workers=1")
# As the console script, but for the size of a range: a toy's objects are read in seven.
PROGRAM = f"""
from pipelines.bucket import download
from pipelines.bucket import bucket_object
download.CHUNK = bucket_object.CHUNK = {RANGE}
from pipelines.cli import main
main()
"""


@pytest.fixture(scope="module")
def toy(tmp_path_factory) -> tuple[Path, dict[str, str]]:
    """A replay on disk, and the hashes of what the same commands make of it there."""
    home = tmp_path_factory.mktemp("toy")
    write_replay(home / "bucket", LENGTHS, capacity=53, unfinished=4)
    (home / "disk.yaml").write_text(json.dumps({"replay_root": f"file://{home / 'bucket'}"}))
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("WORLDLINE_HOME", str(home))
        patch.setenv("WORLDLINE_QUIET", "1")
        for command in (["fetch", *WHICH], ["downsample", *WHICH, *DRAW]):
            assert run([*command, "--storage", str(home / "disk.yaml")]) == 0
        return home / "bucket", hashes(*open_store().artefacts())


@pytest.fixture
def site(toy, gcs_bucket: EmulatedBucket, tmp_path, monkeypatch) -> Iterator[FaultProxy]:
    """The same replay in a bucket behind a proxy; WORLDLINE_HOME and WORLDLINE_STORAGE are set for it."""
    gcs_bucket.put_folder(toy[0])
    monkeypatch.setenv("WORLDLINE_HOME", str(tmp_path / "home"))
    monkeypatch.setenv("WORLDLINE_STORAGE", str(tmp_path / "emulated.yaml"))
    with FaultProxy(gcs_bucket.server.endpoint) as proxy:
        gcs_bucket.write_profile(tmp_path / "emulated.yaml", proxy.endpoint)
        yield proxy


def stop(proxy: FaultProxy, how: signal.Signals, *command: str) -> None:
    """Start the command, and end it so once a range of the frames hangs; then the bucket is well again."""
    child = fakes.start(PROGRAM, *command)
    fakes.wait_for(lambda: proxy.struck("stall") == 1)
    child.send_signal(how)
    code, _, err = fakes.finish(child)
    if how == signal.SIGINT:
        assert code == INTERRUPTED
        assert err == "Interrupted: what is finished stays, the same command goes on from there.\n"
    else:
        assert code == -how and err == ""
    proxy.clear()


@pytest.mark.parametrize("how", [signal.SIGKILL, pytest.param(signal.SIGINT, marks=pytest.mark.slow)])
def test_a_stopped_mirror_goes_on_behind_the_bytes_that_are_there(toy, site: FaultProxy, tmp_path, how) -> None:
    command = ("fetch", *WHICH, "--mirror", "all")
    frames = {path.name: path for path in toy[0].rglob("*observation_ckpt*")}
    site.add(Fault("stall", match="observation_ckpt.1", skip=4, seconds=3.0))
    stop(site, how, *command)
    mirror = tmp_path / "home" / "mirror"
    held = {name: sum(path.stat().st_size for path in mirror.rglob(f"*{name}*") if _bytes(path)) for name in frames}
    assert 2 * RANGE <= held["$store$_observation_ckpt.1.gz"] < frames["$store$_observation_ckpt.1.gz"].stat().st_size

    assert run([*command]) == 0
    for name, path in frames.items():
        assert site.sent(name) == path.stat().st_size - held[name]
        [copy] = mirror.rglob(name)
        assert copy.read_bytes() == path.read_bytes()
    assert list(mirror.rglob("*.part")) == [] and site.sent("action") == 0

    assert run(["downsample", *WHICH, *DRAW]) == 0
    assert hashes(*open_store().artefacts()) == toy[1]
    assert all(site.sent(name) == path.stat().st_size - held[name] for name, path in frames.items())


@pytest.mark.slow
@pytest.mark.parametrize("how", [signal.SIGKILL, signal.SIGINT])
def test_a_stopped_draw_reads_no_file_twice(toy, site: FaultProxy, how) -> None:
    assert run(["fetch", *WHICH]) == 0
    site.clear()
    command = ("downsample", *WHICH, *DRAW)
    site.add(Fault("stall", match="observation_ckpt.1", skip=3, seconds=3.0))
    stop(site, how, *command)
    store: Store = open_store()
    assert [artefact.ref.stage for artefact in store.artefacts()] == ["replay"]

    assert run([*command]) == 0
    assert hashes(*store.artefacts()) == toy[1]
    assert site.sent("observation_ckpt.0") == 0 and site.sent("observation_ckpt.1") > 0
    assert nothing_left(store, "segments")


def _bytes(path: Path) -> bool:
    """Whether it holds an object's bytes, whole or in part, and is no sidecar."""
    return path.is_file() and path.suffix != ".json"
