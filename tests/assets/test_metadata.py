"""What the UI shows of an artefact."""

import base64
import io
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from assets.metadata import (
    FILES_SHOWN,
    PICTURE_BYTES,
    data_uri,
    describe,
    film_uri,
    flat,
    picture,
    pictures,
    table,
)
from pipelines.sources.dqn_replay.log_order import Continuity, LogFacts, to_table
from pipelines.sources.source import FACTS
from pipelines.store.artefact import Draft, Report
from pipelines.store.store import Store
from tests.fakes import fill, make, spec

SIGHT = {"Freeway": {"codes_used": 60, "reconstruction_error": 0.01, "mean_frame_error": 0.5, "copy_last_error": 0.25}}


def _noise(path: Path, size: tuple[int, int]) -> None:
    pixels = np.random.default_rng(0).integers(0, 256, (*size, 3), dtype=np.uint8)
    Image.fromarray(pixels).save(path)


def _trained(store: Store) -> Report:
    parent = make(store, "trajectories")

    def build(draft: Draft) -> None:
        fill()(draft)
        _noise(draft.path("sheet_Freeway.png"), (64, 64))
        draft.metrics |= {"losses": {"world": 1.5}, "sight": SIGHT, "note": "text is not plotted", "ok": True}
        draft.counts["steps"] = 4

    return store.produce(spec("pretrained", parents=(parent.ref,)), build)


def test_address_parents_files_and_numbers_are_shown(store: Store) -> None:
    report = _trained(store)
    shown = describe(report)
    artefact = report.artefact
    assert shown["address"] == str(artefact.ref)
    assert shown["path"].value == str(artefact.folder)
    assert shown["manifest_sha256"] == artefact.digest
    assert shown["skipped"] is False
    assert shown["result"] == str(report)
    assert shown["count/steps"] == 4
    assert shown["losses/world"].value == 1.5
    assert artefact.manifest.parents[0].ref in shown["parents"].value
    assert artefact.manifest.files[0].sha256[:16] in shown["files"].value
    assert "| seconds |" in shown["cost"].value
    assert "note" not in shown
    assert "ok" not in shown


def test_a_checkpoint_of_an_experiment_says_how_it_is_played(store: Store) -> None:
    made = store.produce(spec("pretrained"), lambda draft: (draft.path("agent.json").write_text("{}"), None)[1])
    assert describe(made, "demo-0a1b2c3d")["play"].value == "`worldline play demo-0a1b2c3d`"
    assert "play" not in describe(made)
    assert "play" not in describe(_trained(store), "demo-0a1b2c3d"), "no checkpoint"


def test_a_root_says_that_it_has_no_parents(store: Store) -> None:
    made = store.produce(spec("collected_replay"), fill())
    assert describe(made)["parents"].value == "none: a root"


def test_sight_is_a_table_with_a_row_per_game(store: Store) -> None:
    shown = describe(_trained(store))
    assert shown["sight"].value.splitlines() == [
        "| game | codes used | reconstruction error | mean frame error | copy last error |",
        "| --- | --- | --- | --- | --- |",
        "| Freeway | 60 | 0.01 | 0.5 | 0.25 |",
    ]
    assert not [name for name in shown if name.startswith("sight/")]


def test_shares_of_videos_are_a_table_with_a_row_per_task(store: Store) -> None:
    shares = {"push": {"videos": 2, "frames": 80, "share": 0.5, "mean_length": 40.0, "motion": 0.61, "success": 1.0}}
    shown = describe(store.produce(spec("videos", "scripted"), fill(metrics={"shares": shares, "motion": 0.61})))
    assert shown["shares"].value.splitlines()[0] == "| of | videos | frames | share | mean length | motion | success |"
    assert shown["shares"].value.splitlines()[2] == "| push | 2 | 80 | 0.5 | 40 | 0.61 | 1 |"
    assert shown["motion"].value == 0.61 and not [name for name in shown if name.startswith("shares/")]


def test_returns_are_a_table_with_a_row_per_player(store: Store) -> None:
    metrics = {"greedy": {"mean": 17.25, "episodes": 8}, "random": {"mean": 0.0}, "behaviour": {"mean": None}}
    shown = describe(store.produce(spec("scores"), fill(metrics=metrics)))
    assert shown["returns"].value.splitlines()[2:] == [
        "| greedy | 17.25 | 8 |",
        "| random | 0 | - |",
        "| behaviour | - | - |",
    ]
    assert shown["greedy/mean"].value == 17.25
    assert "behaviour/mean" not in shown


def test_pictures_are_small_data_uris(store: Store, tmp_path: Path) -> None:
    shown = describe(_trained(store))["picture/sheet_Freeway"].value
    assert shown.startswith("![sheet_Freeway](data:image/png;base64,")
    _noise(tmp_path / "large.png", (450, 350))  # height, width
    raw = base64.b64decode(data_uri(tmp_path / "large.png").partition(",")[2])
    assert len(raw) <= PICTURE_BYTES
    with Image.open(io.BytesIO(raw)) as picture:
        assert picture.format == "PNG"
        assert picture.width / picture.height == pytest.approx(350 / 450, rel=0.1)


def test_a_wide_picture_fits_the_window_of_the_ui(tmp_path: Path) -> None:
    Image.new("RGB", (2_000, 500)).save(tmp_path / "wide.png")
    with Image.open(io.BytesIO(base64.b64decode(data_uri(tmp_path / "wide.png").partition(",")[2]))) as picture:
        assert picture.size == (840, 210)


@pytest.mark.slow
def test_films_are_small_data_uris_that_go_on_for_ever(store: Store, tmp_path: Path) -> None:
    pixels = np.random.default_rng(0).integers(0, 256, (40, 146, 262, 3), dtype=np.uint8)
    first, *more = map(Image.fromarray, pixels)
    first.save(tmp_path / "film.gif", save_all=True, append_images=more, duration=60, loop=0)
    raw = base64.b64decode(film_uri(tmp_path / "film.gif").partition("data:image/gif;base64,")[2])
    assert len(raw) <= PICTURE_BYTES < (tmp_path / "film.gif").stat().st_size
    with Image.open(io.BytesIO(raw)) as film:
        assert (film.format, film.n_frames, film.info["loop"]) == ("GIF", 20, 0)  # type: ignore[attr-defined]
        assert film.info["duration"] == 120, "as fast as the game"
    assert picture(tmp_path / "film.gif").value.startswith("![film](data:image/gif;base64,")


def test_a_film_of_one_picture_is_shown(tmp_path: Path) -> None:
    Image.new("L", (30, 20)).save(tmp_path / "one.gif")
    raw = base64.b64decode(film_uri(tmp_path / "one.gif").partition(",")[2])
    with Image.open(io.BytesIO(raw)) as film:
        assert film.size == (15, 10)


def test_an_artefacts_own_pictures_come_before_those_of_its_checkpoints_and_newer_ones_first() -> None:
    kept = [f"checkpoints/step-{step}/{name}" for step in (5, 40, 100) for name in ("sheet_P.png", "film_P.gif")]
    found = pictures([*kept, "agent.json", "curves.png", "film_P.gif", "sheet_P.png", "dream_P.gif"])
    assert list(found) == [
        "curves", "sheet_P", "step-100/sheet_P", "step-40/sheet_P", "step-5/sheet_P",
        "dream_P", "film_P", "step-100/film_P", "step-40/film_P", "step-5/film_P",
    ]  # fmt: skip
    assert found["step-40/film_P"] == "checkpoints/step-40/film_P.gif"
    many = pictures([f"checkpoints/step-{step}/sheet_P.png" for step in range(20)])
    assert next(iter(many)) == "step-19/sheet_P" and len(many) == 6


def test_many_files_are_cut_short(store: Store) -> None:
    def build(draft: Draft) -> None:
        for number in range(FILES_SHOWN + 5):
            draft.path(f"chunk/{number:03}").write_text("x")

    files = describe(store.produce(spec("tokens"), build))["files"].value
    assert files.endswith("and 5 more")
    assert files.count("chunk/") == FILES_SHOWN


def test_numbers_of_nested_metrics_by_path() -> None:
    assert flat({"a": {"b": 1, "c": {"d": 2.5}}, "e": None, "f": [1], "g": False}) == {"a/b": 1.0, "a/c/d": 2.5}


def test_table_formats_numbers() -> None:
    assert table(("a", "b"), [(1_234_567, 0.123456), (None, 12_345.6)]).splitlines()[2:] == [
        "| 1,234,567 | 0.1235 |",
        "| - | 12,346 |",
    ]


def test_the_evidence_of_a_replay_is_a_table_with_a_row_per_log(store: Store) -> None:
    def build(draft: Draft) -> None:
        logs = [LogFacts(0, Continuity.FIRST, add_count=999), LogFacts(1, Continuity.GAP, add_count=2999, missing=1000)]
        to_table(logs).to_parquet(draft.path(FACTS), index=False)

    shown = describe(store.produce(spec("replay"), build))["evidence"].value.splitlines()
    assert shown[0].startswith("| checkpoint | border | add count |") and len(shown) == 4
    assert shown[3].startswith("| 1 | gap | 2,999 |")
