"""The draw: whole episodes, the same whatever the order of rows; filters that leave nothing say what there is."""

from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipelines.errors import UsageError, WorldlineError
from pipelines.sources.dqn_replay.draw import budget, draw, eligible, place_pieces
from pipelines.stages.downsample import DownsampleConfig

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
