"""RL Unplugged through the stages: every drawn transition was played, damage leaves nothing, killed runs go on."""

import gzip
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from pipelines.bucket.bucket import Bucket
from pipelines.episodes.trajectories import FILE_NAME, Trajectories
from pipelines.errors import UsageError, WorldlineError
from pipelines.sources.rlu import episodes as episodes_module
from pipelines.sources.rlu import shards as shards_module
from pipelines.sources.rlu.listing import file_name, list_objects
from pipelines.sources.rlu.source import SOURCE
from pipelines.sources.source import ReplayRecord, Run, digest
from pipelines.stages import downsample, fetch
from pipelines.stages.downsample import DownsampleConfig
from pipelines.stages.fetch import FetchConfig
from pipelines.store.artefact import Artefact
from pipelines.store.store import Store
from tests.pipelines.sources.rlu.runs import SHARDS, Played, require_played, write_run
from tests.pipelines.sources.rlu.shards import example, packed, play, png, record, write_shard
from tests.pipelines.stages.helpers import make_trajectories, note_extracted, nothing_left


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return Store(tmp_path / "store")


@pytest.fixture
def root(tmp_path: Path) -> Path:
    return tmp_path / "bucket"


def make_replay(store: Store, root: Path, game: str = "Pong", agent: int = 1) -> Artefact:
    url = f"file://{root}"
    listing = digest(list_objects(Bucket.of(url), game, agent))
    return fetch.run(FetchConfig(game, agent, url=url, listing=listing, layout="rl_unplugged"), store).artefact


def drawn_of(made: Artefact) -> Trajectories:
    return Trajectories(made.path(FILE_NAME))


def checks_of(made: Artefact) -> dict[str, tuple[bool, dict[str, int]]]:
    return {check.name: (check.passed, dict(check.counts)) for check in made.manifest.checks}


def shard_path(root: Path, shard: int) -> Path:
    return root / "Pong" / file_name(1, shard, SHARDS)


@pytest.mark.parametrize("shifted", [False, True])
def test_every_transition_is_the_one_that_was_played(store, root, shifted) -> None:
    """Wherever the rewards stand: the episodes that end truly show it."""
    played = write_run(root, shifted=shifted)
    replay = make_replay(store, root)
    found = drawn_of(make_trajectories(store, replay))
    assert require_played(found, played) == set(played.whole())
    checks = checks_of(replay)
    assert all(passed for passed, _ in checks.values()), checks
    ended = sum(each.terminated for shard in played.shards.values() for each in shard)
    assert checks["alignment"][1] == {
        "ended": ended,
        "in_last": ended * shifted,
        "in_last_but_one": checks["alignment"][1]["in_last_but_one"],
        "in_first": 0,
    }
    assert checks["any_complete_episode"][1] == {"complete": len(played.whole()), "incomplete": 4}
    table = ReplayRecord.open(replay, store).episodes
    truths = [each for shard in played.shards.values() for each in shard]
    expected = [float(each.rewards[: len(each.rewards) - (shifted and not each.terminated)].sum()) for each in truths]
    assert table["raw_return"].tolist() == expected
    assert table["terminated"].tolist() == [each.terminated for each in truths]
    assert [root["crc32c"] is not None for root in replay.manifest.roots] == [True] * SHARDS


def test_the_limit_of_time_makes_an_episode_whole_and_a_cut_does_not(store, root, monkeypatch) -> None:
    """As rows of transitions agree with `align`, which reads one episode alone."""
    monkeypatch.setattr(shards_module, "TIME_LIMIT", 30)
    monkeypatch.setattr(episodes_module, "TIME_LIMIT", 30)
    monkeypatch.setattr(episodes_module, "MOST_ROWS", 31)
    truths = [play(n, steps, ended, 0, n) for n, (steps, ended) in enumerate([(30, False), (12, False), (9, True)])]
    truths += [play(9, 30, True, 0, 3), play(10, 5, True, 0, 4)]
    write_shard(root / "Pong" / file_name(1, 0, 1), truths)
    replay = make_replay(store, root)
    table = ReplayRecord.open(replay, store).episodes
    assert table["truncated"].tolist() == [True, False, False, False, False]
    assert table["terminated"].tolist() == [False, False, True, True, True]
    assert table["complete"].tolist() == [True, False, False, True, True], "what follows a cut may be its rest"
    assert checks_of(replay)["episode_length"] == (False, {"longest": 30, "truncated": 1, "cut_within": 1})
    found = drawn_of(make_trajectories(store, replay))
    assert found.truncations.sum() == 1 and found.truncations[29] == 1 and found.terminals.sum() == 2


def test_the_bytes_depend_on_neither_workers_nor_the_order_of_agents(root, tmp_path, monkeypatch) -> None:
    for agent in (1, 2):
        write_run(root, agent=agent, seed=agent)
    files = []
    for workers in (1, 2, 8):
        monkeypatch.setattr(SOURCE, "at_once", workers)
        store = Store(tmp_path / str(workers))
        replays = [make_replay(store, root, agent=agent) for agent in ((1, 2) if workers > 1 else (2, 1))]
        config = DownsampleConfig("Pong", 200, replays=tuple(each.ref for each in replays), workers=workers)
        made = downsample.run(config, store).artefact
        by_agent = sorted(replays, key=lambda each: each.ref.subject)
        files.append([entry for each in (*by_agent, made) for entry in each.manifest.files])
    assert files[0] == files[1] == files[2] and len(files[0]) > 6


def test_only_shards_with_drawn_episodes_are_read_and_only_drawn_frames_decoded(store, root, monkeypatch) -> None:
    played = write_run(root)
    replay = make_replay(store, root)
    read, real = [], Bucket.open
    monkeypatch.setattr(Bucket, "open", lambda self, item: read.append(item.name) or real(self, item))
    made = make_trajectories(store, replay, transitions=30)
    found = drawn_of(made)
    drawn = require_played(found, played)
    assert 0 < len({shard for shard, _ in drawn}) < SHARDS
    assert sorted(set(read)) == sorted(f"Pong/{file_name(1, shard, SHARDS)}" for shard in {each for each, _ in drawn})
    assert made.manifest.metrics["inflated_bytes"] == len(found) * 84 * 84


def test_a_fetch_that_was_stopped_reads_the_other_shards_alone(store, root, monkeypatch) -> None:
    write_run(root)
    monkeypatch.setattr(SOURCE, "at_once", 1)
    real, read = shards_module.Shard.read, []

    def stopping(item, *rest):
        if len(read) == 2:
            raise KeyboardInterrupt
        read.append(item.name)
        return real(item, *rest)

    monkeypatch.setattr(shards_module.Shard, "read", stopping)
    with pytest.raises(KeyboardInterrupt):
        make_replay(store, root)
    assert nothing_left(store, "replay") and len(read) == 2
    kept = sorted(store.scratch.rglob("*.npz"))
    kept[0].write_bytes(kept[0].read_bytes()[:200])  # half of one is none
    after = []
    monkeypatch.setattr(shards_module.Shard, "read", lambda item, *rest: after.append(item.name) or real(item, *rest))
    made = make_replay(store, root)
    assert sorted([*read[1:], *after]) == sorted(f"Pong/{file_name(1, shard, SHARDS)}" for shard in range(SHARDS))
    monkeypatch.undo()
    assert made.manifest.files == make_replay(Store(store.root.with_name("other")), root).manifest.files


def test_a_downsample_that_was_stopped_reads_the_other_shards_alone(store, root, monkeypatch) -> None:
    write_run(root)
    replay = make_replay(store, root)
    config = DownsampleConfig("Pong", 10_000, replays=(replay.ref,), workers=1)
    with monkeypatch.context() as first, pytest.raises(KeyboardInterrupt):
        read = note_extracted(first, most=2)
        downsample.run(config, store)
    assert nothing_left(store, "trajectories")
    after = note_extracted(monkeypatch)
    assert downsample.run(config, store).artefact.faults(rehash=True) == []
    assert len(read) == 2 and len(after) == 2 and not {*read} & {*after}


def _cut(data: bytes) -> bytes:
    return data[: len(data) // 2]


def _flipped(data: bytes) -> bytes:
    return data[: len(data) // 2] + bytes([data[len(data) // 2] ^ 8]) + data[len(data) // 2 + 1 :]


def _flipped_within(data: bytes) -> bytes:
    """Whole gzip, but a record's checksum says otherwise."""
    return packed(_flipped(gzip.decompress(data)))


def _other_game(_: bytes) -> bytes:
    return packed(record(example(play(3, 20).features() | {"actions": ("integers", [17] * 21)})))


DAMAGE: list[tuple[Callable[[bytes], bytes], str]] = [
    (_cut, "truncated"),
    (_flipped, "damaged gzip|checksum"),
    (_flipped_within, "record .: has the checksum|is cut|its length"),
    (lambda _: b"", "is empty"),
    (lambda data: gzip.decompress(data), "no gzip file"),
    (_other_game, "has action 17: Pong has 0 to 5"),
    (lambda _: packed(b"\xff" * 40), "its length"),
]


@pytest.mark.parametrize(("damage", "text"), DAMAGE, ids=[text[:12] for _, text in DAMAGE])
@pytest.mark.parametrize("later", [False, True])
def test_a_damaged_shard_is_one_line_and_leaves_nothing(store, root, damage, text, later) -> None:
    """Before fetch, and between fetch and downsample, which sees that the object is another one."""
    write_run(root)
    replay = make_replay(store, root) if later else None
    path = shard_path(root, 1)
    path.write_bytes(damage(path.read_bytes()))
    with pytest.raises(WorldlineError, match="the object list says|replaced" if later else text) as caught:
        make_trajectories(store, replay) if replay else make_replay(store, root)
    assert "\n" not in str(caught.value) and path.name in str(caught.value) and len(str(caught.value)) < 400
    assert nothing_left(store, "trajectories" if later else "replay")


def test_missing_and_misplaced_shards_are_findings_and_what_follows_them_is_not_whole(store, root) -> None:
    played = write_run(root)
    shard_path(root, 2).unlink()
    write_shard(shard_path(root, 0), played.shards[0][:1] + played.shards[0][2:])
    checks = checks_of(replay := make_replay(store, root))
    expected = {"shards": 3, "missing": 1, "numbers_apart": 1, "of_another_checkpoint": 0}
    assert checks["no_gap"] == (False, expected)
    whole = ReplayRecord.open(replay, store).episodes.groupby("checkpoint")["complete"].apply(list)
    assert whole[3] == [False, True, True, True], "the shard before it is missing"
    shard_path(root, 2).write_bytes(shard_path(root, 3).read_bytes())
    again = checks_of(make_replay(store, root))["no_gap"]
    assert again == (False, {"shards": 4, "missing": 0, "numbers_apart": 1, "of_another_checkpoint": 4})


def test_rewards_that_contradict_each_other_are_a_finding_with_counts(store, root) -> None:
    """Most stand behind their actions; where some do not, those episodes lose one and their sums tell."""
    write_run(root, shifted=True)
    odd = play(77, 12, True, 3, 4)
    odd.rewards[0], odd.rewards[-1] = 1, 0
    path = shard_path(root, 3)
    inner = gzip.decompress(path.read_bytes()) + record(example(odd.features()))
    path.write_bytes(packed(inner))
    checks = checks_of(make_replay(store, root))
    assert checks["alignment"][0] is False and checks["alignment"][1]["in_first"] == 1
    assert checks["sums_agree"] == (False, {"episodes": 17, "differing": 1})


def test_what_the_source_cannot_do_is_said(root) -> None:
    write_run(root)
    bucket = Bucket.of(f"file://{root}")
    with pytest.raises(UsageError, match=r"fetch.compat is jowa: .*leave it out"):
        SOURCE.list_objects(bucket, Run("Pong", 1, compat="jowa"))
    with pytest.raises(UsageError, match=r"fetch.keep_padding is True"):
        SOURCE.list_objects(bucket, Run("Pong", 1, keep_padding=True))
    run, objects = SOURCE.probe(bucket)
    assert str(run) == "Pong/1" and len(objects) == SHARDS
    assert SOURCE.foresee(run, bucket, objects) is None


def test_an_empty_shard_is_read(store, root) -> None:
    played = write_run(root)
    shard_path(root, 1).write_bytes(packed(b""))
    replay = make_replay(store, root)
    assert replay.manifest.counts["episodes"] == 12
    found = drawn_of(make_trajectories(store, replay))
    assert not {shard for shard, _ in require_played(found, Played(played.shards | {1: []}))} & {1}
    assert np.all(found.source_rows(0, len(found))[:, 0] == 1)


PEAK = """
import os, sys
from pathlib import Path
from pipelines.store.store import Store
from tests.pipelines.sources.rlu.test_source import drawn_of, make_replay, make_trajectories
os.cpu_count = lambda: 64  # memory depends on the number of cores no more than on the files
replay = make_replay(Store(Path(sys.argv[1]) / "store"), Path(sys.argv[1]) / "bucket")
drawn = drawn_of(make_trajectories(Store(Path(sys.argv[1]) / "store"), replay, transitions=10**9))
assert len(drawn) == 4 * 27_000
status = Path("/proc/self/status").read_text()  # ru_maxrss would count pytest's own memory, from before the exec
print(status.split("VmHWM:")[1].split()[0])
"""


@pytest.mark.slow
def test_episodes_of_the_longest_kind_need_less_than_400_mb(root, tmp_path) -> None:
    """Four shards of 27,000 frames of 1.5 kB, all of them drawn."""
    random = np.random.default_rng(0)
    frame = np.repeat(np.repeat(random.integers(0, 256, (21, 42), np.uint8), 4, 0), 2, 1)
    data = png(frame)
    assert 1000 < len(data) < 3000
    for shard in range(4):
        rows = 27_000
        zeros = ("floats", [0.0] * rows)
        features = play(0, 2, False, shard, 0).features() | {
            "episode_return": ("floats", [0.0]),
            "clipped_episode_return": ("floats", [0.0]),
            "observations": ("bytes", [data] * rows),
            "actions": ("integers", [0] * rows),
            "unclipped_rewards": zeros,
            "clipped_rewards": zeros,
            "discounts": ("floats", [1.0] * rows),
        }
        path = root / "Pong" / file_name(1, shard, 4)
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(packed(record(example(features))))
    environment = os.environ | {"WORLDLINE_STORAGE": ""}
    peak = subprocess.run(
        [sys.executable, "-c", PEAK, tmp_path], capture_output=True, text=True, check=True, env=environment
    )
    assert 50_000 < int(peak.stdout) < 400_000, "kB"
