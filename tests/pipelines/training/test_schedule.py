"""Schedules and settings as data: what is refused before anything runs, and the items that a schedule unrolls to."""

import re
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipelines.errors import UsageError
from pipelines.stages.evaluate import EvaluateConfig
from pipelines.stages.tokenize import TokenizeConfig
from pipelines.stages.train import FinetuneConfig, PretrainConfig, TrainConfig
from pipelines.training.schedule import (
    Collect,
    ImagineConfig,
    Keep,
    LoopConfig,
    Phase,
    Practice,
    Rounds,
    Update,
    Use,
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
    assert items[0] == Collect(0, 100, 0.1, 0)
    with pytest.raises(UsageError, match="'world' begins in round 3 of 3 and would never be practised"):
        replace(rounds, uses=(replace(uses[1], start=3),))
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


@pytest.mark.parametrize(
    ("kind", "fields", "words"),
    [
        (
            LoopConfig,
            {"device": "tpu"},
            "loop.device 'tpu' is unknown: did you mean 'cpu'?",
        ),
        (LoopConfig, {"compile": "yes"}, "loop.compile 'yes' is unknown: choose from auto, on, off"),
        (
            LoopConfig,
            {"keep_last": 0, "evaluate_every": -1},
            "loop.evaluate_every -1 is impossible: it must be at least 0; loop.keep_last 0 is",
        ),
        (LoopConfig, {"precision": "fp8"}, "loop.precision 'fp8' is unknown: choose from auto, float32, bf16"),
        (LoopConfig, {"log_every": 0}, "log_every 0"),
        (LoopConfig, {"holdout_episodes": -1}, "holdout_episodes -1"),
        (LoopConfig, {"workers": -1}, "workers -1"),
        (PretrainConfig, {"sight_frames": 0}, "sight_frames 0 is impossible"),
        (TrainConfig, {"sight_frames": 0}, "sight_frames 0 is impossible"),
        (TokenizeConfig, {"precision": "half"}, "precision 'half' is unknown"),
        (TokenizeConfig, {"batch_frames": 0}, "batch_frames 0 is impossible: it must be at least 1"),
        (EvaluateConfig, {"precision": "half"}, "precision 'half' is unknown"),
        (EvaluateConfig, {"protocol": "stiky"}, "Unknown protocol 'stiky': did you mean 'sticky'?"),
        (EvaluateConfig, {"episodes": 0}, "episodes 0 is impossible: it must be at least 1"),
        (EvaluateConfig, {"beam_width": 0}, "beam_width 0 is impossible"),
        (EvaluateConfig, {"epsilon": 1.5}, "epsilon 1.5 is impossible: it must be from 0 to 1"),
        (EvaluateConfig, {"context": 0}, "context 0"),
        (EvaluateConfig, {"max_steps": -1}, "max_steps -1"),
        (EvaluateConfig, {"envs": -1}, "envs -1"),
        (EvaluateConfig, {"planner": "beem"}, "Unknown planner 'beem': did you mean 'beam'?"),
        (EvaluateConfig, {"planner": "beam", "beam_episodes": 2}, "plays beam twice: set beam_episodes to 0"),
        (EvaluateConfig, {"settings": "jowa_15m"}, "Unknown set of settings 'jowa_15m': did you mean 'jowa_150m'?"),
        (EvaluateConfig, {"settings": "jowa_40m", "context": 3}, "settings jowa_40m and context 3: the set brings its"),
    ],
)
def test_refused(kind: type, fields: dict, words: str) -> None:
    with pytest.raises(UsageError, match=re.escape(words)):
        kind(**fields)


def test_names_of_the_same_rules_make_the_same_key_and_manners_none() -> None:
    sticky = EvaluateConfig(game="Pong", protocol="sticky")
    assert EvaluateConfig(game="Pong", protocol="machado").spec() == sticky.spec()
    assert EvaluateConfig(game="Pong", protocol="sticky", envs=3, rom_dir="roms").spec() == sticky.spec()
    assert EvaluateConfig(game="Pong", protocol="sticky", rom_md5="0" * 32).spec().key != sticky.spec().key
    assert not {"planner", "search", "settings", "rom_md5"} & set(sticky.spec().config)


def test_what_the_original_uses_is_accepted() -> None:
    assert PretrainConfig().subject == ""
    assert EvaluateConfig(game="Pong").spec().config["protocol"] == "jowa"


def test_what_fine_tuning_cannot_do_is_one_line() -> None:
    for field, value in (("episodes", 0), ("stride", 0), ("world_weight", -1.0)):
        with pytest.raises(UsageError, match=r"is impossible: it must be at least"):
            replace(FinetuneConfig(game="Pong"), **{field: value})
    for field in ("segments", "every", "capacity", "width", "horizon"):
        with pytest.raises(UsageError, match=f"imagine.{field} 0 is impossible"):
            ImagineConfig(**{field: 0})


def test_parts_and_kept_checkpoints_have_keys_of_their_own() -> None:
    plain = FinetuneConfig(game="Pong")
    parts = replace(plain, phases=tuple(replace(phase, accumulate=2) for phase in plain.phases))
    kept = replace(plain, loop=LoopConfig(checkpoint_every=5, evaluate_every=10))
    assert len({config.spec().ref.key for config in (plain, parts, kept)}) == 3
