"""A schedule as data: what is refused, and the list of items that phases and rounds unroll to."""

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from models.jowa.config import JowaAgentConfig
from models.jowa.family import JOWA
from models.tokenizers.config import TokenizerConfig
from pipelines.errors import UsageError
from pipelines.training.schedule import (
    Collect,
    Keep,
    Phase,
    Practice,
    Rounds,
    Update,
    Use,
    check_phases,
    total_steps,
    unroll,
)

WORLD = (Use("world", 8),)


@pytest.mark.parametrize(
    ("fields", "words"),
    [
        ({"uses": ()}, "Phase 'p' has objectives (): name at least one, each once"),
        ({"uses": (*WORLD, *WORLD)}, "name at least one, each once"),
        ({"steps": 0}, "phases.p.steps 0 is impossible: it must be at least 1"),
        ({"uses": (Use("world", 0),)}, "phases.p.uses.world.batch 0 is impossible: it must be at least 1"),
        ({"uses": (Use("world", 8, target_every=0),)}, "uses.world.target_every 0"),
        ({"accumulate": 0}, "phases.p.accumulate 0 is impossible: it must be at least 1"),
        ({"uses": (Use("world", 2),), "accumulate": 3}, "takes batches of 2 in 3 parts: lower its accumulate"),
        ({"uses": (Use("world", 2, lr=0.0),)}, "uses.world.lr 0.0"),
        ({"clip": -1.0}, "clip -1.0"),
        ({"warmup": -1}, "warmup -1"),
    ],
)
def test_an_impossible_phase_is_refused(fields: dict, words: str) -> None:
    with pytest.raises(UsageError, match=re.escape(words)):
        Phase(**({"name": "p", "steps": 1, "uses": WORLD} | fields))


def test_phases_are_held_against_their_family() -> None:
    config = JowaAgentConfig(tokenizer=TokenizerConfig(quantizer="ema"))

    def refused(words: str, *phases: Phase) -> None:
        with pytest.raises(UsageError, match=re.escape(words)):
            check_phases(phases, JOWA, config)

    refused("Unknown objective of phase 'p' 'wrold': did you mean 'world'?", Phase("p", 1, (Use("wrold", 8),)))
    both = Phase("p", 1, (Use("world", 8), Use("world_action", 8)))
    refused("Phase 'p': objectives world, world_action train the same network ('model'), name one of them", both)
    refused(
        "Phases same, same share a name: give each one of its own", Phase("same", 1, WORLD), Phase("same", 2, WORLD)
    )
    parts = Phase("p", 1, (Use("tokenizer", 8),), accumulate=2)
    refused("Phase 'p' has accumulate 2, but an EMA codebook follows whole batches", parts)
    check_phases([Phase("p", 1, (Use("tokenizer", 8), *WORLD))], JOWA, config)


def test_phases_are_cut_where_a_checkpoint_is_due() -> None:
    schedule = (Phase("a", 5, WORLD), Phase("b", 4, WORLD))
    items = list(unroll(schedule, keep_every=3, play_every=6))
    told = [
        (item.phase.name, item.first, item.steps, item.start, item.last)
        if isinstance(item, Update)
        else ("keep", item.start, item.play)
        for item in items
        if isinstance(item, Update | Keep)
    ]
    assert told == [
        ("a", 0, 3, 0, False),
        ("keep", 3, False),
        ("a", 3, 2, 3, True),
        ("b", 0, 1, 5, False),
        ("keep", 6, True),
        ("b", 1, 3, 6, True),
        ("keep", 9, False),
    ]


def test_rounds_collect_then_practise_each_objective_with_optimisers_that_go_on() -> None:
    uses = (Practice("tokenizer", 4, updates=2), Practice("world", 8, updates=3, start=1))
    rounds = Rounds("loop", 3, uses, collect=100, epsilon=0.1, until=2, evaluate_every=3)
    items = list(unroll([rounds]))
    assert [type(item).__name__ for item in items] == [
        "Collect", "Update",
        "Collect", "Update", "Update",
        "Update", "Update", "Keep",
    ]  # fmt: skip
    assert items[0] == Collect(100, 0.1, 0)
    updates = [item for item in items if isinstance(item, Update)]
    assert [(item.phase.name, item.first, item.steps, item.start, item.last) for item in updates] == [
        ("loop/tokenizer", 0, 2, 0, False),
        ("loop/tokenizer", 2, 2, 2, False),
        ("loop/world", 0, 3, 4, False),
        ("loop/tokenizer", 4, 2, 7, True),
        ("loop/world", 3, 3, 9, True),
    ]
    assert total_steps([rounds]) == 12


@given(st.lists(st.integers(1, 9), min_size=1, max_size=4), st.integers(0, 5), st.integers(0, 5))
def test_however_a_run_is_cut_every_step_is_made_once_and_in_order(steps: list[int], keep: int, play: int) -> None:
    schedule = [Phase(str(number), count, WORLD) for number, count in enumerate(steps)]
    made, kept = [], []
    for item in unroll(schedule, keep, play):
        if isinstance(item, Update):
            made += range(item.start, item.start + item.steps)
        elif isinstance(item, Keep):
            assert item.start == len(made)
            kept.append((item.start, item.play))
    assert made == list(range(sum(steps)))
    due = [n for n in range(1, sum(steps) + 1) if (keep and n % keep == 0) or (play and n % play == 0)]
    assert kept == [(n, bool(play) and n % play == 0) for n in due]
