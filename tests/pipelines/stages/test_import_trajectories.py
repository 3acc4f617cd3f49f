"""What an export wrote comes back bit for bit, says where it came from, and can be trained on; hostile files do not."""

import gzip
import json
import os
import pickle
import shutil
import subprocess
import sys
from pathlib import Path

import h5py
import numpy as np
import pytest
import zarr

from pipelines.batches.segments import Segmentation
from pipelines.cli import run as command
from pipelines.episodes.trajectories import FILE_NAME, FLAT, Trajectories
from pipelines.errors import UsageError, WorldlineError
from pipelines.graph.config_io import from_plain, override, to_plain
from pipelines.graph.plan import Plan, Step
from pipelines.graph.recipe import Recipe
from pipelines.recipes.registry import recipe
from pipelines.stages import import_trajectories
from pipelines.stages.import_trajectories import ImportConfig, content_of
from pipelines.store.artefact import Artefact
from pipelines.store.store import Store
from pipelines.tools.exports.export import Export, export
from pipelines.tools.exports.jowa_h5 import JowaH5
from pipelines.tools.exports.webdataset import Webdataset
from pipelines.tools.exports.zarr_store import ZarrStore
from tests.fakes import flip_byte
from tests.pipelines.conftest import TINY, TinyRun
from tests.pipelines.episodes.made_episodes import put_episodes
from tests.pipelines.stages.helpers import nothing_left

FORMS = ("jowa-h5", "jowa-h5 packed", "zarr", "webdataset", "webdataset left")


def layout(source: Trajectories, form: str) -> Export:
    if form.startswith("jowa-h5"):
        return JowaH5(source, compress=form.endswith("packed"))
    if form == "zarr":
        return ZarrStore(source)
    return Webdataset(source, Segmentation(source.episode_starts, 8, 4, "left" if "left" in form else "right"))


def exported(made: Artefact, form: str, folder: Path) -> Path:
    return export(made, layout(Trajectories(made.path(FILE_NAME)), form), folder).path


def bring(path: Path, store: Store, game: str = "Freeway", **options: str) -> Artefact:
    config = ImportConfig(game=game, sha256=content_of(path)[0], path=str(path), **options)
    return import_trajectories.run(config, store).artefact


@pytest.mark.parametrize("form", FORMS)
def test_what_was_exported_comes_back(store, tmp_path, form) -> None:
    made = put_episodes(store)
    source = Trajectories(made.path(FILE_NAME))
    path = exported(made, form, tmp_path / "out")
    found = bring(path, Store(tmp_path / "elsewhere"))
    back = Trajectories(found.path(FILE_NAME))
    assert (back.game, back.action_names) == (source.game, source.action_names)
    for name in ("episode_starts", *FLAT):
        np.testing.assert_array_equal(getattr(back, name), getattr(source, name))
        assert getattr(back, name).dtype == getattr(source, name).dtype
    np.testing.assert_array_equal(back.frames(0, len(back)), source.frames(0, len(source)))
    rows = source.source_rows(0, len(source))
    np.testing.assert_array_equal(back.source_rows(0, len(back)), rows * 0 - 1 if "h5" in form else rows)
    root = found.manifest.roots[0]
    assert root["path"] == str(path) and root["format"] == form.split()[0] and root["sha256"] == content_of(path)[0]
    assert (root["exported_ref"], root["exported_manifest_sha256"]) == (str(made.ref), made.digest)
    assert len(found.manifest.roots) == 1 + (len(content_of(path)[1]) if path.is_dir() else 0)
    assert all(check.passed for check in found.manifest.checks)
    assert [check.name for check in found.manifest.checks] == list(ImportConfig.CHECKS)


def test_frames_that_are_the_same_are_the_same_part(store, tmp_path) -> None:
    """Tokens of the drawn episodes serve the imported ones: they depend on the frames alone."""
    made = put_episodes(store)
    parts = [bring(exported(made, form, tmp_path / form[0]), store).manifest.parts for form in ("zarr", "jowa-h5")]
    assert parts[0]["frames"].sha256 == parts[1]["frames"].sha256


def test_jowas_own_file_needs_no_note_of_ours(store, tmp_path) -> None:
    path, rng = tmp_path / "Pong.h5", np.random.default_rng(0)
    with h5py.File(path, "w") as file:
        for episode, steps in enumerate((5, 30)):
            group = file.create_group(str(episode))
            group["observations"] = rng.integers(0, 256, (steps, 84, 84), dtype=np.uint8)
            group["actions"] = rng.integers(0, 6, steps)
            group["rewards"] = rng.integers(-1, 2, steps).astype(np.float64)
            group["terminals"] = np.arange(steps) == steps - 1
    found = bring(path, store, "Pong")
    assert found.manifest.counts == {"episodes": 2, "transitions": 35}
    assert found.manifest.roots == ({"path": str(path), "format": "jowa-h5", **_facts(path)},)


def _facts(path: Path) -> dict[str, object]:
    return {"sha256": content_of(path)[0], "bytes": path.stat().st_size}


def test_colour_and_odd_sizes_come_back(store, tmp_path) -> None:
    made = put_episodes(store, lengths=(3, 18), frame=(14, 21, 3))
    source = Trajectories(made.path(FILE_NAME))
    for form in ("zarr", "webdataset"):
        back = Trajectories(bring(exported(made, form, tmp_path / form), store).path(FILE_NAME))
        np.testing.assert_array_equal(back.frames(0, 21), source.frames(0, 21))


# ---- what is refused ----


def cut(path: Path) -> None:
    path.write_bytes(path.read_bytes()[: path.stat().st_size * 2 // 3])


def largest(path: Path) -> Path:
    return max((each for each in path.rglob("*") if each.is_file()), key=lambda each: each.stat().st_size)


def flip_frame(path: Path) -> None:
    with h5py.File(path, "r+") as file:
        file["1/observations"][3, 4, 5] ^= 1


def flip_packed(path: Path) -> None:
    with h5py.File(path) as file:
        chunk = file["1/observations"].id.get_chunk_info(1)
    flip_byte(path, chunk.byte_offset + chunk.size // 2)


def retype(path: Path, name: str, dtype: object) -> None:
    with h5py.File(path, "r+") as file:
        values = file[f"1/{name}"][:].astype(dtype)
        del file[f"1/{name}"]
        file[f"1/{name}"] = values


def objects(path: Path) -> None:
    with h5py.File(path, "r+") as file:
        del file["1/actions"]
        file.create_dataset("1/actions", (40,), h5py.special_dtype(vlen=bytes))


def tarred_away(path: Path) -> None:
    shard = path / "segments-000000.tar"
    shard.write_bytes(shard.read_bytes().replace(b"Freeway-00000000.json", b"../../eway-000000.json"[:21]))


BAD = {
    "h5 of another game": ("jowa-h5", lambda path: named(path, "Pong"), "h5 holds Pong, not Freeway: say --game Pong"),
    "h5 of no game": ("jowa-h5", lambda path: named(path, "Chess"), "Unknown game 'Chess'"),
    "h5 cut": ("jowa-h5", cut, "not in JOWA's layout"),
    "h5 flipped": ("jowa-h5", flip_frame, "episode 1 is not what was exported"),
    "h5 packed flipped": ("jowa-h5 packed", flip_packed, "episode . is damaged|not what was exported"),
    "h5 float frames": ("jowa-h5", lambda path: retype(path, "observations", np.float32), "must be .*uint8"),
    "h5 half actions": ("jowa-h5", lambda path: retype(path, "actions", np.float32) or spoil(path), "do not fit"),
    "h5 objects": ("jowa-h5", objects, "do not fit|layout"),
    "h5 another action set": ("jowa-h5", lambda path: spoil(path, 17), "Action 17 is none of Freeway's 3"),
    "zarr cut": ("zarr", lambda path: cut(largest(path)), "cannot be read|export it again"),
    "zarr flipped": ("zarr", lambda path: flip_byte(largest(path), -9), "cannot be read|export it again"),
    "zarr without a chunk": ("zarr", lambda path: largest(path).unlink(), "copy it again"),
    "zarr link": ("zarr", lambda path: (path / "x").symlink_to("/etc/passwd"), "is a link out of its folder"),
    "tar cut": ("webdataset", lambda path: cut(largest(path)), "shards.json says"),
    "tar flipped": ("webdataset", lambda path: flip_byte(largest(path), 700), "not the shard that"),
    "tar path": ("webdataset", tarred_away, "not the shard that"),
    "tar without its list": ("webdataset", lambda path: (path / "shards.json").unlink(), "folder without shards.json"),
}


def named(path: Path, game: str) -> None:
    with h5py.File(path, "r+") as file:
        file.attrs["game"] = game


def spoil(path: Path, value: float = 0.5) -> None:
    with h5py.File(path, "r+") as file:
        file["1/actions"][0] = value
        del file["1"].attrs["crc32c"]


@pytest.mark.parametrize("case", BAD)
def test_bad_files_are_one_line_and_leave_nothing(store, tmp_path, case) -> None:
    form, damage, words = BAD[case]
    path = exported(put_episodes(store), form, tmp_path)
    damage(path)
    with pytest.raises(WorldlineError, match=words) as caught:
        bring(path, store)
    assert "\n" not in str(caught.value)
    assert nothing_left(store, "imported_trajectories")


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (b"PK\x03\x04" + bytes(30), "is no HDF5 file"),
        (pickle.dumps([1, 2]), "is no HDF5 file"),
        (gzip.compress(b"x", mtime=0), "is no HDF5 file"),
        (b"", "is no HDF5 file"),
        (None, "cannot be read .No such file"),
    ],
)
def test_other_files_are_never_opened(store, tmp_path, content, words) -> None:
    path = tmp_path / "Freeway.h5"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(UsageError, match=words):
        bring(path, store)


def test_other_requests_are_refused(store, tmp_path) -> None:
    path = exported(put_episodes(store), "zarr", tmp_path)
    with pytest.raises(UsageError, match="holds Freeway, not Pong"):
        bring(path, store, "Pong")
    with pytest.raises(UsageError, match="is zarr, not webdataset"):
        bring(path, store, format="webdataset")
    with pytest.raises(UsageError, match="imported from webdataset, zarr, minari, trajectories, episodes, jowa-h5"):
        bring(path, store, format="pickle")
    with pytest.raises(UsageError, match="it is another"):
        import_trajectories.run(ImportConfig(game="Freeway", sha256="0" * 64, path=str(path)), store)
    with pytest.raises(UsageError, match="bring them with 'worldline import trajectories"):
        import_trajectories.run(ImportConfig(game="Freeway", sha256="0" * 64), store)
    shutil.rmtree(path / "observations")
    (tmp_path / "none").mkdir()
    with pytest.raises(UsageError, match="is empty"):
        bring(tmp_path / "none", store)
    zarr.create_group(store=str(tmp_path / "old"), zarr_format=2)
    with pytest.raises(UsageError, match="folder without"):
        bring(tmp_path / "old", store)


def test_segments_that_leave_out_steps_are_no_episodes(store, tmp_path) -> None:
    made = put_episodes(store)
    source = Trajectories(made.path(FILE_NAME))
    gaps = Webdataset(source, Segmentation(source.episode_starts, 4, 9, "right"))
    with pytest.raises(WorldlineError, match=r"leaves out steps: 4 of every 9 .*a stride of at most its length"):
        bring(export(made, gaps, tmp_path).path, store)


def test_rewards_that_are_not_clipped_block_what_follows(store, tmp_path) -> None:
    path = exported(put_episodes(store), "jowa-h5", tmp_path)
    with h5py.File(path, "r+") as file:
        file["1/rewards"][3] = 5.0
        del file["1"].attrs["crc32c"]
    found = bring(path, store)
    with pytest.raises(WorldlineError, match="rewards_clipped"):
        store.open(found.ref)


@pytest.mark.parametrize("form", FORMS[2:4])
def test_a_full_disk_is_one_line(tmp_path, form) -> None:
    path = exported(put_episodes(Store(tmp_path / "other")), form, tmp_path)
    program = "import resource, sys; from pipelines.cli import run; "
    program += "resource.setrlimit(resource.RLIMIT_FSIZE, (1 << 15, 1 << 15)); sys.exit(run(sys.argv[1:]))"
    ask = [sys.executable, "-c", program, "import", "trajectories", str(path), "--game", "Freeway"]
    home = os.environ | {"WORLDLINE_HOME": str(tmp_path / "home")}
    done = subprocess.run(ask, capture_output=True, text=True, timeout=120, env=home)
    assert done.returncode == 1 and done.stderr.startswith("No space left in the store"), done.stderr
    assert done.stderr.count("\n") == 1 and nothing_left(Store(tmp_path / "home" / "store"), "imported_trajectories")


# ---- a recipe that imports ----

SHA = "ab" * 32


def test_a_recipe_names_what_it_imports_game_by_game() -> None:
    mini = recipe("mini", ["games=Pong,Freeway", "source=imported", f"import.contents=pong:{SHA},FREEWAY:{SHA[::-1]}"])
    plan = Plan(mini)
    assert plan.stages[:2] == ("imported_trajectories", "segments") and plan.stages[-1] == "scores"
    config = plan.config(Step("imported_trajectories", "Freeway"))
    assert isinstance(config, ImportConfig) and (config.sha256, config.contents) == (SHA[::-1], ())
    assert config == ImportConfig(game="Freeway", sha256=SHA[::-1])
    trained = plan.config(Step("pretrained"))
    assert [ref.stage for ref in trained.trajectories] == ["imported_trajectories"] * 2  # type: ignore[attr-defined]
    assert from_plain(Recipe, json.loads(json.dumps(to_plain(mini)))) == mini


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        (["source=imported"], "names no imported trajectories of Pong"),
        (["source=imported", f"import.contents=Freeway:{SHA}"], "names no imported trajectories of Pong"),
        (["source=imported", "import.contents=Pong:abc"], "write GAME:SHA256"),
        ([f"import.contents=Pong:{SHA}"], "set source=imported too"),
        (["source=downloaded"], "bucket, collected, imported, shards"),
    ],
)
def test_recipes_that_import_nothing_whole_are_refused(changes, words) -> None:
    with pytest.raises(UsageError, match=words):
        plan = Plan(override(recipe("mini"), *changes))
        plan.config(Step("segments", "Pong"))


def test_the_command_makes_names_and_says_how_to_go_on(tmp_path, monkeypatch, capsys) -> None:
    monkeypatch.setenv("WORLDLINE_HOME", str(tmp_path / "home"))
    path = exported(put_episodes(Store(tmp_path / "other")), "jowa-h5", tmp_path)
    assert command(["import", "trajectories", str(path), "--game", "freeway"]) == 0
    said = capsys.readouterr().out
    assert f"--set source=imported --set import.contents=Freeway:{content_of(path)[0]}" in said
    assert command(["import", "trajectories", str(path), "--game", "Freeway", "--format", "zarr"]) == 2
    assert "is jowa-h5, not zarr" in capsys.readouterr().err
    again = ["--to", "zarr", "--out", str(tmp_path / "again")]
    assert command(["export", "trajectories", "imported_trajectories/Freeway", *again]) == 0
    assert command(["lineage", "imported_trajectories/Freeway", "--verify"]) == 0


@pytest.mark.slow
def test_an_imported_game_is_trained_on_up_to_scores(tiny: TinyRun, tmp_path, monkeypatch, capsys) -> None:
    """Through the commands alone, in a home that never saw the replay; the networks are those of the drawn episodes."""
    monkeypatch.setenv("WORLDLINE_HOME", str(tmp_path / "home"))
    path = exported(tiny.made["trajectories"], "webdataset", tmp_path)
    assert command(["import", "trajectories", str(path), "--game", "Breakout"]) == 0
    content = capsys.readouterr().out.strip().rpartition("import.contents=")[2]
    changes = [*(change for change in TINY if not change.startswith("collect")), "source=imported"]
    changes.append(f"import.contents={content}")
    sets = [part for change in changes for part in ("--set", change)]
    assert command(["experiment", "new", "back", "--recipe", "mini", *sets]) == 0
    shutil.rmtree(path)
    for verb in (["segment", "--recipe", "mini", *sets], ["pretrain", "back"], ["tokenize", "back"], ["train", "back"]):
        assert command(verb) == 0, capsys.readouterr().err
    assert command(["evaluate", "back"]) == 0
    store = Store(tmp_path / "home" / "store")
    assert [name for name in store.pointers() if name.startswith("scores/back")]
    ours = next(ref for name, ref in store.pointers().items() if name.startswith("pretrained/back"))
    theirs = {entry.path: entry.sha256 for entry in tiny.made["pretrained"].manifest.files}
    weights = {entry.path: entry.sha256 for entry in store.open(ours).manifest.files if entry.path.endswith("tensors")}
    assert weights and all(theirs[name] == sha256 for name, sha256 in weights.items())
