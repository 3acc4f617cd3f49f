"""Both sides of the benchmark on tiny real data: they must see the same things, or their ratio says nothing."""

import json
import sys
from pathlib import Path

import google_crc32c
import numpy as np
import pandas as pd
import pytest

from pipelines.cli import run
from pipelines.episodes.trajectories import Trajectories
from pipelines.errors import UsageError, WorldlineError
from pipelines.tools.bench import replay, replay_data, replay_ours, replay_plain, replay_shards
from pipelines.tools.bench.replay_data import Data, Sizes

TINY = Sizes(games=("Breakout",), steps=700, objects=2, rows=400, bucket_game="Breakout", rounds=1)


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Data:
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("WORLDLINE_QUIET", "1")
        made = Data(tmp_path_factory.mktemp("bench"), TINY)
        made.collected("Breakout")
    return made


def test_both_sides_select_the_same_rows(data: Data) -> None:
    path = str(data.observation_file())
    for pieces in ([[0, 3]], [[5, 600], [900, 1400]], [[510, 515], [1399, 1400]], []):
        assert replay_ours.select_rows(path, pieces) == replay_plain.select_rows(path, pieces)


@pytest.mark.slow
def test_both_sides_give_the_same_segments(data: Data) -> None:
    """The plain side's items, one by one, against the transitions of the trajectory file."""
    source = Trajectories(data.trajectories("Breakout"))
    table = pd.read_csv(replay._table(data))
    assert set(table["Environment"]) == {"Breakout"}
    for of, wanted in (("frames", source.frames(0, len(source))), ("tokens", data.tokens("Breakout"))):
        files = {"Breakout": str(data.grouped("Breakout", of))}
        for index in (0, len(table) // 2, len(table) - 1):
            episode, start, end, _ = table.iloc[index]
            first = source.episode_starts[episode] + start
            item = replay_plain._segment(files, table, index, 8)
            np.testing.assert_array_equal(item[0][: end - start], wanted[first : first + end - start])
            np.testing.assert_array_equal(item[3][: end - start], source.terminals[first : first + end - start])
            assert item[4].sum() == end - start and not item[0][end - start :].any()


def test_trajectories_are_lossless_and_a_changed_frame_is_noticed(data: Data) -> None:
    source = Trajectories(data.trajectories("Breakout"))
    replay.require_lossless(data, "Breakout", source)
    changed = source.frames(0, len(source)).copy()
    changed[-1, 40, 40] ^= 1
    source.frames = lambda start, stop: changed[start:stop]  # type: ignore[method-assign]
    with pytest.raises(WorldlineError, match="of Breakout changed on their way"):
        replay.require_lossless(data, "Breakout", source)


def test_both_sides_read_the_same_episodes(data: Data) -> None:
    """The shard holds every frame of the log's whole episodes, and both sides see all of them in order."""
    shards = {"Breakout": str(data.shard("Breakout"))}
    found = replay_ours.episodes(shards)
    assert found == replay_plain.episodes(shards)
    played = [log["observation"][replay_data._episodes(log)[1]] for log in data.fresh("Breakout")]
    ended = sum(int(log["terminal"].sum()) for log in data.fresh("Breakout"))
    assert found == [[ended, sum(map(len, played)), google_crc32c.value(np.concatenate(played).tobytes())]]


def test_without_the_package_the_row_of_episodes_says_how_to_install_it(tmp_path: Path, monkeypatch) -> None:
    monkeypatch.setitem(sys.modules, "tfrecord.writer", None)
    with pytest.raises(WorldlineError, match=r"needs tfrecord: pip install 'worldline\[dev\]'"):
        Data(tmp_path, TINY).shard("Breakout")


def test_the_bucket_is_made_of_real_rings(data: Data) -> None:
    folder = data.bucket_folder()
    names = sorted(path.name for path in folder.rglob("*.gz"))
    assert len(names) == 2 * 6 and {name.rpartition(".gz")[0][-1] for name in names} == {"0", "1"}
    assert data.bucket_folder() == folder


def test_shards_hold_what_the_trajectories_do(data: Data) -> None:
    """Batches enough for one epoch: as many real steps as the segments of the HDF5 file have."""
    folder = replay_shards.exported(data)
    (url,) = [str(path) for path in folder.iterdir() if path.is_dir()]
    count = len(pd.read_csv(replay._table(data)))
    near = replay_shards.streamed([url], {}, 1, count)
    assert near == replay_ours.segments([str(data.trajectories("Breakout"))], [], 1, count) > count
    assert replay_shards.exported(data) == folder


@pytest.mark.slow
def test_every_row_is_measured(data: Data) -> None:
    """End to end, in child processes, through the emulator; figures of this size say nothing."""
    rows = replay.run(data.folder, TINY)
    assert [row.name for row in rows] == list(replay.ROWS)
    assert [row.aim for row in rows] == [8, 8, 50, None, 20, 5, 4]
    assert all(row.ratio > 0 for row in rows)
    json.dumps(replay.report(TINY, rows))


def test_an_unknown_row_is_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch) -> None:
    with pytest.raises(UsageError, match="Unknown row 'inflat': did you mean 'inflate'"):
        replay.run(tmp_path / "bench", TINY, "inflat")
    monkeypatch.setenv("WORLDLINE_HOME", str(tmp_path))
    assert run(["bench", "replay", "--only", "nothing"]) == 2
    assert capsys.readouterr().err.count("\n") == 1
    assert not (tmp_path / "bench").exists()
