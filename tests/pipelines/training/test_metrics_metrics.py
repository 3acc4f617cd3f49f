"""metrics.jsonl: whole rows only, none twice after a resume."""

from pathlib import Path

import pytest

from pipelines.training.metrics import MetricsLog, final, read


def test_rows_come_back_in_order(tmp_path: Path) -> None:
    log = MetricsLog(tmp_path / "metrics.jsonl")
    rows = [{"phase": "world", "step": step, "seconds": 0.5, "loss": 1 / step} for step in (1, 2, 3)]
    for row in rows:
        log.write(row)
    assert read(log.path) == rows


def test_a_resumed_run_drops_what_it_writes_again_and_the_half_written_line(tmp_path: Path) -> None:
    path = tmp_path / "metrics.jsonl"
    path.write_text('{"step": 1}\n{"step": 2}\n{"step": 3}\n{"ste')
    MetricsLog(path, position=2).write({"step": 3, "again": True})
    assert read(path) == [{"step": 1}, {"step": 2}, {"step": 3, "again": True}]


def test_a_fresh_run_drops_everything(tmp_path: Path) -> None:
    path = tmp_path / "metrics.jsonl"
    path.write_text('{"step": 1}\n')
    MetricsLog(path)
    assert path.read_text() == ""


def test_final_is_the_mean_of_each_losss_last_values() -> None:
    rows = [{"phase": "a", "step": step, "seconds": 1.0, "loss": float(step)} for step in range(1, 13)]
    rows.append({"phase": "b", "step": 13, "seconds": 1.0, "other": 0.25})
    assert final(rows) == {"loss": 7.5, "other": 0.25}  # 3..12
    assert final(rows, last=2) == {"loss": 11.5, "other": 0.25}
    assert final([]) == {}


def test_a_missing_file_is_not_silently_empty(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError):
        read(tmp_path / "none.jsonl")
