"""The trajectories stage: the draw, every drawn transition is one that was played, a damaged file leaves nothing."""

import shutil
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipelines.episodes.trajectories import FILE_NAME, Trajectories
from pipelines.errors import UsageError, WorldlineError
from pipelines.sources.dqn_replay.listing import file_name, list_objects, log_folder
from pipelines.sources.source import digest
from pipelines.stages import downsample, fetch
from pipelines.stages.downsample import DownsampleConfig, budget, draw, eligible, place_pieces
from pipelines.stages.fetch import FetchConfig
from pipelines.store.artefact import Artefact
from pipelines.store.store import Store
from tests.pipelines.sources.dqn_replay.toy import Truth, write_replay
from tests.pipelines.stages.helpers import make_replay, make_trajectories, note_extracted, nothing_left, put_collected

pytestmark = pytest.mark.usefixtures("undrawn")

COLUMNS = ["agent", "episode", "length", "return", "checkpoint", "complete"]


def episodes(seed: int = 1, count: int = 40) -> pd.DataFrame:
    rng = np.random.default_rng(seed)
    rows = [
        (agent, e, int(rng.integers(5, 50)), float(rng.integers(-5, 6)), e // 10, bool(rng.random() < 0.9))
        for agent in (1, 2, 3)
        for e in range(count)
    ]
    return pd.DataFrame(rows, columns=COLUMNS)


def drawn_of(table: pd.DataFrame, **options) -> pd.DataFrame:
    config = DownsampleConfig(**({"game": "Freeway", "transitions": 700} | options))
    return draw(eligible(table, config), config)


def pairs(drawn: pd.DataFrame) -> set[tuple[int, int]]:
    return set(zip(drawn["agent"], drawn["episode"], strict=True))


def test_the_draw_is_whole_without_replacement_and_ignores_row_order() -> None:
    table = episodes()
    drawn = drawn_of(table)
    assert drawn["complete"].all() and not drawn.duplicated(["agent", "episode"]).any()
    assert 700 <= drawn["length"].sum() < 700 + 50
    pd.testing.assert_frame_equal(drawn, drawn_of(table.sample(frac=1, random_state=3)))
    assert not drawn.equals(drawn_of(table, seed=1))
    assert not drawn.equals(drawn_of(table, game="Pong"))
    assert len(drawn_of(table, transitions=10**9)) == table["complete"].sum()
    # A larger draw contains the smaller one, so a data ablation adds episodes and swaps none.
    assert pairs(drawn) < pairs(drawn_of(table, transitions=1400))


@given(st.integers(0, 99), st.integers(1, 3000), st.booleans(), st.floats(0, 1))
def test_slots_are_one_stretch_by_agent_and_episode(seed, transitions, replacement, fraction) -> None:
    table = episodes(seed)
    config = DownsampleConfig("Freeway", transitions, seed, fraction, replacement)
    candidates = eligible(table, config)
    drawn = draw(candidates, config)
    assert drawn["slot"].tolist() == [0, *drawn["length"].cumsum().tolist()[:-1]]
    assert drawn.sort_values(["agent", "episode"], kind="stable").index.tolist() == list(range(len(drawn)))
    wanted, total = budget(candidates, config), int(drawn["length"].sum())
    if replacement:
        assert len(drawn) == int(np.ceil(wanted / candidates["length"].mean()))
    else:
        assert total >= min(wanted, candidates["length"].sum()) and total - wanted < 50


def test_with_replacement_an_episode_may_come_twice() -> None:
    drawn = drawn_of(episodes(), transitions=10_000, replacement=True)
    assert drawn.duplicated(["agent", "episode"]).any()
    assert drawn.equals(drawn_of(episodes().sample(frac=1, random_state=1), transitions=10_000, replacement=True))


def test_a_fraction_is_of_what_passes_the_filters() -> None:
    table = episodes()
    assert len(drawn_of(table, fraction=1.0)) == table["complete"].sum()
    late = table[table["complete"] & (table["checkpoint"] >= 2)]
    drawn = drawn_of(table, fraction=0.25, first_checkpoint=2)
    assert drawn["checkpoint"].min() == 2
    assert 0 <= drawn["length"].sum() - late["length"].sum() / 4 < 50


def test_filters_by_checkpoint_and_by_quantile_of_return() -> None:
    table = episodes()
    kept = drawn_of(table, fraction=1.0, first_checkpoint=1, last_checkpoint=2)
    assert set(kept["checkpoint"]) == {1, 2}
    best = drawn_of(table, fraction=1.0, min_return=0.9)
    assert best["return"].min() >= np.quantile(table[table["complete"]]["return"], 0.9) > 0
    worst = drawn_of(table, fraction=1.0, max_return=0.1)
    assert worst["return"].max() < best["return"].min()
    assert not pairs(best) & pairs(worst)


def test_what_leaves_nothing_says_what_there_is() -> None:
    with pytest.raises(WorldlineError, match=r"checkpoints 7 to the last.*there are checkpoints 0 to 3 with returns"):
        drawn_of(episodes(), first_checkpoint=7)
    two = pd.DataFrame([(1, 0, 5, 0.0, 0, True), (1, 1, 5, 1.0, 0, True)], columns=COLUMNS)
    with pytest.raises(WorldlineError, match=r"quantiles 0.5 to 0.5.*returns 0 to 1; widen"):
        drawn_of(two, min_return=0.5, max_return=0.5)
    with pytest.raises(WorldlineError, match="No complete episode of Freeway in its replays"):
        drawn_of(two.assign(complete=False))


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"fraction": 1.5}, "from 0 to 1"),
        ({"fraction": float("nan")}, "from 0 to 1"),
        ({"min_return": 0.8, "max_return": 0.2}, "smaller first"),
        ({"min_return": 200.0}, "quantile 200"),
        ({"first_checkpoint": 5, "last_checkpoint": 4}, "no range"),
        ({"last_checkpoint": -2}, "last_checkpoint -2 is impossible: it must be at least -1"),
        ({"workers": -1}, "downsample.workers -1 is impossible"),
    ],
)
def test_impossible_options_are_usage_errors(options, words) -> None:
    with pytest.raises(UsageError, match=words):
        DownsampleConfig("Freeway", **options)


def test_options_at_their_defaults_and_workers_leave_the_key_alone() -> None:
    plain = DownsampleConfig("Freeway")
    assert set(plain.spec().config) == {"game", "replays", "transitions", "seed"}
    assert replace(plain, workers=3).spec().key == plain.spec().key != replace(plain, replacement=True).spec().key


def test_pieces_of_an_episode_that_was_drawn_twice_are_placed_twice() -> None:
    pieces = pd.DataFrame({"episode": [0, 1, 1, 2], "file": [0, 0, 1, 1], "start": [2, 9, 0, 7], "stop": [8, 12, 4, 9]})
    drawn = pd.DataFrame({"episode": [1, 1, 2], "slot": [0, 7, 14]})
    assert place_pieces(pieces, drawn).to_numpy().tolist() == [
        [1, 0, 9, 12, 0],
        [1, 1, 0, 4, 3],
        [1, 0, 9, 12, 7],
        [1, 1, 0, 4, 10],
        [2, 1, 7, 9, 14],
    ]


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


@pytest.mark.slow
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
        (DownsampleConfig("Freeway", replays=()), "at least one replay"),
        (DownsampleConfig("Pong", replays=(replay.ref,)), "is a replay of Freeway"),
        (DownsampleConfig("Freeway", replays=(replay.ref, replay.ref)), "same agent"),
    ):
        with pytest.raises(UsageError, match=words):
            downsample.run(config, store)
    assert nothing_left(store, "trajectories")


def test_no_complete_episode_is_refused(store, tmp_path) -> None:
    write_replay(tmp_path / "b", [], capacity=48, unfinished=30)
    replay = make_replay(store, put_collected(store, tmp_path / "b"))
    with pytest.raises(WorldlineError, match="any_complete_episode"):
        make_trajectories(store, replay)


def of_two_agents(store, root, **options) -> tuple[Artefact, Trajectories]:
    """Trajectories of two agents' logs, four files each."""
    if not root.exists():
        for agent in (1, 2):
            write_replay(root, [13, 29, 5, 61, 13, 40], capacity=53, agent=agent, seed=agent)
    collected = put_collected(store, root)
    replays = tuple(make_replay(store, collected, agent).ref for agent in (1, 2))
    made = downsample.run(DownsampleConfig("Freeway", replays=replays, **options), store).artefact
    return made, Trajectories(made.path(FILE_NAME))


def test_the_bytes_do_not_depend_on_the_number_of_workers(tmp_path) -> None:
    made = [of_two_agents(Store(tmp_path / f"s{n}"), tmp_path / "b", workers=n)[0] for n in (1, 2, 5)]
    assert len({artefact.manifest.files[0].sha256 for artefact in made}) == 1
    assert len({artefact.ref for artefact in made}) == 1


def test_an_episode_that_is_drawn_twice_is_read_once(store, tmp_path) -> None:
    made, found = of_two_agents(store, tmp_path / "b", transitions=600, replacement=True)
    starts = [found.source_rows(start, start + 1)[0].tolist() for start in found.episode_starts[:-1].tolist()]
    again = [k for k in range(1, len(starts)) if starts[k] == starts[k - 1]]
    assert again and found.terminals.sum() == found.num_episodes
    for k in again:
        (a, b), stop = found.episode_starts[k - 1 : k + 1].tolist(), int(found.episode_starts[k + 1])
        np.testing.assert_array_equal(found.frames(a, b), found.frames(b, stop))
    files = {tuple(row) for row in found.source_rows(0, len(found))[:, :2].tolist()}
    assert made.manifest.metrics["inflated_bytes"] == len(files) * 53 * 7056


def test_filters_and_fraction_reach_the_stage(store, tmp_path) -> None:
    made, found = of_two_agents(store, tmp_path / "b", fraction=1.0, first_checkpoint=1)
    last = found.episode_starts[1:] - 1
    assert all(found.source_rows(int(at), int(at) + 1)[0, 1] >= 1 for at in last)
    assert {check.name: check.passed for check in made.manifest.checks} == dict.fromkeys(DownsampleConfig.CHECKS, True)
    with pytest.raises(WorldlineError, match="there are checkpoints 0 to"):
        of_two_agents(store, tmp_path / "b", first_checkpoint=90)


def test_a_run_that_was_stopped_goes_on_where_it_was(store, tmp_path, monkeypatch) -> None:
    with monkeypatch.context() as patched, pytest.raises(KeyboardInterrupt):
        first = note_extracted(patched, most=3)
        of_two_agents(store, tmp_path / "b", workers=1)
    assert nothing_left(store, "trajectories")
    after = note_extracted(monkeypatch)
    made, _ = of_two_agents(store, tmp_path / "b", workers=1)
    assert len(first) == 3 and after and not set(first) & set(after)
    undisturbed, _ = of_two_agents(Store(tmp_path / "other"), tmp_path / "b")
    assert made.manifest.files == undisturbed.manifest.files
    assert not any(store.scratch.iterdir())
