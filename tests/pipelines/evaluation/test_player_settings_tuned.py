"""The tuned numbers, and settings that cannot be."""

import re

import pytest

from pipelines.errors import UsageError
from pipelines.evaluation.player_settings import SETTINGS, GridConfig, SearchConfig, Tuned, tuned
from pipelines.recipes.jowa import TRAINING_GAMES


def test_every_training_game_has_numbers_for_every_size() -> None:
    for settings in SETTINGS:
        found = [tuned(settings, game) for game in TRAINING_GAMES]
        assert all(numbers and 1 <= numbers.context <= 6 and 2 <= numbers.width <= 4 for numbers in found)


def test_numbers_of_a_game_by_size() -> None:
    assert [tuned(settings, "Seaquest") for settings in SETTINGS] == [Tuned(2, 4), Tuned(6, 4), Tuned(6, 4)]
    assert tuned("jowa_150m", "Pong") is None


@pytest.mark.parametrize(
    ("fields", "words"),
    [
        ({"leaf": "min"}, "search.leaf 'min' is unknown"),
        ({"choice": "visit"}, "search.choice 'visit' is unknown: did you mean 'visits'?"),
        ({"simulations": -1}, "simulations -1"),
        ({"temperature": 0.0}, "temperature 0.0"),
    ],
)
def test_refused(fields: dict, words: str) -> None:
    with pytest.raises(UsageError, match=re.escape(words)):
        SearchConfig(**fields)


@pytest.mark.parametrize(
    ("fields", "words"),
    [
        ({"contexts": (0, 1)}, "tune.contexts 0,1 is impossible"),
        ({"widths": (2, 2)}, "A search over widths 2,2 is impossible"),
        ({"leaves": ("min",)}, "tune.leaves 'min' is unknown"),
        ({"leaves": ("max", "max")}, "A search over leaves max,max is impossible"),
        ({"episodes": 0}, "episodes 0"),
        ({"seed": -1}, "seed -1"),
    ],
)
def test_a_search_over_nothing_that_can_be_is_refused(fields: dict, words: str) -> None:
    with pytest.raises(UsageError, match=re.escape(words)):
        GridConfig(**fields)


def test_a_search_is_wanted_where_an_axis_is_named() -> None:
    assert not GridConfig(episodes=9).wanted
    assert all(GridConfig(**{name: (1,)}).wanted for name in ("contexts", "widths", "horizons"))
