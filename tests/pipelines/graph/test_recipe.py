"""A recipe refuses what could not run, and what would be ignored."""

import re

import pytest

from pipelines.errors import UsageError
from pipelines.recipes.registry import recipe


@pytest.mark.parametrize(
    ("assignment", "words"),
    [
        ("games=", "has games (): name at least one, each once"),
        ("games=Pong,Pong", "has games ('Pong', 'Pong'): name at least one, each once"),
        ("agents=", "has agents (): name at least one from 1 on, each once"),
        ("agents=0", "has agents (0,): name at least one from 1 on, each once"),
        ("agents=1,1", "each once"),
        ("agents=2", "reads agent 2 but collects only 1: raise collect.agents or lower agents"),
        ("source=tape", "Unknown replay source 'tape': choose one of bucket, collected"),
    ],
)
def test_what_cannot_run_is_refused(assignment: str, words: str) -> None:
    with pytest.raises(UsageError, match=re.escape(words)):
        recipe("mini", [assignment])


@pytest.mark.parametrize(
    ("assignment", "own"),
    [
        ("train.seed=1", "seed"),
        ("pretrain.seed=1", "seed"),
        ("evaluate.seed=1", "seed"),
        ("collect.game=Pong", "games"),
        ("pretrain.games=Pong", "games"),
        ("train.name=other", "name"),
    ],
)
def test_a_setting_that_the_plan_would_overwrite_is_refused(assignment: str, own: str) -> None:
    field = assignment.partition("=")[0]
    with pytest.raises(UsageError, match=f"'{field}' is .* and has no effect.*: set the recipe's '{own}' instead"):
        recipe("mini", [assignment])


def test_data_stages_have_seeds_of_their_own() -> None:
    found = recipe("mini", ["collect.seed=5", "downsample.seed=6", "seed=7"])
    assert (found.collect.seed, found.downsample.seed, found.seed) == (5, 6, 7)
