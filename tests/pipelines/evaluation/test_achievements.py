"""Success rates and Crafter's score against the formula, and their intervals against the episodes."""

import numpy as np
import pandas as pd
import pytest

from pipelines.environments.crafter.game import ACHIEVEMENTS, GAME
from pipelines.environments.rollout import Episode
from pipelines.evaluation.achievements import COLUMN, Reached, crafter_score, measured, of_episodes, of_table
from pipelines.evaluation.session import episode_table, summary


def run(*reached: tuple[int, ...], returns: tuple[float, ...] = ()) -> Reached:
    return Reached(np.array(returns or range(len(reached)), float), np.array(reached, bool))


def test_the_score_is_the_geometric_mean_with_its_offset() -> None:
    assert crafter_score(np.array([100.0, 100.0])) == pytest.approx(100.0)
    assert crafter_score(np.zeros(22)) == 0.0
    rates = np.array([50.0, 0.0, 25.0])
    assert crafter_score(rates) == pytest.approx((51 * 1 * 26) ** (1 / 3) - 1)


def test_rates_and_score_of_runs_are_means_over_the_runs() -> None:
    one, two = run((1, 0), (1, 1), returns=(2.0, 4.0)), run((0, 0), returns=(1.0,))
    found = measured([one, two], ["a", "b"])
    assert found.returns.value == pytest.approx((3 + 1) / 2)
    assert (found.rates["a"].value, found.rates["b"].value) == (50.0, 25.0)
    assert found.score.value == pytest.approx((np.sqrt(101 * 51) - 1) / 2)


def test_intervals_narrow_with_episodes_and_repeat_themselves() -> None:
    draws = np.random.default_rng(0).random((200, 3)) < [0.2, 0.5, 0.9]
    few, many = (measured([Reached(np.ones(count), draws[:count])], "abc") for count in (10, 200))
    again = measured([Reached(np.ones(10), draws[:10])], "abc")
    assert again == few
    for name in "abc":
        low, high = many.rates[name].low, many.rates[name].high
        assert low is not None and high is not None and low < many.rates[name].value < high
        assert high - low < few.rates[name].high - few.rates[name].low  # type: ignore[operator]
    # Of a rate p over n episodes, about 1.96 sqrt(p (1 - p) / n) to either side.
    rate = many.rates["b"]
    assert rate.high - rate.low == pytest.approx(2 * 196 * np.sqrt(0.25 / 200), rel=0.15)  # type: ignore[operator]
    assert few.score.low is not None and few.score.low < few.score.value


def test_one_episode_has_no_interval_and_none_is_refused() -> None:
    found = measured([run((1, 0))], ["a", "b"])
    assert found.score.low is None and found.rates["a"] == (100.0, None, None)
    for runs in ([], [Reached(np.zeros(0), np.zeros((0, 2), bool))]):
        with pytest.raises(ValueError, match="there is nothing to measure"):
            measured(runs, ["a", "b"])


def episode(number: int, score: float, **reached: int) -> Episode:
    counts = {name: reached.get(name, 0) for name in ACHIEVEMENTS}
    return Episode(number, number, score, score, 9, "terminated", b"", counts)


def test_a_table_of_episodes_gives_what_the_episodes_give() -> None:
    played = [episode(0, 1.1, collect_wood=3), episode(1, -0.9, collect_wood=1, wake_up=2), episode(2, 0.1)]
    table = episode_table({"actor": played})
    assert table[COLUMN + "wake_up"].tolist() == [0, 2, 0]
    from_table, told = of_table(GAME, table), summary(played)
    assert from_table == of_episodes(played) is not None
    assert told["achievements"]["collect_wood"]["value"] == pytest.approx(66.6667)
    assert told["crafter_score"]["value"] == round(from_table.score.value, 4)
    assert of_table("Pong", table) is None
    assert of_table(GAME, table.drop(columns=COLUMN + "wake_up")) is None
    assert of_table(GAME, pd.concat([table, pd.DataFrame([{"return": 1.0}])])) is None


def test_a_single_achievement_is_told_of_by_its_rate() -> None:
    """An episode of Meta-world succeeds where any of its steps did."""
    played = [
        Episode(n, n, 9.0, 0.0, 500, "truncated", b"", {"success": count}) for n, count in enumerate((0, 1, 312, 0))
    ]
    told = summary(played)
    assert told["success_rate"]["value"] == told["achievements"]["success"]["value"] == 50.0
    assert told["success_rate"] == told["achievements"]["success"] and told["success_rate"]["low"] < 50
    assert "crafter_score" not in told and of_table("reach", episode_table({"actor": played})) == of_episodes(played)


def test_games_without_achievements_are_told_of_as_before() -> None:
    plain = [Episode(0, 1, 2.0, 2.0, 9, "terminated")]
    assert not {"achievements", "crafter_score"} & summary(plain).keys()
    assert "achievements" not in plain[0].row()
