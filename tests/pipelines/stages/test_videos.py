"""The stage `videos` on real, tiny folders: what it writes, says and refuses, and that a plan finds it again."""

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from pipelines.cli import run as command
from pipelines.episodes.trajectories import Trajectories
from pipelines.errors import UsageError, WorldlineError
from pipelines.graph.plan import Plan, Step
from pipelines.graph.recipe import Recipe
from pipelines.recipes.registry import RECIPES, recipe
from pipelines.stages import videos
from pipelines.stages.videos import VideosConfig, identified
from pipelines.store.artefact import Artefact
from pipelines.store.store import Store
from tests.pipelines.episodes.videos.made_videos import wandering, write_frames, write_list, write_npz

LENGTHS = (30, 26, 9, 41)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Four archives, the third too short."""
    for seed, length in enumerate(LENGTHS):
        write_npz(tmp_path / "rlbench", length, seed)
    return tmp_path / "rlbench"


def made(config: VideosConfig, store: Store) -> Artefact:
    return videos.run(identified(config), store).artefact


def checks(artefact: Artefact) -> dict[str, tuple[bool, bool, str]]:
    return {each.name: (each.passed, each.blocking, each.detail) for each in artefact.manifest.checks}


def test_archives_become_one_file_with_what_is_known_of_each(folder: Path, store: Store) -> None:
    found = made(VideosConfig(path=str(folder)), store)
    data, entries = Trajectories(found.path("videos.h5")), json.loads(found.path("videos.json").read_text())
    assert np.diff(data.episode_starts).tolist() == [30, 26, 41]
    assert np.array_equal(data.frames(30, 56), wandering(26, 1))
    assert [entry["frames"] for entry in entries] == [30, 26, 41] and entries[0]["source"] == "npz"
    manifest = found.manifest
    assert manifest.counts == {"videos": 3, "frames": 97, "too_short": 1, "duplicates": 0}
    assert manifest.metrics["mean_length"] == pytest.approx(97 / 3, abs=0.01) and manifest.metrics["motion"] > 0.5
    assert manifest.metrics["too_short"] == ["20260101T000000-00000002-8"]
    (root,) = manifest.roots
    assert (root["source"], root["path"], root["videos"]) == ("npz", str(folder), 4)
    assert root["sha256"] == manifest.config["content"] and "path" not in manifest.config
    assert all(passed for passed, _, _ in checks(found).values()) and set(checks(found)) == set(VideosConfig.CHECKS)
    assert found.path("videos.png").stat().st_size > 1000


def test_a_set_is_known_by_its_content_and_found_without_its_files(folder: Path, store: Store) -> None:
    config = identified(VideosConfig(path=str(folder)))
    first = videos.run(config, store)
    moved = folder.rename(folder.with_name("elsewhere"))
    assert identified(replace(config, path=str(moved))).spec() == config.spec()
    again = videos.run(replace(config, path="", workers=1), store)
    assert again.skipped and again.artefact.digest == first.artefact.digest
    write_npz(moved, 33, 9)
    assert identified(replace(config, path=str(moved))).content != config.content


def test_the_number_of_readers_changes_no_byte(folder: Path, tmp_path: Path) -> None:
    one, many = (
        made(VideosConfig(path=str(folder), workers=workers), Store(tmp_path / str(workers))) for workers in (1, 3)
    )
    assert one.manifest.files == many.manifest.files and one.manifest.counts == many.manifest.counts


def test_frames_with_their_list_and_classes_become_the_same_kind_of_file(tmp_path: Path, store: Store) -> None:
    root = tmp_path / "frames"
    root.mkdir()
    write_list(root, *(write_frames(root, f"v{n}", 26, n, label) for n, label in enumerate((93, 94, 7))))
    found = made(VideosConfig(source="frames", path=str(root), classes=(93, 94)), store)
    entries = json.loads(found.path("videos.json").read_text())
    assert [(entry["name"], entry["class"]) for entry in entries] == [("v0", 93), ("v1", 94)]
    (written,) = found.manifest.roots
    assert written["listed"] == 3 and len(written["list_sha256"]) == 64
    every = made(VideosConfig(source="frames", path=str(root)), store)
    assert every.ref != found.ref and every.manifest.counts["videos"] == 3


def test_another_content_than_named_leaves_nothing_behind(folder: Path, store: Store) -> None:
    config = identified(VideosConfig(path=str(folder)))
    write_npz(folder, 33, 9)
    with pytest.raises(WorldlineError, match="it is another set, import it as such"):
        videos.run(config, store)
    assert not store.holds(config.spec().ref)


def test_odd_sets_are_judged_and_hopeless_ones_block(tmp_path: Path, store: Store) -> None:
    for seed in range(3):
        write_npz(tmp_path / "v", 30, seed)
    write_npz(tmp_path / "v", 30, 0, name="again.npz")
    write_npz(tmp_path / "v", 30, 5, name="still.npz", image=np.repeat(wandering(1), 30, 0))
    found = checks(made(VideosConfig(path=str(tmp_path / "v")), store))
    assert found["no_duplicates"][:2] == (False, False) and "1 of 5 videos are there twice" in found["no_duplicates"][2]
    assert found["frames_move"][2] == "1 of 5 videos show no motion (still)"
    for name in ("black", "dark", "night", "coal", "soot", "ink", "pitch"):
        write_npz(tmp_path / "v", 30, name=f"{name}.npz", image=np.zeros((30, 64, 64, 3), np.uint8))
    blank = made(VideosConfig(path=str(tmp_path / "v")), store)
    assert checks(blank)["frames_show"][:2] == (False, True)
    with pytest.raises(WorldlineError, match="failed its check 'frames_show'"):
        store.open(blank.ref)


@pytest.mark.parametrize(
    ("changes", "why"),
    [
        ({"min_frames": 99}, r"All 4 videos of .* have fewer than 99 frames: lower videos\.min_frames"),
        (
            {"most_bytes": 10**6},
            r"97 frames .* are 1\.2 MB unpacked, videos\.most_bytes allows 1\.0 MB: raise it to",
        ),
        ({"path": ""}, "are not in this store: bring them with 'worldline videos import FOLDER'"),
    ],
)
def test_what_cannot_be_made_is_said_before_work(
    folder: Path, store: Store, changes: dict[str, object], why: str
) -> None:
    config = replace(identified(VideosConfig(path=str(folder))), **changes)  # type: ignore[arg-type]
    with pytest.raises(UsageError, match=why):
        videos.run(config, store)


def test_settings_of_another_source_are_refused() -> None:
    with pytest.raises(UsageError, match="say nothing to source=npz"):
        VideosConfig(classes=(93,))
    with pytest.raises(UsageError, match=r"videos\.source 'webm' is unknown"):
        VideosConfig(source="webm")  # type: ignore[arg-type]


def test_a_recipe_with_videos_has_the_stage_and_no_other_recipe_does() -> None:
    with_videos = Recipe("v", games=("Pong",), stages=(VideosConfig(content="0" * 64),))
    plan = Plan(with_videos)
    assert plan.stages == ("videos",) and plan.steps() == [Step("videos")]
    assert str(plan.ref(Step("videos"))).startswith("videos/npz/")
    with pytest.raises(UsageError, match=r"names no videos: run 'worldline videos import FOLDER'"):
        Plan(with_videos.but(videos=VideosConfig())).ref(Step("videos"))
    assert [name for name in RECIPES if recipe(name).template("videos") is not None] == []


def test_the_commands_import_a_folder_and_show_it(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("WORLDLINE_HOME", str(tmp_path / "home"))
    assert command(["videos", "import", str(folder), "--min-frames", "20"]) == 0
    said = capsys.readouterr().out
    content = identified(VideosConfig(path=str(folder))).content
    assert f"--set videos.source=npz --set videos.content={content} --set videos.min_frames=20" in said
    assert command(["videos", "show", "videos", "--out", str(tmp_path / "sheet.png"), "--rows", "2"]) == 0
    assert "2 of 3 videos of videos/npz/" in capsys.readouterr().out and (tmp_path / "sheet.png").is_file()
    assert command(["videos", "show", "videos", "--out", str(tmp_path / "no" / "sheet.png")]) == 2
    assert command(["videos", "import", str(tmp_path / "absent")]) == 2
    assert command(["videos", "import", str(folder), "--classes", "x"]) == 2
    assert "Traceback" not in capsys.readouterr().err
