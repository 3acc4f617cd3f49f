"""Real processes: two writers at once, SIGKILL in the middle, a disk that really refuses bytes."""

import signal
import time
from pathlib import Path

import pytest

from pipelines.store.store import Store
from tests import fakes

BUILD = """
import sys, time
from pathlib import Path
from pipelines.store.store import Store
from tests import fakes

def build(draft):
    with open(sys.argv[2], "a") as log:
        log.write("built\\n")
    (draft.scratch / "state").write_text("half")
    with draft.path("data.bin").open("wb") as file:
        for _ in range(int(sys.argv[3])):
            file.write(bytes(1 << 16))
            file.flush()
            time.sleep(0.01)

report = Store(Path(sys.argv[1])).produce(fakes.spec(), build)
print("skipped" if report.skipped else "made", report.artefact.digest)
"""
PATIENT = """
import sys, time
from pathlib import Path
from pipelines.store.store import Store
from tests import fakes

def build(draft):
    print("building", flush=True)
    time.sleep(float(sys.argv[2]))
    draft.path("data.bin").write_bytes(b"x")

print(Store(Path(sys.argv[1])).produce(fakes.spec(), build))
"""
FULL = """
import resource, signal, sys
from pathlib import Path
import numpy
from pipelines.errors import WorldlineError
from pipelines.store.store import Store
from tests import fakes

def build(draft):
    array = numpy.zeros(1 << 17, numpy.uint8)
    if sys.argv[2] == "python":
        draft.path("data.bin").write_bytes(array.tobytes())
    elif sys.argv[2] == "numpy":
        numpy.save(draft.path("data.npy"), array)
    elif sys.argv[2] == "hdf5":
        import h5py
        with h5py.File(draft.path("data.h5"), "w") as file:
            file["x"] = array
    elif sys.argv[2] == "safetensors":
        from safetensors.numpy import save_file
        save_file({"x": array}, draft.path("data.safetensors"))

signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
resource.setrlimit(resource.RLIMIT_FSIZE, (1 << 16, 1 << 16))
try:
    Store(Path(sys.argv[1])).produce(fakes.spec(), build)
except WorldlineError as error:
    print(error)
    sys.exit(error.exit_code)
"""


def test_two_processes_at_once_end_with_one_good_artefact(store: Store, tmp_path: Path) -> None:
    log = tmp_path / "log"
    writers = [fakes.start(BUILD, store.root, log, 20) for _ in range(2)]
    ends = [fakes.finish(writer) for writer in writers]
    assert [code for code, _, _ in ends] == [0, 0], ends
    words, digests = zip(*(out.split() for _, out, _ in ends), strict=True)
    assert sorted(words) == ["made", "skipped"] and len(set(digests)) == 1
    assert log.read_text() == "built\n"
    (made,) = store.artefacts()
    assert made.faults(rehash=True) == [] and made.manifest.total_bytes == 20 << 16


def test_a_writer_killed_halfway_leaves_nothing_trusted_and_the_next_one_sweeps(store: Store, tmp_path: Path) -> None:
    log = tmp_path / "log"
    writer = fakes.start(BUILD, store.root, log, 10_000)
    partial = store.root / ".partial"
    fakes.wait_for(lambda: any(path.stat().st_size > 1 << 17 for path in partial.glob("*/data.bin")))
    writer.send_signal(signal.SIGKILL)
    assert fakes.finish(writer)[0] == -signal.SIGKILL
    assert len(list(partial.iterdir())) == 1  # the remains are there, and nobody sees them
    assert list(store.artefacts()) == [] and store.find(fakes.spec().ref) is None

    code, out, err = fakes.finish(fakes.start(BUILD, store.root, log, 2))
    assert code == 0 and out.startswith("made"), err
    (made,) = store.artefacts()
    assert made.faults(rehash=True) == [] and made.manifest.total_bytes == 2 << 16
    assert list(partial.iterdir()) == [] and list((store.root / ".scratch").iterdir()) == []


def test_a_writer_killed_while_another_waits_hands_over(store: Store, tmp_path: Path) -> None:
    log = tmp_path / "log"
    first = fakes.start(BUILD, store.root, log, 10_000)
    fakes.wait_for(log.exists)
    second = fakes.start(BUILD, store.root, log, 2)
    with pytest.raises(AssertionError, match="waited too long"):
        fakes.wait_for(lambda: second.poll() is not None or log.read_text().count("built") > 1, timeout=1.0)
    first.kill()
    code, out, err = fakes.finish(second)
    assert code == 0 and out.startswith("made"), err
    fakes.finish(first)


@pytest.mark.parametrize(
    "library",
    [
        "python",
        pytest.param("numpy", marks=pytest.mark.slow),
        "hdf5",
        pytest.param("safetensors", marks=pytest.mark.slow),
    ],
)
def test_a_disk_that_refuses_bytes_is_one_line_and_leaves_nothing(store: Store, library: str) -> None:
    code, out, err = fakes.finish(fakes.start(FULL, store.root, library))
    assert code == 1, err
    assert out.startswith(f"No space left in the store {store.root}") and out.count("\n") == 1
    assert "Traceback" not in err
    assert list(store.artefacts()) == [] and list((store.root / ".partial").iterdir()) == []


def test_the_cost_of_a_killed_attempt_is_in_the_manifest_of_the_one_that_went_on(store: Store) -> None:
    killed = fakes.start(PATIENT, store.root, 60)
    assert killed.stdout is not None and killed.stdout.readline() == "building\n"
    time.sleep(1.0)
    killed.kill()
    fakes.finish(killed)
    code, out, _ = fakes.finish(fakes.start(PATIENT, store.root, 0))
    artefact = store.find(fakes.spec().ref)
    assert code == 0 and artefact is not None
    assert artefact.manifest.cost["seconds"] >= 0.7 and artefact.manifest.cost["attempts"] == 2
    assert f"made in {artefact.manifest.cost['seconds']:.1f} s in 2 attempts" in out
