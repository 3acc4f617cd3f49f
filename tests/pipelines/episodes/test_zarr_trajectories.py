"""Zarr stores in buckets, and damaged or forged ones: one line each, before anything large is allocated."""

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
import zarr

from pipelines.episodes.trajectories import FILE_NAME, Trajectories
from pipelines.episodes.zarr_trajectories import ZarrTrajectories
from pipelines.errors import WorldlineError
from pipelines.store.store import Store
from pipelines.tools.exports.export import export
from pipelines.tools.exports.zarr_store import ZarrStore
from tests.pipelines.episodes.made_episodes import put_episodes


@pytest.fixture(scope="module")
def freeway(tmp_path_factory) -> tuple[Path, Trajectories]:
    """An export and its source; tests copy it."""
    folder = tmp_path_factory.mktemp("zarr")
    artefact = put_episodes(Store(folder / "store"))
    source = Trajectories(artefact.path(FILE_NAME))
    return export(artefact, ZarrStore(source), folder).path, source


@pytest.mark.parametrize("kind", ["gcs", "s3"])
def test_zarr_is_read_from_a_bucket(freeway, kind, request) -> None:
    folder, source = freeway
    bucket = request.getfixturevalue(f"{kind}_bucket")
    for path in sorted(file for file in folder.rglob("*") if file.is_file()):
        bucket.put(f"Freeway.zarr/{path.relative_to(folder).as_posix()}", path.read_bytes())
    found = ZarrTrajectories(f"{bucket.root_url}/Freeway.zarr", bucket.profile())
    np.testing.assert_array_equal(found.frames(3, 50), source.frames(3, 50))
    np.testing.assert_array_equal(found.rewards, source.rewards)
    with pytest.raises(WorldlineError, match="cannot be read as trajectories"):
        ZarrTrajectories(f"{bucket.root_url}/Pong.zarr", bucket.profile())


def attribute(name, value):
    return lambda path: zarr.open_group(path, mode="a").attrs.update({name: value})


def values(name, change):
    def alter(path: Path) -> None:
        array = zarr.open_group(path, mode="a")[name]
        array[...] = change(array[...])

    return alter


def metadata(name, **changes):
    def alter(path: Path) -> None:
        file = path / name / "zarr.json"
        file.write_text(json.dumps(json.loads(file.read_text()) | changes))

    return alter


def flip(path: Path) -> None:
    shard = path / "observations" / "c" / "0" / "0" / "0"
    raw = bytearray(shard.read_bytes())
    raw[-40] ^= 1
    shard.write_bytes(raw)


BAD_ZARR = {
    "another game": (attribute("game", "Pong"), "its actions are not those of Pong"),
    "no such game": (attribute("game", "../../etc"), "none of the 111 games"),
    "a game that is no text": (attribute("game", {"a": 1}), "none of the 111 games"),
    "other actions": (attribute("actions", ["FIRE", "UP", "DOWN"]), "its actions are not those of Freeway"),
    "actions that are no list": (attribute("actions", 3), "cannot be read as trajectories"),
    "chunks of no array": (attribute("chunks", {"nothing": 1}), "cannot be read as trajectories"),
    "a missing shard": (lambda path: shutil.rmtree(path / "observations" / "c"), "has 0 chunks of"),
    "a missing array": (lambda path: shutil.rmtree(path / "actions"), "cannot be read as trajectories"),
    "episodes out of order": (values("episode_starts", lambda starts: starts[::-1]), "do not follow each other"),
    "episodes beyond the end": (values("episode_starts", lambda starts: starts * 2), r"\(68,\) values for 136 rows"),
    "terminal 7": (values("terminals", lambda found: found + 7), "only 0 and 1 are meant"),
    "a reward of no size": (values("rewards", lambda found: found + np.inf), "no finite number"),
    "metadata of another type": (metadata("actions", data_type="int64", fill_value=0), "actions is int64 "),
    "metadata of another size": (metadata("observations", shape=[10**12, 84, 84]), r"it must be uint8 \(68, 84, 84\)"),
    "rows without end": (metadata("actions", shape=[10**12]), "1,000,000,000,000 rows, .* are impossible"),
    "episodes without end": (metadata("episode_starts", shape=[10**12]), "episode starts are impossible"),
    "metadata that is no JSON": (lambda path: (path / "zarr.json").write_text("{"), "cannot be read as trajectories"),
    "nothing there": (shutil.rmtree, "cannot be read as trajectories"),
    "a flipped bit": (flip, "cannot be read as trajectories"),
}


@pytest.mark.parametrize("case", BAD_ZARR, ids=str)
def test_bad_zarr_stores_are_one_line(freeway, case, tmp_path) -> None:
    path = tmp_path / "Freeway.zarr"
    shutil.copytree(freeway[0], path)
    change, words = BAD_ZARR[case]
    change(path)
    with pytest.raises(WorldlineError, match=words) as caught:
        found = ZarrTrajectories(path)
        found.frames(0, len(found))
    assert "\n" not in str(caught.value)


def test_a_url_of_no_kind_is_one_line() -> None:
    with pytest.raises(WorldlineError, match="no bucket URL") as caught:
        ZarrTrajectories("nothing://here")
    assert "\n" not in str(caught.value)
