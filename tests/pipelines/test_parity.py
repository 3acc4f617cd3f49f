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
    states = [line.split("  ")[-1].strip() for line in lines]
    counts = {state: states.count(state) for state in ("ok", "FAIL", "not covered")}
    assert sum(counts.values()) == len(lines)
    assert counts["FAIL"] == 0
    assert counts["ok"] > 40
    assert last == f"{counts['ok']} ok, 0 failed, {counts['not covered']} not covered"
    sections = {line.split()[0].split("/")[0] for line, state in zip(lines, states, strict=True) if state == "ok"}
    assert {"forward", "loss"} <= sections
    for line, state in zip(lines, states, strict=True):
        if "/mcts" in line or line.startswith("imagine/"):
            assert state == "not covered", line


def test_two_golden_files_are_there() -> None:
    assert len(GOLDEN) == 2


@pytest.fixture(scope="module")
def arrays() -> dict[str, np.ndarray]:
    with np.load(GOLDEN[0], allow_pickle=False) as file:
        return {name: file[name] for name in file.files}


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
