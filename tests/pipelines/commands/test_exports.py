"""`worldline export` as a person types it: what it says, and every bad request as one line with the right exit code."""

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from pipelines.batches.segments import segment_index
from pipelines.batches.shards import ShardSet
from pipelines.cli import run
from pipelines.episodes.jowa_h5 import JowaTrajectories
from pipelines.episodes.trajectories import FILE_NAME, Trajectories
from pipelines.episodes.zarr_trajectories import ZarrTrajectories
from pipelines.store.ref import Ref
from pipelines.store.store import Store
from tests.pipelines.episodes.made_episodes import put_episodes
from tests.pipelines.stages.helpers import make_segments


@pytest.fixture
def made(tmp_path, monkeypatch):
    """A home with trajectories/Freeway and segments/Freeway."""
    monkeypatch.setenv("WORLDLINE_HOME", str(tmp_path / "home"))
    monkeypatch.delenv("WORLDLINE_STORAGE", raising=False)
    store = Store(tmp_path / "home" / "store")
    artefact = put_episodes(store)
    store.point("segments/Freeway", make_segments(store, artefact, padding="left").ref)
    return artefact


def ran(capsys, *arguments: object) -> str:
    assert run(["export", *map(str, arguments)]) == 0
    return capsys.readouterr().out


def refused(capsys, code: int, *arguments: object) -> str:
    assert run(["export", *map(str, arguments)]) == code
    printed = capsys.readouterr()
    assert printed.err.count("\n") == 1 and printed.out == "" and "fault of Worldline" not in printed.err
    return printed.err


def test_every_format_is_read_back_by_its_reader(made, tmp_path, capsys) -> None:
    source = Trajectories(made.path(FILE_NAME))
    for form in ("jowa-h5", "zarr", "webdataset"):
        said = ran(capsys, "trajectories", "trajectories/Freeway", "--to", form, "--out", tmp_path / "out")
        assert said.startswith(f"{made.ref} -> {tmp_path / 'out' / 'Freeway'}.") and "68 transitions" in said
    for reader in (JowaTrajectories(tmp_path / "out/Freeway.h5"), ZarrTrajectories(tmp_path / "out/Freeway.zarr")):
        np.testing.assert_array_equal(reader.frames(0, 68), source.frames(0, 68))
    shards = ShardSet(tmp_path / "out/Freeway.webdataset")
    assert len(shards) == len(segment_index(source.episode_starts, 8, 4, "right"))
    noted = json.loads((tmp_path / "out/Freeway.webdataset.worldline.json").read_text())
    assert noted == shards.lineage and noted["manifest_sha256"] == made.digest


def test_options_reach_the_export(made, tmp_path, capsys) -> None:
    cut = ("--length", 4, "--stride", 1, "--padding", "left", "--seed", 5, "--per-shard", 10, "--no-compress")
    ran(capsys, "trajectories", made.ref, "--to", "webdataset", "--out", tmp_path / "out", *cut)
    shards = ShardSet(tmp_path / "out/Freeway.webdataset")
    assert (len(shards), shards.length, shards.compress, shards.shards[0].segments) == (68, 4, False, 10)
    assert shards.lineage["options"] == {
        "length": 4,
        "stride": 1,
        "padding": "left",
        "seed": 5,
        "per_shard": 10,
        "compress": False,
    }


def test_segments_as_cut_or_cut_now(made, tmp_path, capsys) -> None:
    starts = Trajectories(made.path(FILE_NAME)).episode_starts
    ran(capsys, "segments", "segments/Freeway", "--to", "csv", "--out", tmp_path / "left.csv")
    np.testing.assert_array_equal(pd.read_csv(tmp_path / "left.csv").iloc[:, :3], segment_index(starts, 8, 4, "left"))
    noted = json.loads((tmp_path / "left.csv.worldline.json").read_text())
    assert noted["options"] == {"length": 8, "stride": 4, "padding": "left"}
    ran(capsys, "segments", "trajectories/Freeway", "--to", "parquet", "--out", tmp_path / "r.parquet", "--stride", 1)
    table = pd.read_parquet(tmp_path / "r.parquet")
    index = segment_index(starts, 8, 1, "right")
    index[:, 2] = index[:, 1] + 8  # JOWA's ends are not cut at the episode's
    np.testing.assert_array_equal(table.iloc[:, :3], index)


def test_bad_requests_are_one_line(made, tmp_path, capsys) -> None:
    out = ("--out", tmp_path / "out")
    ask = ("trajectories", "trajectories/Freeway", "--to")
    assert "did you mean 'zarr'" in refused(capsys, 2, *ask, "zar", *out)
    assert "csv, parquet" in refused(capsys, 2, "segments", "segments/Freeway", "--to", "xls", *out)
    assert "--stride says nothing to zarr" in refused(capsys, 2, *ask, "zarr", *out, "--stride", 2)
    assert "--compress says nothing to zarr" in refused(capsys, 2, *ask, "zarr", *out, "--no-compress")
    assert "--per-shard says nothing" in refused(capsys, 2, *ask, "jowa-h5", *out, "--per-shard", 2)
    assert "which is cut already" in refused(
        capsys, 2, "segments", "segments/Freeway", "--to", "csv", *out, "--stride", 2
    )
    wrong = (("--stride", 0), ("--length", -1), ("--padding", "top"), ("--per-shard", 0), ("--seed", -1))
    for option, value in (*wrong, ("--length", 10**20), ("--seed", 10**20)):
        assert str(value) in refused(capsys, 2, *ask, "webdataset", *out, option, value)
    assert "artefact of 'segments'" in refused(capsys, 2, "trajectories", "segments/Freeway", "--to", "zarr", *out)
    assert "is called 'trajectories/Pong'" in refused(
        capsys, 1, "trajectories", "trajectories/Pong", "--to", "zarr", *out
    )
    assert not (tmp_path / "out").exists()
    made.path(FILE_NAME).write_bytes(b"x")
    assert "is damaged" in refused(capsys, 1, *ask, "zarr", *out)


FULL = """
import resource, sys
from pipelines.cli import run
resource.setrlimit(resource.RLIMIT_FSIZE, (1 << 15, 1 << 15))
sys.exit(run(sys.argv[1:]))
"""


@pytest.mark.parametrize(
    "form",
    [
        "jowa-h5",
        pytest.param("zarr", marks=pytest.mark.slow),
        pytest.param("webdataset", marks=pytest.mark.slow),
        pytest.param("csv", marks=pytest.mark.slow),
    ],
)
def test_a_disk_that_refuses_bytes_is_one_line_and_leaves_nothing(made, tmp_path, form) -> None:
    if form == "csv":
        ask = ["export", "segments", str(put_episodes(Store(tmp_path / "home/store"), lengths=(9000,), seed=9).ref)]
        ask += ["--stride", "1", "--out", str(tmp_path / "out" / "a.csv")]
    else:
        ask = ["export", "trajectories", str(made.ref), "--out", str(tmp_path / "out")]
        ask += ["--no-compress"] if form == "webdataset" else []
    done = subprocess.run([sys.executable, "-c", FULL, *ask, "--to", form], capture_output=True, text=True, timeout=120)
    assert done.returncode == 1, done.stderr
    assert done.stderr.startswith("No space left in the folder") and done.stderr.count("\n") == 1, done.stderr
    assert not list(Path(tmp_path / "out").iterdir())


def test_a_folder_without_rights_is_one_line(made, tmp_path, capsys) -> None:
    (tmp_path / "file").write_text("")
    said = refused(capsys, 1, "trajectories", made.ref, "--to", "zarr", "--out", tmp_path / "file")
    assert "is not writable" in said and "choose another place" in said


def test_croissant_describes_data_and_nothing_else(made, tmp_path, capsys) -> None:
    out = tmp_path / "Freeway.json"
    said = ran(capsys, "croissant", "trajectories/Freeway", "--out", out, "--license", "CC0-1.0")
    assert said.startswith(f"{made.ref} -> {out}: 1 described files, ") and "read back" in said
    assert json.loads(out.read_text())["license"] == "CC0-1.0"
    assert "add --overwrite" in refused(capsys, 2, "croissant", "segments/Freeway", "--out", out)
    store = Store(tmp_path / "home" / "store")
    store.point("scores/x/Freeway", Ref("scores", "Freeway", "0" * 16))
    wrong = refused(capsys, 2, "croissant", "scores/x/Freeway", "--out", tmp_path / "x.json")
    assert "is an artefact of 'scores'" in wrong and not (tmp_path / "x.json").exists()
