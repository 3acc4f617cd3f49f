"""The published success rates agree with each other."""

import numpy as np
import pytest

from pipelines.environments.metaworld.game import APV_TASKS
from pipelines.environments.metaworld.published import not_listed, publications


def test_means_follow_from_the_rates_and_all_are_shares_of_80_episodes() -> None:
    for each in publications():
        assert tuple(each.rates) == APV_TASKS and (each.runs, each.episodes) == (8, 10)
        assert np.mean(list(each.rates.values())) == pytest.approx(each.mean, abs=0.1)
        for rate in (*each.rates.values(), each.mean, each.iqm):
            assert 0 <= rate <= 100
        for rate in each.rates.values():  # of 8 runs of 10 episodes
            assert abs(rate * 0.8 - round(rate * 0.8)) < 0.05


def test_they_name_their_steps_and_source_and_who_has_no_numbers() -> None:
    assert [(each.agent, each.steps) for each in publications()] == [
        ("DreamerV2", 105_000),
        ("DreamerV2", 245_000),
        ("APV", 105_000),
        ("APV", 245_000),
    ]
    assert all("arXiv 2203.13880" in each.source and "version 2" in each.source for each in publications())
    assert publications()[-1].rates["drawer-open"] == 100.0 and publications()[-1].iqm == 95.4
    (text,) = not_listed()
    assert text.startswith("PreLAR and ContextWM: ")
