"""Event files that TensorBoard itself reads, one a run however often it was resumed."""

from pathlib import Path

from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from pipelines.training.metrics import FOLDER, Metrics


def row(step: int) -> dict:
    return {"phase": "world", "step": step, "seconds": step / 4, "observations": 1.0 / step}


def seen(folder: Path) -> list[tuple[int, float]]:
    events = EventAccumulator(str(folder / FOLDER)).Reload()
    assert events.Tags()["scalars"] == ["world/observations"]
    return [(event.step, round(event.value, 6)) for event in events.Scalars("world/observations")]


def test_tensorboard_reads_every_number(tmp_path: Path) -> None:
    with Metrics.open(tmp_path / "metrics.jsonl") as metrics:
        for step in (1, 2, 4):
            metrics.write(row(step))
        assert seen(tmp_path) == [(1, 1.0), (2, 0.5), (4, 0.25)], "while the run goes on"


def test_a_resumed_run_has_one_curve(tmp_path: Path) -> None:
    for position, steps in ((0, (1, 2, 4)), (2, (4, 5))):
        with Metrics.open(tmp_path / "metrics.jsonl", position) as metrics:
            for step in steps:
                metrics.write(row(step))
    assert seen(tmp_path) == [(1, 1.0), (2, 0.5), (4, 0.25), (5, 0.2)]
    assert len(list((tmp_path / FOLDER).iterdir())) == 1
    (tmp_path / "artefact").mkdir()
    metrics.copy_to(tmp_path / "artefact" / "metrics.jsonl")
    assert seen(tmp_path / "artefact") == seen(tmp_path)
