"""Event files that TensorBoard itself reads, one a run however often it was resumed."""

from pathlib import Path

from PIL import Image
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from pipelines.training.metrics import FOLDER, PICTURES, Metrics, forget_pictures, pictures_in, show_pictures


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


def a_film(folder: Path, shade: int) -> dict[str, Path]:
    """A picture and a film, by name."""
    folder.mkdir(exist_ok=True)
    still, other = (Image.new("L", (6, 4), each) for each in (shade, 255 - shade))
    still.save(folder / "sheet_Pong.png")
    still.save(folder / "film_Pong.gif", save_all=True, append_images=[other], loop=0)
    (folder / "agent.json").write_text("{}")
    return pictures_in(folder)


def test_tensorboard_reads_pictures_and_films_step_by_step(tmp_path: Path) -> None:
    for step in (9, 10, 200):
        show_pictures(tmp_path, step, a_film(tmp_path / "kept", step))
    forget_pictures(tmp_path, 10)
    show_pictures(tmp_path, 10, a_film(tmp_path / "kept", 77))
    show_pictures(tmp_path, 300, {})
    events = EventAccumulator(str(tmp_path / FOLDER / PICTURES)).Reload()
    assert events.Tags()["images"] == ["film_Pong", "sheet_Pong"]
    found = events.Images("film_Pong")
    assert [(event.step, event.width, event.height) for event in found] == [(9, 6, 4), (10, 6, 4)]
    assert found[1].encoded_image_string == (tmp_path / "kept" / "film_Pong.gif").read_bytes(), "the newer one"
    assert events.Images("sheet_Pong")[0].encoded_image_string.startswith(b"\x89PNG")
    assert not list((tmp_path / FOLDER / PICTURES).glob(".*"))
    with Metrics.open(tmp_path / "metrics.jsonl") as metrics:
        metrics.write(row(1))
    (tmp_path / "artefact").mkdir()
    metrics.copy_to(tmp_path / "artefact" / "metrics.jsonl")
    assert seen(tmp_path / "artefact") == [(1, 1.0)]
    assert EventAccumulator(str(tmp_path / "artefact" / FOLDER / PICTURES)).Reload().Tags()["images"]


def test_pictures_of_many_steps_are_thinned_out_to_the_first_the_last_and_some_between(tmp_path: Path) -> None:
    files = a_film(tmp_path / "kept", 7)
    for step in range(1, 101):
        show_pictures(tmp_path, step, files)
    events = EventAccumulator(str(tmp_path / FOLDER / PICTURES), size_guidance={"images": 0}).Reload()
    steps = [event.step for event in events.Images("film_Pong")]
    assert steps[0] == 1 and steps[-1] == 100 and 10 < len(steps) <= 20 and steps == sorted(steps)
