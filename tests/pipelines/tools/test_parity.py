"""`worldline parity` on the golden files: exit codes, and an honest word on what is not covered."""

import io
import zipfile
from pathlib import Path

import numpy as np
import pytest

from pipelines.cli import run
from pipelines.tools import parity
from tests.fakes import ROOT

GOLDEN = sorted((ROOT / "tests" / "golden").glob("*.npz"))


@pytest.mark.parametrize("path", GOLDEN, ids=lambda path: path.stem)
def test_golden_files_pass(path: Path, capsys: pytest.CaptureFixture) -> None:
    assert run(["parity", str(path)]) == 0
    *lines, last = capsys.readouterr().out.splitlines()
    with np.load(path, allow_pickle=False) as file:
        inputs = ("weights/", "batch/", "tokenizer/input", "forward/tokens", "forward/games")
        outputs = {name for name in file.files if not name.startswith(inputs) and not name.endswith("/context")}
    assert {line.split()[0] for line in lines} == outputs
    assert all(line.endswith("  ok") for line in lines)
    assert last == f"{len(outputs)} ok, 0 failed, 0 not covered"


def test_what_is_not_covered_is_named_with_the_reason(
    arrays: dict[str, np.ndarray], tmp_path: Path, capsys: pytest.CaptureFixture
) -> None:
    path = tmp_path / "novel.npz"
    np.savez(path, **(arrays | {"forward/novelty": np.zeros(1), "tokenizer/novelty": np.zeros(1)}))
    assert run(["parity", str(path)]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert [line.split()[0] for line in lines if "not covered: nothing of this name" in line] == [
        "tokenizer/novelty",
        "forward/novelty",
    ]
    assert lines[-1].endswith("0 failed, 2 not covered")


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("batch/actions", np.full((4, 8), "up")),
        ("batch/games", np.full(4, np.nan)),
        ("batch/rewards", np.zeros((2, 3), np.float32)),
        ("forward/games", np.array([3, 37, 49, 77])),
        ("loss/stage2/info/alpha", np.zeros(0)),
        ("weights/tokenizer/encoder.conv_in.weight", np.zeros((0, 1, 3, 3), np.float32)),
        ("weights/jowa/pos_emb.weight", np.zeros((7, 32), np.float32)),
    ],
)
def test_an_input_of_another_type_or_shape_is_one_line(
    arrays: dict[str, np.ndarray], tmp_path: Path, capsys: pytest.CaptureFixture, name: str, value: np.ndarray
) -> None:
    path = tmp_path / "changed.npz"
    np.savez(path, **(arrays | {name: value}))
    assert run(["parity", str(path)]) == 2
    error = capsys.readouterr().err
    assert error.count("\n") == 1 and "is no golden file" in error


@pytest.mark.parametrize("part", ["tokenizer", "jowa"])
def test_half_a_file_is_checked_by_half(
    arrays: dict[str, np.ndarray], tmp_path: Path, capsys: pytest.CaptureFixture, part: str
) -> None:
    ours = {name: array for name, array in arrays.items() if ("tokenizer" in name) == (part == "tokenizer")}
    path = tmp_path / "half.npz"
    np.savez_compressed(path, **ours)
    assert run(["parity", str(path)]) == 0
    inputs = ("weights/", "batch/", "tokenizer/input", "forward/tokens", "forward/games")
    outputs = {name for name in ours if not name.startswith(inputs)}
    assert capsys.readouterr().out.splitlines()[-1] == f"{len(outputs)} ok, 0 failed, 0 not covered"


def test_nothing_in_a_file_is_left_out_in_silence(
    arrays: dict[str, np.ndarray], tmp_path: Path, capsys: pytest.CaptureFixture
) -> None:
    strangers = {name: np.zeros(1) for name in ("seed", "extra/context", "batch/weather", "forwards", "weights/gpt/a")}
    path = tmp_path / "strangers.npz"
    np.savez(path, **{name: array for name, array in arrays.items() if "tokenizer" in name}, **strangers)
    assert run(["parity", str(path)]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert {line.split()[0] for line in lines if "not covered: nothing of this name" in line} == set(strangers)
    assert lines[-1].endswith("0 failed, 5 not covered")


def test_weights_alone_are_no_golden_file(
    arrays: dict[str, np.ndarray], tmp_path: Path, capsys: pytest.CaptureFixture
) -> None:
    path = tmp_path / "weights.npz"
    np.savez(path, **{name: array for name, array in arrays.items() if name.startswith("weights/")})
    assert run(["parity", str(path)]) == 2
    assert "records no output" in capsys.readouterr().err


def test_damaged_and_swelling_archives_are_one_line(
    arrays: dict[str, np.ndarray], tmp_path: Path, capsys: pytest.CaptureFixture, monkeypatch: pytest.MonkeyPatch
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


def test_a_game_that_is_none_is_one_line(
    arrays: dict[str, np.ndarray], tmp_path: Path, capsys: pytest.CaptureFixture
) -> None:
    path = tmp_path / "games.npz"
    np.savez(path, **(arrays | {"batch/games": np.array([3, 37, 99, 3])}))
    assert run(["parity", str(path)]) == 2
    error = capsys.readouterr().err
    assert error.count("\n") == 1 and "is no golden file" in error


def test_two_golden_files_are_there() -> None:
    assert len(GOLDEN) == 2


@pytest.fixture(scope="module")
def arrays() -> dict[str, np.ndarray]:
    """Without plans and imagination, which take most of the time."""
    with np.load(GOLDEN[0], allow_pickle=False) as file:
        return {name: file[name] for name in file.files if not name.startswith(("plan/", "imagine/"))}


@pytest.mark.parametrize("name", ["forward/logits_rewards", "loss/stage1/total"])
def test_one_changed_number_fails_its_entry_alone(
    arrays: dict[str, np.ndarray], tmp_path: Path, capsys: pytest.CaptureFixture, name: str
) -> None:
    changed = np.array(arrays[name])
    changed.reshape(-1)[0] += 0.01 * np.abs(changed).max()
    path = tmp_path / "changed.npz"
    np.savez(path, **(arrays | {name: changed}))
    assert run(["parity", str(path)]) == 1
    out = capsys.readouterr().out
    assert [line.split()[0] for line in out.splitlines() if line.endswith("FAIL")] == [name]
    assert ", 1 failed, " in out


def _npz(**arrays: np.ndarray) -> bytes:
    buffer = io.BytesIO()
    np.savez(buffer, **arrays)
    return buffer.getvalue()


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (b"no zip at all", "is no readable .npz file"),
        (b"", "is no readable .npz file"),
        (GOLDEN[0].read_bytes()[:5000], "is no readable .npz file"),
        (_npz(), "is no golden file"),
        (_npz(x=np.zeros(3)), "is no golden file"),
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


def test_a_plain_array_is_no_golden_file(tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    path = tmp_path / "array.npy"
    np.save(path, np.zeros(3))
    assert run(["parity", str(path)]) == 2
    assert "array.npy is no readable .npz file (a single array)" in capsys.readouterr().err
