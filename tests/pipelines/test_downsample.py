"""The trajectories stage: every drawn transition is one that was played, and a damaged frame file leaves nothing."""

import shutil

import numpy as np
import pytest

from pipelines import downsample, fetch
from pipelines.configs.data import DownsampleConfig, FetchConfig
from pipelines.errors import UsageError, WorldlineError
from pipelines.replay.layout import file_name, log_folder
from pipelines.replay.listing import digest, list_objects
from pipelines.replay.trajectories import FILE_NAME, Trajectories
from pipelines.store.store import Store
from tests.pipelines.replay.stages import make_replay, make_trajectories, nothing_left, put_collected
from tests.pipelines.replay.toy import Truth, write_replay


@pytest.fixture
def store(tmp_path) -> Store:
    return Store(tmp_path / "store")


def episode_of_truth(truth: Truth, episode: list[int]) -> tuple[np.ndarray, list[int], list[float]]:
    frames = np.stack([truth.frames[index] for index in episode])
    return frames, [truth.actions[index] for index in episode], [truth.rewards[index] for index in episode]


def test_every_transition_is_the_one_that_was_played(store, tmp_path) -> None:
    truths = {}
    for agent in (1, 2):
        lengths = [13, 29, 5, 61, 13, 40, 13, 13]  # 61 spans a whole ring
        truths[agent] = write_replay(tmp_path / "b", lengths, capacity=53, agent=agent, seed=agent, unfinished=4)
    collected = put_collected(store, tmp_path / "b")
    artefact = make_trajectories(store, *(make_replay(store, collected, agent) for agent in (1, 2)))
    found = Trajectories(artefact.path(FILE_NAME))
    assert len(found) == artefact.manifest.counts["transitions"] > 150
    assert found.terminals.sum() == found.num_episodes == artefact.manifest.counts["episodes"]
    for start, stop in zip(found.episode_starts[:-1].tolist(), found.episode_starts[1:].tolist(), strict=True):
        source = found.source_rows(start, stop)
        truth = truths[int(source[0, 0])]
        laps = np.array(truth.logged)[source[:, 1]] - (source[:, 2] == truth.capacity - 1)
        indices = (laps * truth.capacity + source[:, 2]).tolist()
        assert indices in truth.episodes
        frames, actions, rewards = episode_of_truth(truth, indices)
        np.testing.assert_array_equal(found.frames(start, stop), frames)
        assert found.actions[start:stop].tolist() == actions
        assert found.rewards[start:stop].tolist() == rewards
        assert found.terminals[start:stop].tolist() == [0] * (stop - start - 1) + [1]
    assert all(check.passed for check in artefact.manifest.checks if check.name != "enough_transitions")
    metrics = artefact.manifest.metrics
    assert metrics["raw_bytes"] == len(found) * 7056 and metrics["stored_bytes"] > 0


def test_the_order_of_agents_does_not_matter_to_the_bytes(tmp_path) -> None:
    for agent in (1, 2):
        write_replay(tmp_path / "b", [13] * 6, capacity=48, agent=agent, seed=agent)
    hashes = []
    for order in ((1, 2), (2, 1)):
        store = Store(tmp_path / f"store{order[0]}")
        collected = put_collected(store, tmp_path / "b")
        replays = [make_replay(store, collected, agent) for agent in order]
        hashes.append(make_trajectories(store, *replays, transitions=80).manifest.files[0].sha256)
    assert hashes[0] == hashes[1]


def frames_file(root, checkpoint: int = 1):
    return root / log_folder("Freeway", 1) / file_name("observation", checkpoint)


@pytest.mark.parametrize(
    ("where", "damage"), [("collected", "cut"), ("collected", "flip"), ("url", "cut"), ("url", "flip"), ("url", "swap")]
)
def test_damaged_frames_leave_one_line_and_no_artefact(store, tmp_path, where, damage) -> None:
    write_replay(tmp_path / "b", [13] * 8, capacity=48)
    spoil, other = frames_file(tmp_path / "b"), frames_file(tmp_path / "b", 0)

    def ruin() -> None:
        content = bytearray(spoil.read_bytes())
        if damage == "cut":
            del content[-100:]
        elif damage == "flip":
            content[-200] ^= 1
        else:
            content = bytearray(other.read_bytes())
        spoil.write_bytes(content)

    if where == "collected":  # damaged before it was fetched: only the inflater can tell
        ruin()
        replay = make_replay(store, put_collected(store, tmp_path / "b"))
    else:  # damaged after it was fetched: its checksum tells
        url = f"file://{tmp_path / 'b'}"
        listing = digest(list_objects(url, "Freeway", 1))
        replay = fetch.run(FetchConfig("Freeway", 1, url=url, listing=listing), store).artefact
        ruin()
    with pytest.raises(WorldlineError) as caught:
        make_trajectories(store, replay)
    assert str(spoil.name) in str(caught.value) and "\n" not in str(caught.value)
    assert nothing_left(store, "trajectories")


def test_a_collected_replay_that_was_deleted_is_named(store, tmp_path) -> None:
    write_replay(tmp_path / "b", [13] * 4, capacity=48)
    collected = put_collected(store, tmp_path / "b")
    replay = make_replay(store, collected)
    shutil.rmtree(store.root / str(collected))
    with pytest.raises(WorldlineError, match="collected_replay"):
        make_trajectories(store, replay)
    assert nothing_left(store, "trajectories")


def test_wrong_requests_are_usage_errors(store, tmp_path) -> None:
    write_replay(tmp_path / "b", [13] * 4, capacity=48)
    replay = make_replay(store, put_collected(store, tmp_path / "b"))
    for config, words in (
        (DownsampleConfig("Freeway", ()), "at least one replay"),
        (DownsampleConfig("Pong", (replay.ref,)), "is a replay of Freeway"),
        (DownsampleConfig("Freeway", (replay.ref, replay.ref)), "same agent"),
    ):
        with pytest.raises(UsageError, match=words):
            downsample.run(config, store)
    assert nothing_left(store, "trajectories")


def test_no_complete_episode_is_refused(store, tmp_path) -> None:
    write_replay(tmp_path / "b", [], capacity=48, unfinished=30)
    replay = make_replay(store, put_collected(store, tmp_path / "b"))
    with pytest.raises(WorldlineError, match="any_complete_episode"):
        make_trajectories(store, replay)
