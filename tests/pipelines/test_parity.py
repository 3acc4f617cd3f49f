"""`worldline parity` on the golden files: exit codes, and an honest word on what is not covered."""

import io
from pathlib import Path

import numpy as np
import pytest

from pipelines.cli import run
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
        ("forward/tokens", np.zeros((4, 100), np.int64)),
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
