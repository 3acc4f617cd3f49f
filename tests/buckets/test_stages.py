"""Fetch and downsample from real buckets: bit for bit what they make of the same files on disk, whatever the network
does; or one line and no artefact."""

import json
import signal
from pathlib import Path

import pytest

from pipelines.bucket.bucket import Bucket
from pipelines.errors import WorldlineError
from pipelines.sources.dqn_replay.listing import file_name, list_objects, log_folder
from pipelines.sources.source import digest
from pipelines.stages import fetch
from pipelines.stages.fetch import FetchConfig
from pipelines.store.artefact import Artefact
from pipelines.store.store import Store
from tests import fakes
from tests.buckets.faults import Fault, FaultProxy, Weather
from tests.buckets.fixtures import Site, hashes
from tests.pipelines.sources.dqn_replay.toy import write_replay
from tests.pipelines.stages.helpers import make_trajectories, nothing_left

pytestmark = [pytest.mark.usefixtures("_hasty"), pytest.mark.one_bucket, pytest.mark.usefixtures("undrawn")]
LENGTHS = [13, 29, 5, 61, 13, 40]
FRAMES = f"{log_folder('Freeway', 1)}/{file_name('observation', 1)}"
RANGE = 60_000  # bytes: an observation file of 370 kB is read in seven


PROGRAM = """
import json, sys
from pathlib import Path
from pipelines.bucket import bucket_object
from pipelines.store.profile import Profile
from pipelines.store.store import Store
from pipelines.plots import style
from tests import fakes
from tests.buckets.test_stages import RANGE, make_both

style.save = fakes.save_empty
bucket_object.CHUNK = RANGE
url, options, home = sys.argv[1:]
make_both(Store(Path(home), profile=Profile("child", options=json.loads(options))), url)
"""


@pytest.fixture(scope="module")
def toy(tmp_path_factory) -> tuple[Path, dict[str, str]]:
    folder = tmp_path_factory.mktemp("toy")
    write_replay(folder / "bucket", LENGTHS, capacity=53, unfinished=4)
    store = Store(folder / "store")
    return folder / "bucket", hashes(*make_both(store, f"file://{folder / 'bucket'}"))


def make_replay(store: Store, url: str) -> Artefact:
    listing = digest(list_objects(Bucket.of(url, store.profile), "Freeway", 1))
    return fetch.run(FetchConfig("Freeway", 1, url=url, listing=listing), store).artefact


def make_both(store: Store, url: str) -> tuple[Artefact, Artefact]:
    replay = make_replay(store, url)
    return replay, make_trajectories(store, replay)


def test_a_bucket_gives_the_same_bytes_as_the_same_files_on_disk(site) -> None:
    made = make_both(site.store(), site.bucket.root_url)
    assert hashes(*made) == site.expected and len(site.expected) >= 4
    roots = made[0].manifest.roots
    assert len(roots) == len(list(site.folder.rglob("*.gz"))) and all(root["version"] for root in roots)
    assert site.proxy.sent(FRAMES) < 1.5 * (site.folder / FRAMES).stat().st_size


@pytest.mark.parametrize("seed", [1, 2])
def test_random_faults_change_nothing_but_the_time(site, seed) -> None:
    site.proxy.weather = Weather(0.1, seed, most=1)
    assert hashes(*make_both(site.store(), site.bucket.root_url)) == site.expected
    assert site.proxy.struck() > 0


@pytest.mark.parametrize(
    "fault",
    [
        Fault("flip", match=FRAMES, skip=4),
        Fault("flip", match="action_ckpt.0"),
        Fault("cut", match=FRAMES, skip=2, times=2),
        Fault("reset", match=FRAMES, skip=2, times=2),
        Fault("short", match=FRAMES, skip=3),
        Fault("status", match="", skip=5, times=4),
        Fault("status", listings=True, times=2, status=429),
        Fault("stall", match=FRAMES, skip=3, seconds=4.0),
    ],
    ids=lambda fault: f"{fault.kind}-{'list' if fault.listings else fault.match[-17:]}",
)
def test_one_fault_ends_in_the_same_bytes(site, fault) -> None:
    site.proxy.add(fault)
    assert hashes(*make_both(site.store(), site.bucket.root_url)) == site.expected
    assert site.proxy.struck(fault.kind) == fault.times


def refused(site: Site, store: Store, replay: Artefact) -> str:
    with pytest.raises(WorldlineError) as caught:
        make_trajectories(store, replay)
    text = str(caught.value)
    assert "\n" not in text and len(text) < 500, text
    assert nothing_left(store, "trajectories")
    return text


@pytest.mark.parametrize("content", ["cut", "other", "garbage"])
@pytest.mark.parametrize("skip", [0, pytest.param(3, marks=pytest.mark.slow)])
def test_frames_that_were_replaced_leave_one_line_and_no_artefact(site, skip, content) -> None:
    """Between fetch and downsample (skip 0), and while they are read (skip 3)."""
    right = (site.folder / FRAMES).read_bytes()
    other = (site.folder / FRAMES.replace("ckpt.1", "ckpt.0")).read_bytes()
    wrong = {"cut": right[: len(right) // 3], "other": other, "garbage": bytes(len(right))}[content]
    store = site.store()
    replay = make_replay(store, site.bucket.root_url)
    site.proxy.clear()
    site.proxy.add(Fault("pass", match=FRAMES, skip=skip, act=lambda: site.bucket.put(FRAMES, wrong)))
    assert FRAMES.rsplit("/", 1)[1] in refused(site, store, replay)
    assert site.proxy.struck("pass") == 1


def test_frames_damaged_at_rest_leave_one_line_and_no_artefact(site) -> None:
    """The bucket's own checksum fits the damaged bytes: only the inflater can tell."""
    content = bytearray((site.folder / FRAMES).read_bytes())
    content[len(content) // 2] ^= 4
    site.bucket.put(FRAMES, bytes(content))
    store = site.store()
    replay = make_replay(store, site.bucket.root_url)
    assert FRAMES.rsplit("/", 1)[1] in refused(site, store, replay)


def test_a_bucket_that_changed_since_its_listing_is_refused(site) -> None:
    store, url = site.store(), site.bucket.root_url
    listing = digest(list_objects(Bucket.of(url, store.profile), "Freeway", 1))
    name = FRAMES.replace("observation", "action")
    site.bucket.put(name, (site.folder / name.replace("ckpt.1", "ckpt.0")).read_bytes())
    with pytest.raises(WorldlineError, match="bucket changed"):
        fetch.run(FetchConfig("Freeway", 1, url=url, listing=listing), store)
    assert nothing_left(store, "replay")


def test_a_bucket_that_goes_away_is_one_line_and_the_next_run_completes(site) -> None:
    store = site.store()
    replay = make_replay(store, site.bucket.root_url)
    site.proxy.add(Fault("status", match=FRAMES, skip=3, times=10_000))
    assert FRAMES.rsplit("/", 1)[1] in refused(site, store, replay)
    site.proxy.clear()
    assert hashes(replay, make_trajectories(store, replay)) == site.expected


@pytest.mark.parametrize("how", [signal.SIGKILL, pytest.param(signal.SIGINT, marks=pytest.mark.slow)])
@pytest.mark.parametrize("kind", [pytest.param("action", marks=pytest.mark.slow), "observation"])
def test_a_killed_or_stopped_stage_leaves_nothing_trusted_and_runs_again(toy, gcs_bucket, tmp_path, kind, how) -> None:
    """In the middle of fetch (action) or of downsample (observation, behind the header that fetch reads)."""
    gcs_bucket.put_folder(toy[0])
    store = Store(tmp_path / "store")
    with FaultProxy(gcs_bucket.server.endpoint) as proxy:
        call = (PROGRAM, gcs_bucket.root_url, json.dumps(gcs_bucket.options(proxy.endpoint)), store.root)
        name = FRAMES.replace("observation", kind)
        proxy.add(Fault("stall", match=name, skip=3 if kind == "observation" else 0, seconds=1.5))
        child = fakes.start(*call)
        fakes.wait_for(lambda: proxy.struck("stall") == 1)
        child.send_signal(how)
        assert fakes.finish(child)[0] != 0
        assert [artefact.ref.stage for artefact in store.artefacts()] == ["replay"] * (kind == "observation")

        proxy.clear()
        code, out, err = fakes.finish(fakes.start(*call))
        assert code == 0, out + err
        made = sorted(store.artefacts(), key=lambda artefact: artefact.ref.stage)
        assert [artefact.ref.stage for artefact in made] == ["replay", "trajectories"]
        assert hashes(*made) == toy[1] and all(artefact.faults(rehash=True) == [] for artefact in made)
        assert list((store.root / ".partial").iterdir()) == []
        if kind == "observation":  # fetch was done: its small arrays are not asked for again
            assert proxy.sent("action") == proxy.sent("reward") == 0
