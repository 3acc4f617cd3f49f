"""The published rows, and that the human players' episodes give the score that was printed of them."""

import numpy as np
import pytest

from pipelines.environments.crafter.game import ACHIEVEMENTS
from pipelines.environments.crafter.published import not_listed, publications
from pipelines.evaluation.achievements import Reached, crafter_score, measured


def test_the_human_score_follows_from_the_released_episodes() -> None:
    (human,) = (each for each in publications() if each.runs)
    assert human.agent == "Human experts" and human.printed == {"score": "50.5±6.8", "return": "14.3±2.3"}
    assert [run.reached.shape for run in human.runs] == [(20, 22)] * 5
    scores = [float(crafter_score(100 * run.reached.mean(0))) for run in human.runs]
    assert (round(np.mean(scores), 1), round(np.std(scores), 1)) == (50.5, 6.8)
    found = measured([Reached(run.returns, run.reached) for run in human.runs], ACHIEVEMENTS)
    assert found.score.value == pytest.approx(50.527, abs=1e-3)
    assert found.rates["collect_wood"].value == 100.0 and found.rates["eat_plant"].value == pytest.approx(8.0)


def test_every_return_is_its_achievements_and_the_health_that_was_lost() -> None:
    """+1 an achievement; who dies has lost 0.9 and at times a little that was won back late."""
    for run in (run for each in publications() for run in each.runs):
        lost = run.returns - run.reached.sum(1)
        assert lost.min() > -1.25 and lost.max() < -0.85


def test_printed_rows_name_their_source_and_budget() -> None:
    rows = {each.agent: each for each in publications()}
    assert (rows["DreamerV3"].printed["score"], rows["DreamerV3"].budget) == ("14.5±1.6", 1_000_000)
    assert rows["Random play"].budget is None and rows["Random play"].printed["return"] == "2.1±1.3"
    assert all("crafter 1.8.3" in each.source and each.printed["score"] for each in rows.values())
    assert any("Delta-IRIS" in text for text in not_listed())
