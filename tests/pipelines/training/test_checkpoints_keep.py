"""Checkpoints: the newest and the best stay, the index says which, a resumed run makes its own again."""

from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pipelines.errors import UsageError
from pipelines.training.checkpoints import Keeper
from pipelines.training.config import LoopConfig

LOOP = LoopConfig(checkpoint_every=10, evaluate_every=20, keep_last=2, keep_best=1)


def keeper(scratch: Path, loop: LoopConfig = LOOP, scores: Iterator[float] = iter(())) -> Keeper:
    def save(folder: Path) -> None:
        (folder / "model.safetensors").write_text(folder.name)

    return Keeper(scratch, loop, save, lambda: {"Pong": next(scores), "Boxing": 0.0})


def folders(scratch: Path) -> list[int]:
    return sorted(int(path.name.partition("-")[2]) for path in (scratch / "checkpoints").glob("step-*"))


def test_the_newest_and_the_best_stay(tmp_path: Path) -> None:
    made = keeper(tmp_path, scores=iter([3.0, 5.0, 1.0]))
    assert [step for step in range(1, 71) if made.after(step)] == [10, 20, 30, 40, 50, 60, 70]
    assert [(each.step, dict(each.returns), each.best) for each in made.kept()] == [
        (40, {"Pong": 5.0, "Boxing": 0.0}, True),
        (60, {"Pong": 1.0, "Boxing": 0.0}, False),
        (70, {}, False),
    ]
    assert folders(tmp_path) == [40, 60, 70]
    made.copy_to(tmp_path / "artefact")
    assert sorted(path.name for path in (tmp_path / "artefact/checkpoints").iterdir()) == [
        "index.json",
        "step-40",
        "step-60",
        "step-70",
    ]


def test_nothing_is_kept_unless_asked_for(tmp_path: Path) -> None:
    made = keeper(tmp_path, LoopConfig())
    assert not any(made.after(step) for step in range(1, 100))
    made.forget_after(50)
    made.copy_to(tmp_path / "artefact")
    assert list(tmp_path.iterdir()) == []


@settings(max_examples=40, deadline=None)
@given(scores=st.lists(st.integers(-5, 5), min_size=4, max_size=9), cut=st.integers(1, 8), again=st.integers(0, 2))
def test_a_resumed_run_ends_with_the_checkpoints_of_an_uninterrupted_one(
    tmp_path_factory: pytest.TempPathFactory, scores: list[int], cut: int, again: int
) -> None:
    """The state is saved with every checkpoint: a run resumes behind the newest, or makes that one again."""
    loop = LoopConfig(evaluate_every=1, keep_last=2, keep_best=2)
    whole, broken = tmp_path_factory.mktemp("whole"), tmp_path_factory.mktemp("broken")
    made = keeper(whole, loop, iter(map(float, scores)))
    for step in range(1, len(scores) + 1):
        made.after(step)
    cut = min(cut, len(scores))
    first = keeper(broken, loop, iter(map(float, scores)))
    for step in range(1, cut + 1):
        first.after(step)
    resumed = keeper(broken, loop, iter(map(float, scores[cut:])))
    resumed.forget_after(cut)
    for step in range(cut + 1, len(scores) + 1):
        resumed.after(step)
    assert resumed.kept() == made.kept()
    assert folders(broken) == folders(whole)


def test_what_a_resumed_run_makes_again_is_dropped_first(tmp_path: Path) -> None:
    made = keeper(tmp_path, scores=iter([1.0]))
    for step in (10, 20):
        made.after(step)
    made.forget_after(15)
    assert [each.step for each in made.kept()] == folders(tmp_path) == [10]


def test_a_stage_that_cannot_play_refuses_to_be_judged_by_it(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"loop.evaluate_every is 20, .* set it for the train stage"):
        Keeper(tmp_path, LOOP, lambda folder: None)
