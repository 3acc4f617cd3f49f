"""One's own npz and HDF5 episodes come back bit for bit; files that lie about themselves are one line."""

import io
import json
import pickle
import re
import subprocess
import sys
import zipfile
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from pipelines.cli import run as command
from pipelines.environments.actions import own_actions
from pipelines.episodes.episode_files import EpisodeFiles, is_there
from pipelines.episodes.recordings import RecordedEpisodes
from pipelines.errors import UsageError, WorldlineError
from pipelines.stages import import_trajectories
from pipelines.stages.import_trajectories import FORMATS, ImportConfig, content_of, format_of
from tests.fakes import ROOT, flip_byte
from tests.pipelines.stages.helpers import nothing_left

Arrays = dict[str, NDArray[Any]]


def episode(steps: int, seed: int = 0, extra: int = 0, frame: tuple[int, ...] = (84, 84)) -> Arrays:
    rng = np.random.default_rng(seed)
    return {
        "observations": rng.integers(0, 256, (steps + extra, *frame), dtype=np.uint8),
        "actions": rng.integers(0, 3, steps),
        "rewards": rng.integers(-300, 300, steps) / 2,
        "terminals": (np.arange(steps) == steps - 1) & (seed % 2 == 0),
    }


def write(path: Path, episodes: list[Arrays], form: str, **meta: Any) -> Path:
    if form == "groups":
        with h5py.File(path.with_suffix(".h5"), "w") as file:
            file.attrs.update(meta)
            for number, arrays in enumerate(episodes):
                for name, values in arrays.items():
                    file[f"episode_{number}/{name}"] = values
        return path.with_suffix(".h5")
    path.mkdir()
    (path / "meta.json").write_text(json.dumps(meta))
    for number, arrays in enumerate(episodes):
        if form == "h5":
            with h5py.File(path / f"{number:03}.h5", "w") as file:
                for name, values in arrays.items():
                    file[name] = values
        else:
            (np.savez_compressed if form == "npz" else np.savez)(path / f"{number:03}.npz", **arrays)
    return path


def read(path: Path, game: str = "Freeway") -> RecordedEpisodes:
    assert format_of(path) == "episodes"
    return RecordedEpisodes(EpisodeFiles(path, game))


@settings(max_examples=25, deadline=None)
@given(
    lengths=st.lists(st.integers(1, 150), min_size=1, max_size=4),
    extra=st.integers(0, 1),
    frame=st.sampled_from([(84, 84), (84, 84, 1), (5, 9), (7, 4, 3)]),
    form=st.sampled_from(["npz", "stored npz", "h5", "groups"]),
    names=st.sampled_from([("terminated", "truncated"), ("terminals", "truncations")]),
)
def test_what_was_written_is_read(tmp_path_factory, lengths, extra, frame, form, names) -> None:
    episodes = [episode(steps, number, extra, frame) for number, steps in enumerate(lengths)]
    for arrays in episodes:
        arrays[names[0]] = arrays.pop("terminals")
        arrays[names[1]] = (np.arange(len(arrays["actions"])) == len(arrays["actions"]) - 1) & ~arrays[names[0]]
    found = read(write(tmp_path_factory.mktemp("own") / "set", episodes, form, game="freeway"))
    plain = frame[:2] if frame[-1] == 1 else frame
    wanted = [each["observations"][: len(each["actions"])].reshape(-1, *plain) for each in episodes]
    np.testing.assert_array_equal(found.frames(0, len(found)), np.concatenate(wanted))
    middle = len(found) // 2
    np.testing.assert_array_equal(found.frames(middle, len(found)), np.concatenate(wanted)[middle:])
    np.testing.assert_array_equal(found.actions, np.concatenate([each["actions"] for each in episodes]))
    np.testing.assert_array_equal(found.rewards, np.sign(np.concatenate([each["rewards"] for each in episodes])))
    np.testing.assert_array_equal(found.terminals, np.concatenate([each[names[0]] for each in episodes]))
    np.testing.assert_array_equal(found.truncations, np.concatenate([each[names[1]] for each in episodes]))
    assert found.raw_returns == [each["rewards"].sum() for each in episodes]
    assert np.diff(found.episode_starts).tolist() == lengths


@pytest.mark.parametrize(
    ("stated", "numbers", "wanted"),
    [
        ("minimal", [0, 1, 2], ["NOOP", "UP", "DOWN"]),
        ("full", [0, 2, 5], ["NOOP", "UP", "DOWN"]),
        (["DOWN", "NOOP", "FIRE"], [0, 1, 0], ["DOWN", "NOOP", "DOWN"]),
    ],
)
def test_actions_are_mapped_by_their_names(tmp_path, stated, numbers, wanted) -> None:
    arrays = episode(3) | {"actions": np.array(numbers)}
    found = read(write(tmp_path / "set", [arrays], "npz", actions=stated))
    assert [own_actions("Freeway")[action] for action in found.actions] == wanted


def test_the_layouts_description_is_a_program_whose_files_are_imported(tmp_path, monkeypatch, capsys) -> None:
    program = re.search("```python\n(.*?)```", (ROOT / "docs" / "import.md").read_text(), re.DOTALL)
    assert program is not None
    subprocess.run([sys.executable, "-c", program[1]], cwd=tmp_path, check=True, timeout=60)
    monkeypatch.setenv("WORLDLINE_HOME", str(tmp_path / "home"))
    assert command(["import", "trajectories", str(tmp_path / "my_pong"), "--game", "Pong", "--format", "episodes"]) == 0
    assert "import.contents=Pong:" in capsys.readouterr().out
    assert len((ROOT / "docs" / "import.md").read_text().splitlines()) <= 40


def test_jowas_files_stay_jowas(tmp_path) -> None:
    arrays = episode(4)
    with h5py.File(tmp_path / "a.h5", "w") as file:
        for name, values in arrays.items():
            file[f"0/{name}"] = values
    assert format_of(tmp_path / "a.h5") == "jowa-h5" and not is_there(tmp_path / "a.h5")
    with h5py.File(tmp_path / "a.h5", "r+") as file:
        file["0/truncations"] = arrays["terminals"]
    assert format_of(tmp_path / "a.h5") == "episodes" and is_there(tmp_path / "a.h5")
    assert all(not layout.is_there(tmp_path) for name, layout in FORMATS.items() if name != "episodes")


# ---- what is refused ----


def npy(shape: str, descr: str = "|u1", data: bytes = b"") -> bytes:
    head = f"{{'descr': '{descr}', 'fortran_order': False, 'shape': {shape}, }}".ljust(117) + "\n"
    return b"\x93NUMPY\x01\x00" + len(head).to_bytes(2, "little") + head.encode() + data


def put(path: Path, name: str, data: bytes) -> None:
    """The archive with this one member replaced."""
    with zipfile.ZipFile(path / "000.npz") as archive:
        members = {each: archive.read(each) for each in archive.namelist()} | {f"{name}.npy": data}
    with zipfile.ZipFile(path / "000.npz", "w") as archive:
        for each, content in members.items():
            archive.writestr(each, content)


def again(path: Path, **changes: NDArray[Any] | None) -> None:
    arrays = {name: values for name, values in (episode(6) | changes).items() if values is not None}
    np.savez(path / "000.npz", **arrays)


def packed(values: NDArray[Any]) -> bytes:
    file = io.BytesIO()
    np.save(file, values, allow_pickle=True)
    return file.getvalue()


def note(path: Path, **words: object) -> None:
    (path / "meta.json").write_text(json.dumps(words))


def cut(path: Path) -> None:
    (path / "000.npz").write_bytes((path / "000.npz").read_bytes()[:-200])


BAD = {
    "enormous": (
        lambda path: put(path, "observations", npy(f"({1 << 60}, 84, 84)")),
        "states .1152921504606846976, 84",
    ),
    "too long": (
        lambda path: put(path, "actions", npy("(4000000,)", "|u1", bytes(4_000_000))),
        "T from 1 to 1,048,576",
    ),
    "large frame": (
        lambda path: put(path, "observations", npy("(1, 2048, 2048)", "|u1", bytes(1 << 22))),
        "at most 1,048",
    ),
    "objects": (
        lambda path: put(path, "rewards", packed(np.array([1, None] * 3, object))),
        "holds objects, and nothing is unpickled",
    ),
    "pickle": (lambda path: put(path, "actions", pickle.dumps([1])), "cannot be read .*magic string"),
    "open header": (lambda path: put(path, "actions", npy("(6,")), "cannot be read"),
    "half actions": (lambda path: again(path, actions=np.ones(6) / 2), "has actions of .6,. float64"),
    "floats": (lambda path: again(path, observations=np.zeros((6, 84, 84), np.float32)), "must be .*uint8"),
    "stacked": (
        lambda path: again(path, observations=np.zeros((6, 4, 84, 84), np.uint8)),
        "single frames, not stacked",
    ),
    "unequal": (lambda path: again(path, rewards=np.zeros(5)), "has rewards of .5,. float64 for 6 actions"),
    "more frames": (
        lambda path: again(path, observations=np.zeros((8, 84, 84), np.uint8)),
        "8 observations and actions",
    ),
    "none": (lambda path: again(path, rewards=None), "has no rewards"),
    "infinite": (lambda path: again(path, rewards=np.full(6, np.inf)), "no finite number"),
    "goes on": (lambda path: again(path, terminals=np.eye(6)[2].astype(bool)), "go on after its end at step 2"),
    "action 7": (lambda path: again(path, actions=np.full(6, 7)), "has action 7 in episode 0, of 3"),
    "negative": (lambda path: again(path, actions=np.full(6, -1)), "has action -1 in episode 0"),
    "cut": (cut, "cannot be read"),
    "flipped": (lambda path: flip_byte(path / "000.npz", 20_000), "cannot be read .*CRC"),
    "other game": (lambda path: note(path, game="Pong"), "holds Pong, not Freeway: say --game Pong"),
    "other set": (lambda path: note(path, actions="most"), "states actions 'most'"),
    "odd names": (lambda path: note(path, actions=["NOOP", "JUMP"]), "states actions"),
    "skip 2": (lambda path: note(path, frame_skip=2), "at frame skip 2, readable are 4"),
    "odd skip": (lambda path: note(path, frame_skip="four"), "states frame_skip 'four'"),
    "no object": (lambda path: (path / "meta.json").write_text("[]"), "holds a list, an object is meant"),
    "deep": (lambda path: (path / "meta.json").write_text("[" * 200_000), "is no small JSON"),
}


@pytest.mark.parametrize("case", BAD)
def test_bad_files_are_one_line_and_leave_nothing(store, tmp_path, case) -> None:
    path = write(tmp_path / "set", [episode(6)], "stored npz")
    damage, words = BAD[case]
    damage(path)
    with pytest.raises(WorldlineError, match=words) as caught:
        config = ImportConfig(game="Freeway", sha256=content_of(path)[0], path=str(path))
        import_trajectories.run(config, store)
    assert "\n" not in str(caught.value) and nothing_left(store, "imported_trajectories")


def test_hdf5_that_points_elsewhere_or_lies_in_huge_chunks_is_refused(tmp_path) -> None:
    path = write(tmp_path / "set", [episode(6)], "groups")
    with h5py.File(path, "r+") as file:
        del file["episode_0/actions"]
        file["episode_0/actions"] = h5py.ExternalLink("/etc/passwd", "/x")
    with pytest.raises(WorldlineError, match="points elsewhere"):
        read(path)
    with h5py.File(path, "r+") as file:
        del file["episode_0/actions"], file["episode_0/observations"]
        file["episode_0/actions"] = np.zeros(6)
        file.create_dataset("episode_0/observations", (1 << 20, 1000, 1000), np.uint8, chunks=(4000, 1000, 1000))
    with pytest.raises(WorldlineError, match=r"lies in chunks of .4000, 1000, 1000., at most 268,435,456 bytes"):
        read(path)


def test_screens_without_their_frame_skip_are_taken_at_4_and_a_plain_zip_is_no_episode(tmp_path) -> None:
    found = read(write(tmp_path / "set", [episode(3, frame=(210, 160, 3))], "npz"))
    assert found.frames(0, 3).shape == (3, 84, 84) and "last screen of a step alone" in found.facts["frames"]
    (tmp_path / "x.zip").write_bytes(zipfile_bytes())
    with pytest.raises(UsageError, match=r"is no HDF5 file, and is no .npz file"):
        format_of(tmp_path / "x.zip")


def zipfile_bytes() -> bytes:
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w") as archive:
        archive.writestr("a.txt", "a")
    return file.getvalue()


@pytest.mark.slow
def test_memory_stays_small_whatever_the_archive_inflates_to(tmp_path) -> None:
    """1.2 GB of RGB screens in one archive, in a process of its own."""
    arrays = episode(12_000, frame=(1, 1)) | {"observations": np.zeros((12_000, 210, 160, 3), np.uint8)}
    path = write(tmp_path / "set", [arrays | {"actions": np.zeros(12_000, int)}], "npz", frame_skip=1)
    program = "import sys; from pipelines.cli import run; code = run(sys.argv[1:]); peak = 'VmHWM'; "
    program += "print(*(line for line in open('/proc/self/status') if line.startswith(peak))); sys.exit(code)"
    ask = [sys.executable, "-c", program, "import", "trajectories", str(path), "--game", "Freeway"]
    home = {"WORLDLINE_HOME": str(tmp_path / "home"), "OMP_NUM_THREADS": "1"}
    done = subprocess.run(ask, capture_output=True, text=True, timeout=200, cwd=ROOT, env=home)
    assert done.returncode == 0, done.stderr
    assert int(done.stdout.split()[-2]) < 400 << 10  # kB
