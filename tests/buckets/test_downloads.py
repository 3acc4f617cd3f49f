"""Downloads that are cut, killed, stopped, refused by the disk or overtaken by a replacement; and the soak.

The long soak (`pytest -m slow tests/buckets`): 2,000 objects, 130 MB, about 80 s a store on two busy cores.
"""

import json
import random
import signal
import subprocess
from contextlib import suppress
from pathlib import Path

import pytest

from pipelines.bucket.bucket import Bucket
from pipelines.bucket.bucket_object import BucketObject, Mirror
from pipelines.bucket.download import download
from pipelines.bucket.retry import DamagedInTransit, ObjectReplaced
from pipelines.errors import WorldlineError
from tests import fakes
from tests.buckets.conftest import CHUNK
from tests.buckets.faults import Fault, FaultProxy, Weather
from tests.buckets.servers import EmulatedBucket

pytestmark = pytest.mark.usefixtures("_hasty")
FOLDER = "Pong/1/replay_logs"
PROGRAM = """
import json, resource, signal, sys
from pathlib import Path
from pipelines.bucket import download, retry
from pipelines.bucket.bucket import Bucket
from pipelines.bucket.bucket_object import Mirror
from pipelines.errors import WorldlineError
from pipelines.store.profile import Profile

url, options, folder, chunk, limit = sys.argv[1:]
retry.FIRST_WAIT, download.CHUNK = 0.01, int(chunk)
if int(limit):
    signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (int(limit), int(limit)))
bucket = Bucket.of(url, Profile("child", options=json.loads(options)), Mirror(Path(folder)))
try:
    download.download(bucket, bucket.list("Pong/1/replay_logs"), "Mirror")
except WorldlineError as error:
    print(error)
    sys.exit(error.exit_code)
"""


def fill(bucket: EmulatedBucket, count: int, size: int, seed: int = 0) -> dict[str, bytes]:
    rng = random.Random(seed)
    contents = {f"{FOLDER}/object {number}": rng.randbytes(rng.randint(1, size)) for number in range(count)}
    for name, content in contents.items():
        bucket.put(name, content)
    return contents


def client(bucket: EmulatedBucket, proxy: FaultProxy, folder: Path) -> Bucket:
    return Bucket.of(bucket.root_url, bucket.profile(proxy.endpoint, timeout=2.0), Mirror(folder / "mirror"))


def copies(folder: Path) -> dict[str, bytes]:
    """Every visible file of the mirror."""
    root = folder / "mirror"
    files = (path for path in root.rglob("*") if path.is_file() and not path.name.startswith("."))
    return {path.relative_to(root).as_posix(): path.read_bytes() for path in files}


def parts(folder: Path) -> list[Path]:
    return list((folder / "mirror").rglob(".*.part"))


def soak(bucket: EmulatedBucket, proxy: FaultProxy, folder: Path, count: int, size: int, runs: int = 1) -> None:
    """An object is read once more when bits were flipped; where its second pass is hit too, the command runs again."""
    contents = fill(bucket, count, size)
    reached = client(bucket, proxy, folder)
    items = reached.list(FOLDER)
    proxy.weather = Weather(0.05, seed=7)
    for _ in range(runs - 1):
        with suppress(DamagedInTransit):
            download(reached, items, "Soak")
        assert copies(folder).items() <= contents.items()
    assert download(reached, items, "Soak") == items
    assert copies(folder) == contents
    assert parts(folder) == []
    assert proxy.struck() >= count * 0.02, "too fair a weather to prove anything"
    asked = {exchange.name for exchange in proxy.log if exchange.data}
    assert asked == set(contents)
    sent = proxy.sent()
    download(reached, items, "Again")
    assert proxy.sent() == sent  # all there: not a byte more


@pytest.mark.slow
def test_soak_of_200_objects_with_5_percent_faults(bucket, proxy, tmp_path) -> None:
    soak(bucket, proxy, tmp_path, count=200, size=30_000)


@pytest.mark.slow
def test_long_soak(bucket, proxy, tmp_path) -> None:
    soak(bucket, proxy, tmp_path, count=2_000, size=130_000, runs=6)


def test_an_object_that_is_replaced_on_the_way_is_restarted_whole(bucket, proxy, tmp_path) -> None:
    contents = fill(bucket, 3, 90_000)
    name = max(contents, key=lambda name: len(contents[name]))
    reached = client(bucket, proxy, tmp_path)
    items = reached.list(FOLDER)
    fresh = random.Random(1).randbytes(len(contents[name]))
    proxy.add(Fault("pass", match=name, skip=2, act=lambda: bucket.put(name, fresh)))
    found = download(reached, items, "Mirror")
    assert copies(tmp_path) == contents | {name: fresh}
    assert {new.name for new, old in zip(found, items, strict=True) if new != old} == {name}

    proxy.add(Fault("pass", match=name, act=lambda: bucket.put(name, b"third")))
    stale = [item for item in items if item.name == name]
    with pytest.raises(ObjectReplaced):
        download(reached, stale, "Pinned", pinned=True)


def test_a_part_file_with_a_wrong_bit_is_never_committed(bucket, proxy, tmp_path) -> None:
    contents = fill(bucket, 1, 1) | {f"{FOLDER}/big": random.Random(2).randbytes(8 * CHUNK)}
    bucket.put(f"{FOLDER}/big", contents[f"{FOLDER}/big"])
    reached = client(bucket, proxy, tmp_path)
    items = reached.list(FOLDER)
    proxy.add(Fault("status", match="big", skip=4, times=100, status=403))
    with pytest.raises(WorldlineError):
        download(reached, items, "Broken off")
    (part,) = parts(tmp_path)
    assert part.stat().st_size == 4 * CHUNK
    fakes.flip_byte(part, at=2 * CHUNK + 5)
    proxy.clear()
    download(reached, items, "Again")
    assert copies(tmp_path) == contents and parts(tmp_path) == []


def start(bucket: EmulatedBucket, proxy: FaultProxy, folder: Path, limit: int = 0) -> subprocess.Popen[str]:
    options = json.dumps(bucket.options(proxy.endpoint))
    return fakes.start(PROGRAM, bucket.root_url, options, folder / "mirror", CHUNK, limit)


@pytest.mark.parametrize("how", [signal.SIGKILL, pytest.param(signal.SIGINT, marks=pytest.mark.slow)])
def test_killed_or_stopped_it_goes_on_behind_the_bytes_that_are_there(gcs_bucket, tmp_path, how) -> None:
    name, content = f"{FOLDER}/big", random.Random(3).randbytes(20 * CHUNK + 77)
    gcs_bucket.put(name, content)
    with FaultProxy(gcs_bucket.server.endpoint) as proxy:
        proxy.add(Fault("stall", skip=12, seconds=1.5))
        child = start(gcs_bucket, proxy, tmp_path)
        fakes.wait_for(lambda: proxy.struck("stall") == 1)
        assert copies(tmp_path) == {}
        child.send_signal(how)
        assert fakes.finish(child)[0] != 0
        (part,) = parts(tmp_path)
        held = part.stat().st_size
        # Ctrl-C lets the range in flight arrive; kill -9 loses it.
        assert held == 12 * CHUNK or (how == signal.SIGINT and held == 13 * CHUNK)
        assert part.read_bytes() == content[:held]

        proxy.clear()
        code, out, err = fakes.finish(start(gcs_bucket, proxy, tmp_path))
        assert code == 0, out + err
        assert copies(tmp_path) == {name: content} and parts(tmp_path) == []
        assert proxy.sent(name) == len(content) - held  # only the rest


@pytest.mark.slow
def test_a_full_disk_is_one_line_and_the_next_run_goes_on(gcs_bucket, tmp_path) -> None:
    contents = {f"{FOLDER}/{number}": random.Random(number).randbytes(5 * CHUNK) for number in range(3)}
    for name, content in contents.items():
        gcs_bucket.put(name, content)
    with FaultProxy(gcs_bucket.server.endpoint) as proxy:
        code, out, err = fakes.finish(start(gcs_bucket, proxy, tmp_path, limit=2 * CHUNK + 100))
        assert code == 1 and out.startswith("No space left") and out.count("\n") == 1, out + err
        assert "Traceback" not in err and copies(tmp_path) == {}
        held = sum(part.stat().st_size for part in parts(tmp_path))
        proxy.clear()
        code, out, err = fakes.finish(start(gcs_bucket, proxy, tmp_path))
        assert code == 0, out + err
        assert copies(tmp_path) == contents and proxy.sent() == sum(map(len, contents.values())) - held


def test_two_downloads_at_once_share_the_work(gcs_bucket, tmp_path) -> None:
    contents = fill(gcs_bucket, 12, 5 * CHUNK)
    with FaultProxy(gcs_bucket.server.endpoint) as proxy:
        children = [start(gcs_bucket, proxy, tmp_path) for _ in range(2)]
        for child in children:
            code, out, err = fakes.finish(child)
            assert code == 0, out + err
        assert copies(tmp_path) == contents and parts(tmp_path) == []
        assert proxy.sent() == sum(map(len, contents.values()))


def test_names_that_lead_out_of_the_mirror_are_refused(tmp_path) -> None:
    for name in ("../evil", "/etc/passwd", "a/../../b"):
        with pytest.raises(WorldlineError, match="leads out of the mirror"):
            Mirror(tmp_path).path(BucketObject(f"gs://x/{name}", name, 1, None, None))
