"""Every layout next to its source: what comes out, what stands beside it, and what is left when something fails."""

import errno
import json
from pathlib import Path

import h5py
import numpy as np
import pandas as pd
import pytest
import webdataset
import zarr

from pipelines.batches.loader import flat_rows
from pipelines.batches.segments import COLUMNS, Segmentation
from pipelines.batches.shards import ShardSet
from pipelines.episodes.trajectories import FILE_NAME, Trajectories
from pipelines.errors import UsageError, WorldlineError
from pipelines.tools.exports.export import export
from pipelines.tools.exports.jowa_h5 import JowaH5
from pipelines.tools.exports.segment_table import SegmentTable
from pipelines.tools.exports.webdataset import Webdataset
from pipelines.tools.exports.zarr_store import ZarrStore
from tests.pipelines.episodes.made_episodes import LENGTHS, put_episodes

FORMS = ("jowa-h5", "zarr", "webdataset", "csv", "parquet")


@pytest.fixture
def made(store):
    return put_episodes(store)


def layout(made, form: str, **options):
    source = Trajectories(made.path(FILE_NAME))
    cut = Segmentation(source.episode_starts, 8, 4, options.pop("padding", "right"))
    if form == "jowa-h5":
        return JowaH5(source, **options)
    if form == "zarr":
        return ZarrStore(source)
    if form == "webdataset":
        return Webdataset(source, cut, **({"per_shard": 7} | options))
    return SegmentTable(cut.table(), source.game, form, f"table.{form}", {"length": cut.length, "padding": cut.padding})


def bytes_of(path: Path) -> dict[str, bytes]:
    files = [path] if path.is_file() else sorted(file for file in path.rglob("*") if file.is_file())
    return {file.name if file == path else file.relative_to(path).as_posix(): file.read_bytes() for file in files}


@pytest.mark.parametrize("form", FORMS)
def test_lineage_lies_beside_and_nothing_else_does(made, form, tmp_path) -> None:
    done = export(made, layout(made, form), tmp_path / "out")
    beside = done.path.with_name(done.path.name + ".worldline.json")
    assert sorted((tmp_path / "out").iterdir()) == sorted([done.path, beside])
    noted = json.loads(beside.read_text())
    assert (noted["ref"], noted["manifest_sha256"], noted["format"]) == (str(made.ref), made.digest, form)
    assert noted["options"] == layout(made, form).options
    assert str(made.ref) in str(done) and str(done.path) in str(done) and "\n" not in str(done)


@pytest.mark.parametrize("form", FORMS)
def test_the_same_request_gives_the_same_bytes(made, form, tmp_path) -> None:
    first, second = (export(made, layout(made, form), tmp_path / name).path for name in "ab")
    assert bytes_of(first) == bytes_of(second)


@pytest.mark.parametrize("form", FORMS)
def test_what_stands_there_is_replaced_only_when_told(made, form, tmp_path) -> None:
    path = export(made, layout(made, form), tmp_path).path
    before = bytes_of(path)
    (path / "mine.txt" if path.is_dir() else path).write_text("mine")
    with pytest.raises(UsageError, match=r"is there and not empty: add --overwrite"):
        export(made, layout(made, form), tmp_path)
    assert b"mine" in bytes_of(path).values()
    export(made, layout(made, form), tmp_path, overwrite=True)
    assert bytes_of(path) == before
    assert len(list(tmp_path.glob(f"*{path.name}*"))) == 2


@pytest.mark.parametrize("form", FORMS)
def test_what_is_no_export_of_ours_is_never_replaced(made, form, tmp_path) -> None:
    what = layout(made, form)
    (tmp_path / what.name).mkdir()
    (tmp_path / what.name / "thesis.tex").write_text("mine")
    with pytest.raises(UsageError, match=r"is no export of ours \(no \S+ beside it\) and is not overwritten: move it"):
        export(made, what, tmp_path, overwrite=True)
    assert (tmp_path / what.name / "thesis.tex").read_text() == "mine"
    assert not list(tmp_path.glob(f".{what.name}*"))


@pytest.mark.parametrize("form", FORMS)
def test_a_full_disk_is_one_line_and_leaves_what_was_there(made, form, tmp_path, monkeypatch) -> None:
    path = export(made, layout(made, form), tmp_path).path
    before = bytes_of(path)

    def full(*_):
        raise OSError(errno.ENOSPC, "No space left on device")

    what = layout(made, form)
    monkeypatch.setattr(type(what), "read_back", full)
    with pytest.raises(WorldlineError, match=r"No space left in the folder .*choose another place") as caught:
        export(made, what, tmp_path, overwrite=True)
    assert "\n" not in str(caught.value) and bytes_of(path) == before
    assert not list(tmp_path.glob(".*"))


@pytest.mark.parametrize("form", FORMS)
def test_a_copy_that_differs_never_gets_its_name(made, form, tmp_path, monkeypatch) -> None:
    what, other = layout(made, form), layout(made, form)
    if isinstance(what, SegmentTable):
        object.__setattr__(other, "index", what.index + 1)
    else:
        other.source.rewards[3] += 1
    monkeypatch.setattr(type(what), "write", lambda _self, *rest, write=type(what).write: write(other, *rest))
    with pytest.raises(WorldlineError, match="does not read back as written"):
        export(made, what, tmp_path / "out")
    assert not list((tmp_path / "out").iterdir())


def test_a_folder_that_is_not_ours_is_one_line(made, tmp_path) -> None:
    (tmp_path / "file").write_text("")
    for folder in (tmp_path / "file", tmp_path / "file" / "below"):
        with pytest.raises(WorldlineError, match=r"The folder .* is not writable .*: choose another place"):
            export(made, layout(made, "zarr"), folder)


@pytest.mark.parametrize("compress", [False, True])
def test_jowas_layout_as_its_readers_see_it(made, compress, tmp_path) -> None:
    source = Trajectories(made.path(FILE_NAME))
    path = export(made, layout(made, "jowa-h5", compress=compress), tmp_path).path
    assert path.name == "Freeway.h5"
    with h5py.File(path) as file:
        assert sorted(file, key=int) == ["0", "1", "2", "3"]
        for episode, length in enumerate(LENGTHS):
            group, first = file[str(episode)], int(source.episode_starts[episode])
            assert set(group) == {"observations", "actions", "rewards", "terminals"}
            assert {name: group[name].dtype for name in group} == {
                "observations": np.uint8,
                "actions": np.int32,
                "rewards": np.float32,
                "terminals": np.uint8,
            }
            assert (group["observations"].compression is not None) == compress
            np.testing.assert_array_equal(group["observations"], source.frames(first, first + length))
            for name in ("actions", "rewards", "terminals"):
                np.testing.assert_array_equal(group[name], getattr(source, name)[first : first + length])


def test_the_zarr_store_as_zarr_sees_it(made, tmp_path) -> None:
    source = Trajectories(made.path(FILE_NAME))
    path = export(made, layout(made, "zarr"), tmp_path).path
    group = zarr.open_group(path, mode="r")
    assert group.attrs["game"] == "Freeway" and group.attrs["worldline"]["ref"] == str(made.ref)
    assert group["observations"].chunks == (16, 84, 84) and group["observations"].shards == (4096, 84, 84)
    meta = json.loads((path / "observations" / "zarr.json").read_text())
    assert meta["codecs"][0]["name"] == "sharding_indexed"
    assert meta["codecs"][0]["configuration"]["index_location"] == "start"
    np.testing.assert_array_equal(group["observations"][:], source.frames(0, len(source)))
    np.testing.assert_array_equal(group["source_rows"][:], source.source_rows(0, len(source)))


@pytest.mark.parametrize("compress", [False, True])
def test_webdatasets_own_reader_takes_the_shards(made, compress, tmp_path) -> None:
    what = layout(made, "webdataset", compress=compress)
    path = export(made, what, tmp_path).path
    shards = sorted(str(file) for file in path.glob("*.tar"))
    assert len(shards) == -(-len(what.segments) // 7)
    samples = list(webdataset.WebDataset(shards, shardshuffle=False).decode())
    assert len(samples) == len(what.segments)
    cut = {(episode, start): end for episode, start, end in what.segments.table().tolist()}
    for sample in samples:
        steps = sample["json"]
        frames = sample["frames.npy"] if not compress else sample["frames.npy.gz"]
        first = int(what.source.episode_starts[steps["episode"]]) + steps["start"]
        length = cut.pop((steps["episode"], steps["start"])) - steps["start"]
        np.testing.assert_array_equal(frames[:length], what.source.frames(first, first + length))
        assert not frames[length:].any() and steps["mask"] == [1] * length + [0] * (8 - length)
        assert [row[2] for row in steps["source"][:length]] == list(range(first + 100, first + length + 100))
    assert not cut  # every segment came once


def test_samples_of_several_games_are_kept_apart(made, store, tmp_path) -> None:
    """webdataset refuses a key that comes twice, or puts two samples into one."""
    others = [made, put_episodes(store, "Pong", (5, 40)), put_episodes(store, "MsPacman", (9,))]
    paths = [export(each, layout(each, "webdataset"), tmp_path).path for each in others]
    shards = sorted(str(file) for path in paths for file in path.glob("*.tar"))
    samples = list(webdataset.WebDataset(shards, shardshuffle=False).decode())
    assert len({sample["__key__"] for sample in samples}) == len(samples) == sum(len(ShardSet(path)) for path in paths)
    assert all(sample["__key__"].startswith(sample["json"]["game"] + "-") for sample in samples)


def test_another_seed_is_another_order(made, tmp_path) -> None:
    first, second = (export(made, layout(made, "webdataset", seed=seed), tmp_path / str(seed)).path for seed in (0, 1))
    assert bytes_of(first)["segments-000000.tar"] != bytes_of(second)["segments-000000.tar"]
    for wrong in ({"per_shard": 0}, {"seed": -1}):
        with pytest.raises(UsageError, match="at least"):
            layout(made, "webdataset", **wrong)


def as_jowa_reads(file: h5py.File, row: pd.Series) -> dict[str, np.ndarray]:
    """One item of the original's dataset: the slice of the episode, padded by what the window exceeds it."""
    episode, start, end = (int(row[f"{name} index"]) for name in ("Episode", "Start", "End"))
    group = file[str(episode)]
    steps = len(group["actions"])
    pads, inside = (max(0, -start), max(0, end - steps)), slice(max(0, start), min(end, steps))
    item = {name: np.pad(group[name][inside], [pads] + [(0, 0)] * (group[name].ndim - 1)) for name in group}
    return item | {"mask_padding": np.pad(np.ones(inside.stop - inside.start, bool), [pads])}


@pytest.mark.parametrize("padding", ["right", "left"])
@pytest.mark.parametrize(("form", "read"), [("csv", pd.read_csv), ("parquet", pd.read_parquet)])
def test_a_batch_stacks_by_the_originals_rules(made, form, read, padding, tmp_path) -> None:
    """Its reader of table and episodes gives what our loader gives, padding included."""
    what = layout(made, form, padding=padding)
    table = read(export(made, what, tmp_path).path)
    assert tuple(table.columns) == COLUMNS and set(table["Environment"]) == {"Freeway"}
    assert (table["End index"] - table["Start index"] == 8).all()
    episodes = export(made, layout(made, "jowa-h5"), tmp_path).path
    with h5py.File(episodes) as file:
        items = [as_jowa_reads(file, row) for _, row in table.iterrows()]
    batch = {name: np.stack([item[name] for item in items]) for name in items[0]}
    source = Trajectories(made.path(FILE_NAME))
    rows, real = flat_rows(what.index, source.episode_starts, 8)
    np.testing.assert_array_equal(batch["mask_padding"], real)
    for name in ("actions", "rewards", "terminals"):
        np.testing.assert_array_equal(batch[name], getattr(source, name)[rows] * real)
    frames = source.frames(0, len(source))[rows] * real[..., None, None]
    np.testing.assert_array_equal(batch["observations"], frames)
    assert not real.all() and real.any(axis=1).all()
