"""`worldline parity` on the golden files: a line an entry, exit codes, and one line for what is no golden file."""

import io
import json
import zipfile
from pathlib import Path

import numpy as np
import pytest

from pipelines.cli import run
from pipelines.environments.atari.games import GAMES, minimal_actions
from pipelines.tools import parity
from tests.models.parity.golden_files import FILES, INPUTS, JOWA, Arrays, load, reduced


def test_the_smallest_files_of_each_family_are_there() -> None:
    families = {"delta", "dreamerv2", "iris", "jowa", "rem", "simulus", "thesis"}
    assert {path.stem.partition("_")[0] for path in FILES} == families
    assert sum(path.stat().st_size for path in FILES) < 20e6


def test_a_golden_file_passes(capsys: pytest.CaptureFixture) -> None:
    path = next(path for path in FILES if path.stem == "dreamerv2")  # the quickest
    assert run(["parity", str(path)]) == 0
    *lines, last = capsys.readouterr().out.splitlines()
    with np.load(path, allow_pickle=False) as file:
        outputs = [name for name in file.files if not name.startswith(INPUTS)]
    assert [line.split()[0] for line in lines] == outputs
    assert all(line.endswith("  ok") for line in lines)
    assert last == f"{len(outputs)} ok, 0 failed"


@pytest.mark.parametrize("path", [path for path in FILES if path.stem.startswith("jowa")], ids=lambda path: path.stem)
def test_the_originals_games_are_ours(path: Path) -> None:
    with np.load(path, allow_pickle=False) as file:
        games = json.loads(str(file["meta/config"]))["games"]
    assert {name: GAMES[game["id"]] for name, game in games.items()} == {name: name for name in games}
    assert all(game["legal"] == list(minimal_actions(name)) for name, game in games.items())


@pytest.fixture(scope="module")
def arrays() -> Arrays:
    """The quickest stage alone."""
    return reduced(load(JOWA), ("stage1",))


def save(folder: Path, arrays: Arrays) -> Path:
    path = folder / "file.npz"
    np.savez(path, **arrays)  # type: ignore[arg-type]
    return path


@pytest.mark.parametrize("name", [pytest.param("forward/logits_rewards", marks=pytest.mark.slow), "loss/stage1/total"])
def test_one_changed_number_fails_its_entry_alone(
    arrays: Arrays, tmp_path: Path, capsys: pytest.CaptureFixture, name: str
) -> None:
    changed = np.array(arrays[name])
    changed.reshape(-1)[0] += 0.01 * np.abs(changed).max()
    assert run(["parity", str(save(tmp_path, arrays | {name: changed}))]) == 1
    out = capsys.readouterr().out
    assert [line.split()[0] for line in out.splitlines() if line.endswith("FAIL")] == [name]
    assert out.splitlines()[-1].endswith(" ok, 1 failed")


def test_what_is_missing_and_what_is_unknown_fails_and_is_named(
    arrays: Arrays, tmp_path: Path, capsys: pytest.CaptureFixture
) -> None:
    strangers = {name: np.zeros(1) for name in ("seed", "batch/weather", "forward/novelty", "weights/gpt/a")}
    lacking = {name: array for name, array in arrays.items() if name != "forward/hidden"}
    assert run(["parity", str(save(tmp_path, lacking | strangers))]) == 1
    *lines, last = capsys.readouterr().out.splitlines()
    failed = {line.split()[0]: line.partition("FAIL: ")[2] for line in lines if "FAIL" in line}
    assert failed.pop("forward/hidden") == "the file lacks it"
    assert failed == dict.fromkeys(strangers, "nothing here reads or computes it")
    assert last.endswith(" ok, 5 failed, of them 5 not compared")


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("batch/actions", None),
        ("batch/actions", np.full((4, 8), "up")),
        ("batch/envs", np.full(4, np.nan)),
        ("batch/envs", np.array([3, 37, 99, 3])),
        ("batch/rewards", np.zeros((2, 3), np.float32)),
        ("weights/tokenizer/encoder.conv_in.weight", np.zeros((0, 1, 3, 3), np.float32)),
        ("weights/jowa/pos_emb.weight", np.zeros((7, 32), np.float32)),
        ("weights/jowa/pos_emb.weight", None),
        ("weights/jowa/pos_emb.weight", np.full((296, 32), np.nan, np.float32)),
        ("meta/family", np.array("psychic")),
        ("meta/config", np.array("{}")),
        ("meta/config", np.array('{"tokenizer": [], "transformer": 3}')),
    ],
)
def test_a_damaged_input_is_one_line(
    arrays: Arrays, tmp_path: Path, capsys: pytest.CaptureFixture, name: str, value: np.ndarray | None
) -> None:
    damaged = {entry: array for entry, array in (arrays | {name: value}).items() if array is not None}
    assert run(["parity", str(save(tmp_path, damaged))]) == 2
    error = capsys.readouterr().err
    assert error.count("\n") == 1 and "file.npz cannot be checked: " in error
    assert (
        "give a whole golden file of a family known here (jowa, iris, rem, simulus, thesis, delta_iris, wmlib)" in error
    )


def test_damaged_and_swelling_archives_are_one_line(
    arrays: Arrays, tmp_path: Path, capsys: pytest.CaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "packed.npz"
    np.savez_compressed(path, **{name: array for name, array in arrays.items() if "tokenizer" in name})
    whole = path.read_bytes()
    for start in range(100, len(whole), len(whole) // 7):
        path.write_bytes(whole[:start] + bytes(200) + whole[start + 200 :])
        assert run(["parity", str(path)]) == 2
        assert capsys.readouterr().err.count("\n") == 1
    path.write_bytes(whole)
    monkeypatch.setattr(parity, "MOST_BYTES", 1000)
    assert run(["parity", str(path)]) == 2
    assert "bytes unpacked, 1000 at most" in capsys.readouterr().err


def test_an_array_that_claims_to_be_vast_is_one_line(tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    header = (
        np.lib.format.magic(1, 0)
        + b"\x76\x00"
        + b"{'descr': '<f8', 'fortran_order': False, 'shape': (99999999999999,)}"
    )
    path = tmp_path / "vast.npz"
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("x.npy", header.ljust(127) + b"\n")
    assert run(["parity", str(path)]) == 2
    error = capsys.readouterr().err
    assert error.count("\n") == 1 and "is no readable .npz file" in error


def _npz(**arrays: np.ndarray) -> bytes:
    buffer = io.BytesIO()
    np.savez(buffer, **arrays)
    return buffer.getvalue()


def _open_header() -> bytes:
    return _npz(x=np.zeros(3)).replace(b"(3,)", b"(3,(")


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (_open_header(), "is no readable .npz file"),
        (b"no zip at all", "is no readable .npz file"),
        (b"", "is no readable .npz file"),
        (JOWA.read_bytes()[:5000], "is no readable .npz file"),
        (_npz(), "cannot be checked"),
        (_npz(x=np.zeros(3)), "cannot be checked"),
        (_npz(x=np.array([{}], dtype=object)), "is no readable .npz file"),
        (None, "is no readable .npz file"),
    ],
)
def test_what_is_no_golden_file_is_one_line(
    tmp_path: Path, capsys: pytest.CaptureFixture, content: bytes | None, words: str
) -> None:
    path = tmp_path / "file.npz"
    if content is not None:
        path.write_bytes(content)
    assert run(["parity", str(path)]) == 2
    error = capsys.readouterr().err
    assert error.count("\n") == 1
    assert str(path) in error
    assert words in error


def test_a_text_is_no_golden_file_and_nobody_is_told_to_unpickle_it(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "notes.npz").write_text("not arrays")
    assert run(["parity", str(tmp_path / "notes.npz")]) == 2
    said = capsys.readouterr().err
    assert "is no readable .npz file (it is no archive of arrays): give a golden file" in said and "pickle" not in said


def test_a_plain_array_is_no_golden_file(tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    path = tmp_path / "array.npy"
    np.save(path, np.zeros(3))
    assert run(["parity", str(path)]) == 2
    assert "array.npy is no readable .npz file (a single array)" in capsys.readouterr().err
