"""The replay stage on toy buckets: what it records, and that hostile files leave one line and no artefact."""

import gzip
import io
import json
import shutil

import numpy as np
import pandas as pd
import pytest

from pipelines.episodes.trajectories import Trajectories
from pipelines.errors import UsageError, WorldlineError
from pipelines.sources.dqn_replay.listing import ALL_KINDS, KINDS, SIDE_KINDS, file_name, list_objects, log_folder
from pipelines.sources.dqn_replay.log_reader import read_array
from pipelines.sources.dqn_replay.source import read_small
from pipelines.sources.source import ReplayRecord, digest
from pipelines.stages import fetch
from pipelines.stages.fetch import FetchConfig
from pipelines.store.manifest import CheckEntry
from pipelines.store.store import Store
from tests import fakes
from tests.pipelines.sources.dqn_replay.toy import write_replay
from tests.pipelines.stages.helpers import make_replay, make_trajectories, nothing_left, put_collected

pytestmark = pytest.mark.usefixtures("undrawn")

FOLDER = log_folder("Freeway", 1)


@pytest.fixture
def store(tmp_path) -> Store:
    return Store(tmp_path / "store")


@pytest.fixture
def bucket(tmp_path):
    write_replay(tmp_path / "bucket", [13] * 8, capacity=48, unfinished=3)
    return tmp_path / "bucket"


def rewrite(path, change) -> None:
    """Replace an array in place by change(array)."""
    raw = io.BytesIO()
    np.save(raw, change(read_array(f"file://{path}").copy()))
    path.write_bytes(gzip.compress(raw.getvalue(), mtime=0))


def test_records_objects_arrays_episodes_and_checks(store, bucket) -> None:
    artefact = make_replay(store, put_collected(store, bucket))
    record = ReplayRecord.open(artefact, store)
    assert all(check.passed for check in artefact.manifest.checks), artefact.manifest.checks
    assert len(record.objects) == 3 * len(ALL_KINDS) == artefact.manifest.counts["files"]
    for item in record.objects:
        assert item.crc32c == fakes.crc32c_of(bucket / item.name) and item.bytes == (bucket / item.name).stat().st_size
        assert item.version is None
    assert record.episodes["complete"].sum() == 8 == artefact.manifest.counts["complete_episodes"]
    assert artefact.manifest.counts["transitions"] == 8 * 13 + 3
    complete = record.episodes[record.episodes["complete"]]
    means = artefact.manifest.metrics["mean_clipped_return"]
    assert means == {str(n): round(float(v), 4) for n, v in complete.groupby("checkpoint")["return"].mean().items()}
    logs = read_small(record)
    assert [log.checkpoint for log in logs] == [0, 1, 2]
    np.testing.assert_array_equal(logs[1].actions, read_array(f"file://{bucket / FOLDER / file_name('action', 1)}"))


def test_the_same_bucket_gives_the_same_bytes(tmp_path, bucket) -> None:
    found = []
    for name in ("one", "two"):
        store = Store(tmp_path / name)
        artefact = make_replay(store, put_collected(store, bucket))
        found.append([(entry.path, entry.sha256) for entry in artefact.manifest.files])
    assert found[0] == found[1]


def test_a_url_is_pinned_by_its_listing(store, bucket) -> None:
    url = f"file://{bucket}"
    listing = digest(list_objects(url, "Freeway", 1))
    artefact = fetch.run(FetchConfig("Freeway", 1, url=url, listing=listing), store).artefact
    assert len(artefact.manifest.roots) == 18 and artefact.manifest.roots[0]["crc32c"]
    rewrite(bucket / FOLDER / file_name("reward", 0), lambda rewards: rewards * 0)
    with pytest.raises(WorldlineError, match="the bucket changed"):
        fetch.run(FetchConfig("Freeway", 1, url=url + "/", listing=listing), store)


def test_agents_share_one_bucket(store, tmp_path) -> None:
    for agent in (1, 2):
        write_replay(tmp_path / "both", [10] * 5, capacity=60, agent=agent, seed=agent)
    collected = put_collected(store, tmp_path / "both")
    records = [ReplayRecord.open(make_replay(store, collected, agent), store) for agent in (1, 2)]
    assert [set(record.episodes["agent"]) for record in records] == [{1}, {2}]
    assert not records[0].episodes["return"].equals(records[1].episodes["return"])


def cut(path) -> None:
    path.write_bytes(path.read_bytes()[:-6])


def flip(path) -> None:
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 0x10
    path.write_bytes(bytes(content))


@pytest.mark.parametrize(
    ("kind", "damage", "words"),
    [
        ("action", cut, "truncated"),
        ("reward", flip, "damaged|truncated|fewer|bytes after|no .npy"),
        ("terminal", lambda path: path.unlink(), "is missing"),
        ("add_count", lambda path: path.unlink(), "is missing"),
        ("observation", lambda path: path.write_bytes(b""), "is empty"),
        ("observation", lambda path: path.write_bytes(b"<html>404</html>"), "no gzip file"),
        ("observation", lambda path: rewrite(path, lambda a: a[:, :80]), "84, 84"),
        ("observation", lambda path: rewrite(path, lambda a: a.astype(np.int16)), "uint8"),
        ("action", lambda path: rewrite(path, lambda a: a.astype(np.float32)), "float32"),
        ("reward", lambda path: rewrite(path, lambda a: a.astype(np.int32)), "int32"),
        ("add_count", lambda path: rewrite(path, lambda a: np.arange(3)), "shape"),
        ("add_count", lambda path: rewrite(path, lambda a: a * 0 - 1), "add_count -1"),
        ("action", lambda path: rewrite(path, lambda a: a.reshape(-1, 2)), "shape"),
    ],
)
def test_hostile_files_leave_one_line_and_no_artefact(store, bucket, kind, damage, words) -> None:
    damage(bucket / FOLDER / file_name(kind, 1))
    collected = put_collected(store, bucket)
    with pytest.raises(WorldlineError, match=words) as caught:
        make_replay(store, collected)
    message = str(caught.value)
    assert "\n" not in message and len(message) < 400
    assert ("again from its source" in message) is (damage in (cut, flip) or "empty" in words)
    assert nothing_left(store, "replay")


def test_trailing_dimensions_of_1_change_nothing(store, bucket) -> None:
    """As some writers save `observation[..., None]` and columns: the rows mean the same."""
    plain = make_replay(store, put_collected(store, bucket))
    for kind in ALL_KINDS:
        rewrite(bucket / FOLDER / file_name(kind, 1), lambda a: a[..., None])
    other = make_replay(store, put_collected(store, bucket, seed=1))
    for name in ("episodes.parquet", "pieces.parquet", "evidence.parquet", "small.h5"):
        assert plain.path(name).read_bytes() == other.path(name).read_bytes()
    frames = [
        Trajectories(make_trajectories(store, each).path("trajectories.h5")).frames(0, 100) for each in (plain, other)
    ]
    np.testing.assert_array_equal(*frames)


@pytest.mark.parametrize(
    ("kind", "change", "check"),
    [
        ("reward", lambda a: a * 5, "rewards_clipped"),
        ("reward", lambda a: a + np.nan, "rewards_clipped"),
        ("action", lambda a: a + 3, "actions_minimal"),
        ("action", lambda a: a + 1000, "actions_minimal"),
        ("action", lambda a: a - 1, "actions_minimal"),
        ("terminal", lambda a: a * 3, "terminals_binary"),
    ],
)
def test_findings_block_children_in_any_run(store, bucket, kind, change, check) -> None:
    rewrite(bucket / FOLDER / file_name(kind, 1), change)
    collected = put_collected(store, bucket)
    artefact = make_replay(store, collected)
    failed = {entry.name: entry for entry in artefact.manifest.checks if entry.blocking and not entry.passed}
    assert check in failed and failed[check].counts["odd"] > 0
    for later in (store, Store(store.root)):  # the manifest blocks, not the run that found it
        again = fetch.run(FetchConfig("Freeway", 1, collected=collected), later)
        assert again.skipped and again.artefact.ref == artefact.ref
        with pytest.raises(WorldlineError, match="failed its check"):
            make_trajectories(later, artefact)
    assert nothing_left(store, "trajectories")


def seen(artefact, name: str) -> CheckEntry:
    return next(check for check in artefact.manifest.checks if check.name == name)


@pytest.mark.parametrize("kind", ["action", "observation"])
def test_a_log_whose_files_disagree_in_length_is_left_out_as_a_gap(store, bucket, kind) -> None:
    rewrite(bucket / FOLDER / file_name(kind, 1), lambda a: a[:-5])
    artefact = make_replay(store, put_collected(store, bucket))
    found = seen(artefact, "lengths_agree")
    assert not found.passed and not found.blocking and found.counts["left_out"] == 1
    assert f"{kind} 43" in found.detail
    assert not seen(artefact, "no_gap").passed
    record = ReplayRecord.open(artefact, store)
    assert [log.checkpoint for log in read_small(record)] == [0, 2] and not set(record.pieces["file"]) & {1}
    assert pd.read_parquet(artefact.path("evidence.parquet"))["border"].tolist() == ["first", "left out", "gap"]


def test_no_log_at_all_that_agrees(store, bucket) -> None:
    for n in range(3):
        rewrite(bucket / FOLDER / file_name("reward", n), lambda a: a[:-1])
    with pytest.raises(WorldlineError, match="no log whose files agree"):
        make_replay(store, put_collected(store, bucket))
    assert nothing_left(store, "replay")


def test_rows_that_were_never_written_may_hold_anything(store, tmp_path) -> None:
    write_replay(tmp_path / "b", [13] * 2, capacity=60, unfinished=3)
    for kind, garbage in (("action", -7), ("reward", np.nan), ("terminal", 9)):

        def spoil(array, garbage=garbage):
            array[2 * 16 + 6 :] = garbage
            return array

        rewrite(tmp_path / "b" / FOLDER / file_name(kind, 0), spoil)
    artefact = make_replay(store, put_collected(store, tmp_path / "b"))
    assert all(check.passed for check in artefact.manifest.checks if check.name != "no_gap"), artefact.manifest.checks


def test_a_gap_is_a_finding_that_does_not_block(store, bucket) -> None:
    for kind in ALL_KINDS:
        (bucket / FOLDER / file_name(kind, 1)).unlink()
    artefact = make_replay(store, put_collected(store, bucket))
    gap = next(check for check in artefact.manifest.checks if check.name == "no_gap")
    assert not gap.passed and not gap.blocking
    store.open(artefact.ref)


@pytest.mark.parametrize(
    ("kind", "change"),
    [("invalid_range", lambda a: a + 1), ("invalid_range", lambda a: a[:2]), ("add_count", lambda a: a + 7)],
)
def test_a_wrong_invalid_range_or_count_is_a_finding(store, bucket, kind, change) -> None:
    rewrite(bucket / FOLDER / file_name(kind, 1), change)
    artefact = make_replay(store, put_collected(store, bucket))
    for name in ("invalid_range", "no_gap"):
        assert not seen(artefact, name).passed and not seen(artefact, name).blocking
    record = ReplayRecord.open(artefact, store)
    across = record.pieces.groupby("episode")["file"].nunique()
    assert across.max() == 1, "nothing is joined to the doubtful log"


def test_a_count_that_goes_back_blocks(store, tmp_path) -> None:
    write_replay(tmp_path / "b", [13] * 12, capacity=48)
    rewrite(tmp_path / "b" / FOLDER / file_name("add_count", 2), lambda a: a - 96)
    rewrite(tmp_path / "b" / FOLDER / file_name("add_count", 1), lambda a: a + 48)
    found = seen(make_replay(store, put_collected(store, tmp_path / "b")), "add_count")
    assert not found.passed and found.blocking and found.counts["goes_back"] == 1


def test_checks_carry_counts_and_one_picture(store, bucket) -> None:
    artefact = make_replay(store, put_collected(store, bucket))
    assert [check.name for check in artefact.manifest.checks] == [*FetchConfig.CHECKS[:-2]]
    assert all(check.counts for check in artefact.manifest.checks)
    assert {check.picture for check in artefact.manifest.checks} == {"", "replay.png"}
    assert artefact.path("replay.png").read_bytes().startswith(b"\x89PNG")
    evidence = pd.read_parquet(artefact.path("evidence.parquet"))
    assert evidence["border"].tolist() == ["first", "joined", "joined"] and set(evidence["padding"]) == {"all"}
    assert evidence["fresh"].sum() == artefact.manifest.counts["transitions"] + 8 * 3 + 3


def test_kept_padding_reaches_the_trajectories(store, bucket) -> None:
    collected = put_collected(store, bucket)
    plain = make_replay(store, collected)
    kept = fetch.run(FetchConfig("Freeway", 1, collected=collected, keep_padding=True), store).artefact
    assert kept.ref != plain.ref
    first = Trajectories(make_trajectories(store, kept).path("trajectories.h5"))
    assert len(first) == 8 * (13 + 3) and not first.frames(0, 3).any() and first.frames(3, 4).any()


def test_compat_reads_each_file_alone(store, bucket) -> None:
    collected = put_collected(store, bucket)
    artefact = fetch.run(FetchConfig("Freeway", 1, collected=collected, compat="jowa"), store).artefact
    record = ReplayRecord.open(artefact, store)
    assert set(record.pieces["file"]) == {1, 2} and record.episodes["complete"].all()
    assert record.pieces["start"].groupby(record.pieces["file"]).min().tolist() == [0, 0]
    drawn = Trajectories(make_trajectories(store, artefact).path("trajectories.h5"))
    assert len(drawn) == record.episodes["length"].sum()
    assert int(drawn.terminals.sum()) == len(record.episodes) and not drawn.truncations.any()


def test_compat_reads_a_download_without_side_files(store, tmp_path) -> None:
    """JOWA's own: four kinds of files of the logs from 1 on. Every frame, action, reward and end is the original's."""
    write_replay(tmp_path / "b", [13] * 12, capacity=48)
    folder = tmp_path / "b" / FOLDER
    for path in folder.iterdir():
        if not path.name.startswith("$store$") or path.name.endswith(".0.gz"):
            path.unlink()
    collected = put_collected(store, tmp_path / "b")
    with pytest.raises(WorldlineError, match=r"add_count_ckpt.1.gz is missing.*fetch.compat=jowa"):
        make_replay(store, collected)
    artefact = fetch.run(FetchConfig("Freeway", 1, collected=collected, compat="jowa"), store).artefact
    told = {check.name: check for check in artefact.manifest.checks}
    assert not told["add_count"].passed and not told["add_count"].blocking and not told["invalid_range"].passed
    assert told["add_count"].detail.startswith("not there for logs 1, 2, 3")
    drawn = Trajectories(make_trajectories(store, artefact).path("trajectories.h5"))
    kinds = ("observation", "action", "reward", "terminal")
    logs = [[read_array(f"file://{folder}/{file_name(kind, n)}") for kind in kinds] for n in range(1, 5)]
    whole = [np.concatenate([log[kind][: np.flatnonzero(log[3])[-1] + 1] for log in logs]) for kind in range(4)]
    for array, name in zip(whole[1:], ("actions", "rewards", "terminals"), strict=True):
        np.testing.assert_array_equal(array, getattr(drawn, name))
    np.testing.assert_array_equal(whole[0], drawn.frames(0, len(drawn)))


def test_the_cache_of_d4rl_atari_is_read_as_jowa_reads_logs(store, bucket, tmp_path) -> None:
    """Its folders hold the same files under other names; without side files nothing tells which rows are new."""
    cache = tmp_path / "datasets"
    for log in (1, 2):
        (cache / f"Freeway/1/{log}").mkdir(parents=True)
        for kind in KINDS:
            shutil.copy(bucket / FOLDER / file_name(kind, log), cache / f"Freeway/1/{log}/{kind}.gz")
    (cache / "Freeway/1/1/notes.txt").write_text("no log")
    with pytest.raises(WorldlineError, match=r"add_count_ckpt.1.gz is missing.*fetch.compat=jowa"):
        list_objects(f"file://{cache}", "Freeway", 1)
    for side in (path for kind in SIDE_KINDS for path in (bucket / FOLDER).glob(f"*{kind}*")):
        side.unlink()
    made = []
    for root in (bucket, cache):
        for path in (root / FOLDER).glob("*ckpt.0*"):
            path.unlink()
        listing = digest(list_objects(f"file://{root}", "Freeway", 1, KINDS))
        config = FetchConfig("Freeway", 1, url=f"file://{root}", listing=listing, compat="jowa")
        made.append(make_trajectories(store, fetch.run(config, store).artefact))
    logs, cached = (Trajectories(each.path("trajectories.h5")) for each in made)
    np.testing.assert_array_equal(cached.frames(0, len(cached)), logs.frames(0, len(logs)))
    np.testing.assert_array_equal(cached.source_rows(0, len(cached)), logs.source_rows(0, len(logs)))
    np.testing.assert_array_equal(cached.actions, logs.actions)


@pytest.mark.parametrize("options", [{"compat": "dopamine"}, {"compat": "jowa", "keep_padding": True}])
def test_readings_that_do_not_exist(options) -> None:
    with pytest.raises(UsageError, match="compat"):
        FetchConfig("Freeway", 1, url="file:///nowhere", **options)


def test_options_leave_old_keys_alone() -> None:
    config = FetchConfig("Freeway", 1, url="u", listing="l").spec().config
    assert not {"keep_padding", "compat"} & set(config)


def test_tables_are_plain(store, bucket) -> None:
    artefact = make_replay(store, put_collected(store, bucket))
    episodes = pd.read_parquet(artefact.path("episodes.parquet"))
    assert list(episodes["episode"]) == list(range(len(episodes)))
    pieces = pd.read_parquet(artefact.path("pieces.parquet"))
    lengths = (pieces["stop"] - pieces["start"]).groupby(pieces["episode"]).sum()
    assert lengths.tolist() == episodes["length"].tolist()
    assert json.loads(artefact.path("objects.json").read_text())[0]["name"].startswith(FOLDER)
