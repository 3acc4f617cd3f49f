"""The stage `videos` on real, tiny folders: what it writes, says and refuses, and that a plan finds it again."""

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from pipelines.cli import run as command
from pipelines.environments.metaworld.game import APV_TASKS
from pipelines.episodes.trajectories import Trajectories
from pipelines.episodes.videos.scripted import Studio, Take
from pipelines.errors import UsageError, WorldlineError
from pipelines.graph.config_io import override
from pipelines.graph.plan import Plan, Step
from pipelines.graph.recipe import Recipe
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
    found = made(VideosConfig(source="npz", path=str(folder)), store)
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
    assert all(passed for passed, _, _ in checks(found).values()) and set(checks(found)) == {*VideosConfig.CHECKS} - {
        "upright"
    }
    assert found.path("videos.png").stat().st_size > 1000


def test_a_set_is_known_by_its_content_and_found_without_its_files(folder: Path, store: Store) -> None:
    config = identified(VideosConfig(source="npz", path=str(folder)))
    first = videos.run(config, store)
    moved = folder.rename(folder.with_name("elsewhere"))
    assert identified(replace(config, path=str(moved))).spec() == config.spec()
    again = videos.run(replace(config, path="", workers=1), store)
    assert again.skipped and again.artefact.digest == first.artefact.digest
    write_npz(moved, 33, 9)
    assert identified(replace(config, path=str(moved))).content != config.content


def test_the_number_of_readers_changes_no_byte(folder: Path, tmp_path: Path) -> None:
    one, many = (
        made(VideosConfig(source="npz", path=str(folder), workers=workers), Store(tmp_path / str(workers)))
        for workers in (1, 3)
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
    config = identified(VideosConfig(source="npz", path=str(folder)))
    write_npz(folder, 33, 9)
    with pytest.raises(WorldlineError, match="it is another set, import it as such"):
        videos.run(config, store)
    assert not store.holds(config.spec().ref)


def test_odd_sets_are_judged_and_hopeless_ones_block(tmp_path: Path, store: Store) -> None:
    for seed in range(3):
        write_npz(tmp_path / "v", 30, seed)
    write_npz(tmp_path / "v", 30, 0, name="again.npz")
    write_npz(tmp_path / "v", 30, 5, name="still.npz", image=np.repeat(wandering(1), 30, 0))
    found = checks(made(VideosConfig(source="npz", path=str(tmp_path / "v")), store))
    assert found["no_duplicates"][:2] == (False, False) and "1 of 5 videos are there twice" in found["no_duplicates"][2]
    assert found["frames_move"][2] == "1 of 5 videos show no motion (still)"
    for name in ("black", "dark", "night", "coal", "soot", "ink", "pitch"):
        write_npz(tmp_path / "v", 30, name=f"{name}.npz", image=np.zeros((30, 64, 64, 3), np.uint8))
    blank = made(VideosConfig(source="npz", path=str(tmp_path / "v")), store)
    assert checks(blank)["frames_show"][:2] == (False, True)
    with pytest.raises(WorldlineError, match="failed its check 'frames_show'"):
        store.open(blank.ref)


@pytest.mark.parametrize(
    ("changes", "why"),
    [
        ({"min_frames": 99}, r"All 4 videos of .* have fewer than 99 frames: lower videos\.min_frames"),
        (
            {"most_bytes": 10**6},
            r"has 97 frames and more, 1\.2 MB unpacked; videos\.most_bytes allows 1\.0 MB",
        ),
        ({"path": ""}, "are not in this store: bring them with 'worldline videos import FOLDER'"),
    ],
)
def test_what_cannot_be_made_is_said_before_work(
    folder: Path, store: Store, changes: dict[str, object], why: str
) -> None:
    config = replace(identified(VideosConfig(source="npz", path=str(folder))), **changes)  # type: ignore[arg-type]
    with pytest.raises(UsageError, match=why):
        videos.run(config, store)


@pytest.mark.parametrize(
    ("changes", "why"),
    [
        ({"source": "npz", "classes": (93,)}, r"videos\.classes says nothing to videos\.source=npz"),
        ({"source": "frames", "episodes": 2}, r"videos\.episodes says nothing to videos\.source=frames"),
        ({"content": "0" * 64}, r"videos\.content says nothing to videos\.source=scripted"),
        ({"source": "webm"}, r"videos\.source 'webm' is unknown"),
        ({"noise_from": 1.0}, "Noise from 1 to 0.5 is no range"),
        ({"min_frames": 201}, r"videos\.min_frames is 201 and videos\.limit 200"),
        ({"cameras": ("corner9",)}, "are corner9: name at least one, each once, of topview, corner"),
        ({"tasks": ("Pong",)}, "Pong has no scripted expert: choose tasks of Meta-world, such as assembly"),
        ({"tasks": ("reech",)}, r"videos\.tasks has 'reech', no task of Meta-world: did you mean 'reach'"),
        ({"protocol": "?"}, "Unknown protocol"),
        ({"cameras": ("corner", "corner")}, "name at least one, each once"),
        ({"cameras": ()}, "name at least one, each once"),
    ],
)
def test_settings_that_make_no_sense_are_refused(changes: dict[str, object], why: str) -> None:
    with pytest.raises(UsageError, match=why):
        VideosConfig(**changes)  # type: ignore[arg-type]


def test_another_source_leaves_behind_what_a_recipe_says_to_its_own() -> None:
    scripted = VideosConfig(tasks=("push",), cameras=("corner",), limit=120, min_frames=9)
    mine = override(scripted, f"content={'0' * 64}", "source=npz")
    assert mine == VideosConfig(source="npz", content="0" * 64, min_frames=9)
    assert override(scripted, "source=scripted", "limit=90") == replace(scripted, limit=90)
    with pytest.raises(UsageError, match=r"videos\.tasks says nothing to videos\.source=npz"):
        override(scripted, "source=npz", "tasks=reach")


def test_tasks_go_by_names_and_groups_and_none_are_those_that_nobody_is_judged_by() -> None:
    every = VideosConfig().resolved().tasks
    assert len(every) == 44 and not {*every} & {*APV_TASKS}
    assert set(VideosConfig(tasks=("metaworld_apv",)).resolved().tasks) == {*APV_TASKS}
    assert VideosConfig(tasks=("reach", "Drawer_Open", "reach-v3")).resolved().tasks == ("drawer-open", "reach")


def test_a_key_depends_on_what_says_something_to_the_source() -> None:
    npz = VideosConfig(source="npz", content="0" * 64)
    assert {*npz.spec().config} == {"source", "min_frames", "content"}
    assert {*replace(npz, source="frames").spec().config} == {*npz.spec().config, "classes", "skip_missing"}
    assert {"tasks", "seed"} <= {*VideosConfig().spec().config} and "content" not in VideosConfig().spec().config
    assert VideosConfig(workers=3, most_bytes=9).spec() == VideosConfig().spec()


def test_a_recipe_with_videos_has_the_stage_and_shares_it_under_any_name() -> None:
    with_videos = Recipe("v", games=("reach",), stages=(VideosConfig(tasks=("push",)),))
    plan, step = Plan(with_videos), Step("videos")
    assert plan.stages == ("videos",) and plan.steps() == [step]
    assert plan.ref(step) == Plan(with_videos.but(name="w")).ref(step) and plan.ref(step).subject == "scripted"
    assert plan.ref(step) != Plan(with_videos.but(videos=VideosConfig(tasks=("push",), seed=1))).ref(step)
    with pytest.raises(UsageError, match=r"names no videos: run 'worldline videos import FOLDER'"):
        Plan(with_videos.but(videos=VideosConfig(source="npz"))).ref(step)
    with pytest.raises(UsageError, match="choose one of Meta-world's"):
        VideosConfig(protocol="sticky").check_frozen(plan)


TINY = VideosConfig(tasks=("reach", "push"), cameras=("corner", "corner3"), episodes=1, min_frames=6, limit=6)


@pytest.mark.slow  # takes of one process and of several are compared every time: test_play_takes
def test_a_set_of_experts_is_the_same_for_any_number_of_processes(tmp_path: Path, metaworld_here: str) -> None:
    one, two = (videos.run(replace(TINY, workers=n), Store(tmp_path / str(n))).artefact for n in (1, 2))
    assert one.manifest.files == two.manifest.files and one.manifest.metrics == two.manifest.metrics
    assert one.manifest.counts["frames"] == 24


def test_experts_fill_a_set(store: Store, metaworld_here: str) -> None:
    one = videos.run(replace(TINY, workers=1), store).artefact
    assert one.manifest.counts == {"videos": 4, "frames": 24, "too_short": 0, "duplicates": 0}
    assert {*checks(one)} == {*VideosConfig.CHECKS} and checks(one)["upright"][:2] == (True, True)
    entries = json.loads(one.path("videos.json").read_text())
    assert [entry["name"] for entry in entries] == [
        f"{task}-{camera}-0000" for task in ("push", "reach") for camera in ("corner", "corner3")
    ]
    told = one.manifest.metrics["shares"]["push"]
    assert (told["videos"], told["frames"], told["share"]) == (2, 12, 0.5) and told["success"] in (0, 0.5, 1)
    (root,) = one.manifest.roots
    assert "scripted expert" in root["policy"] and "metaworld 3" in root["emulator"] and root["renderer"]
    assert (root["tasks"], root["seed"], root["noise"]) == (["push", "reach"], 0, [0.1, 0.5])


def test_a_run_that_was_ended_goes_on_with_the_videos_that_are_missing(
    store: Store, monkeypatch: pytest.MonkeyPatch, metaworld_here: str
) -> None:
    names: list[str] = []

    def play(self: Studio, take: Take) -> tuple[object, object]:
        names.append(take.name)
        if len(names) == 3:
            raise KeyboardInterrupt
        facts = {**vars(take), "return": 0.0, "success": False, "succeeded_at": None}
        return wandering(6, len(names)), facts

    monkeypatch.setattr(Studio, "play", play)
    with pytest.raises(KeyboardInterrupt):
        videos.run(replace(TINY, workers=1), store)
    found = videos.run(replace(TINY, workers=1), store).artefact
    assert names == [
        "push-corner-0000", "push-corner3-0000", "reach-corner-0000", "reach-corner-0000", "reach-corner3-0000",
    ]  # fmt: skip
    assert found.manifest.counts["videos"] == 4 and not list(store.scratch.rglob("*.take"))


@pytest.mark.slow
def test_one_episode_of_each_may_stand_before_the_next_of_any(
    store: Store, monkeypatch: pytest.MonkeyPatch, metaworld_here: str
) -> None:
    played: list[str] = []

    def play(self: Studio, take: Take) -> tuple[object, object]:
        played.append(take.name)
        return wandering(6, len(played)), {**vars(take), "return": 0.0, "success": False, "succeeded_at": None}

    monkeypatch.setattr(Studio, "play", play)
    config = replace(TINY, cameras=("corner",), episodes=2, workers=1)
    entries = json.loads(videos.run(config, store).artefact.path("videos.json").read_text())
    assert played == [f"{task}-corner-{episode:04d}" for task in ("push", "reach") for episode in range(2)]
    assert [entry["name"] for entry in entries] == [played[n] for n in (0, 2, 1, 3)]


def test_a_set_that_grows_too_large_is_refused_while_it_is_played(store: Store, metaworld_here: str) -> None:
    with pytest.raises(UsageError, match=r"What the experts of 2 tasks play has 12 frames and more, .* fewer episodes"):
        videos.run(replace(TINY, workers=1, most_bytes=6 * 64 * 64 * 3), store)
    assert not store.holds(TINY.resolved().spec().ref)


def test_videos_that_came_in_upside_down_are_refused_to_all(
    store: Store, monkeypatch: pytest.MonkeyPatch, metaworld_here: str
) -> None:
    play = Studio.play

    def turned(self: Studio, take: Take) -> tuple[object, object]:
        frames, facts = play(self, take)
        return frames[:, ::-1].copy(), facts

    monkeypatch.setattr(Studio, "play", turned)
    found = videos.run(replace(TINY, tasks=("reach",), cameras=("corner",), workers=1), store).artefact
    assert checks(found)["upright"][0] is False and "reach-corner-0000" in checks(found)["upright"][2]
    with pytest.raises(WorldlineError, match="failed its check 'upright'"):
        store.open(found.ref)


def test_the_commands_import_a_folder_and_show_it(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("WORLDLINE_HOME", str(tmp_path / "home"))
    assert command(["videos", "import", str(folder), "--min-frames", "20"]) == 0
    said = capsys.readouterr().out
    content = identified(VideosConfig(source="npz", path=str(folder))).content
    assert f"--set videos.source=npz --set videos.content={content} --set videos.min_frames=20" in said
    assert command(["videos", "show", "videos", "--out", str(tmp_path / "sheet.png"), "--rows", "2"]) == 0
    assert "2 of 3 videos of videos/npz/" in capsys.readouterr().out and (tmp_path / "sheet.png").is_file()
    assert command(["videos", "show", "videos", "--out", str(tmp_path / "no" / "sheet.png")]) == 2
    assert command(["videos", "import", str(tmp_path / "absent")]) == 2
    assert command(["videos", "import", str(folder), "--classes", "x"]) == 2
    assert command(["videos", "make", "--set", "videos.tasks=Pong"]) == 2
    assert command(["videos", "make", "--recipe", "demo"]) == 2
    assert "Traceback" not in capsys.readouterr().err
