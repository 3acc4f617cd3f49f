"""The training loop: phases in order, resumed bit for bit, stopped by a loss that is no number."""

import json
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from pipelines.errors import UsageError, WorldlineError
from pipelines.training.checkpoints import CheckpointManager
from pipelines.training.loop import train
from pipelines.training.metrics import read
from pipelines.training.schedule import LoopConfig
from tests.fakes import flip_byte
from tests.pipelines.training.tiny_task import PHASES, TinyTask

ALWAYS = LoopConfig(save_seconds=0.0, log_every=2)
NEVER = LoopConfig(save_seconds=1e9, log_every=2)
STEPS = sum(phase.steps for phase in PHASES)


def run(task: TinyTask, folder: Path, loop: LoopConfig = ALWAYS) -> list[dict]:
    """Train in `folder`; the rows of metrics.jsonl without their times."""
    folder.mkdir(exist_ok=True)
    train(task, PHASES, loop, folder / "metrics.jsonl", _scratch(folder), "Test")
    return [{name: value for name, value in row.items() if name != "seconds"} for row in read(folder / "metrics.jsonl")]


def _scratch(folder: Path) -> Path:
    (folder / "scratch").mkdir(exist_ok=True)
    return folder / "scratch"


def same(left: TinyTask, right: TinyTask) -> bool:
    theirs = right.weights()
    return all(torch.equal(value, theirs[name]) for name, value in left.weights().items())


def test_every_step_is_made_once_and_logged_as_asked(tmp_path: Path) -> None:
    task = TinyTask()
    rows = run(task, tmp_path)
    assert task.seen == task.after == list(range(STEPS))
    assert [(row["phase"], row["step"]) for row in rows] == [
        *(("first", step) for step in (2, 4, 6, 7)),
        *(("second", step) for step in (9, 11, 13, 15, 16)),
    ]
    assert set(rows[0]) == {"phase", "step", "tokenizer_error", "grad_norm_tokenizer"}
    assert {"world_error", "grad_norm_model"} < set(rows[-1])
    assert rows[-1]["tokenizer_error"] < rows[0]["tokenizer_error"]


def test_only_what_a_phase_optimises_is_in_training_mode(tmp_path: Path) -> None:
    task = TinyTask()
    before = {name: value.clone() for name, value in task.weights().items()}
    train(task, PHASES[:1], ALWAYS, tmp_path / "metrics.jsonl", _scratch(tmp_path), "Test")
    assert set(task.training) == {(True, False)}
    moved = {name.partition(".")[0] for name, value in task.weights().items() if not torch.equal(value, before[name])}
    assert moved == {"tokenizer"}


@pytest.mark.parametrize("stop", [1, 5, 7, 8, 15])
@pytest.mark.parametrize("loop", [ALWAYS, NEVER], ids=["saves-always", "saves-between-phases"])
def test_a_stopped_run_goes_on_bit_for_bit(tmp_path: Path, stop: int, loop: LoopConfig) -> None:
    rows = run(whole := TinyTask(), tmp_path / "whole", loop)
    with pytest.raises(KeyboardInterrupt):
        run(TinyTask(stop_at=stop), tmp_path / "cut", loop)
    assert not (tmp_path / "cut" / "metrics.jsonl").exists()
    resumed = TinyTask()
    if (tmp_path / "cut" / "scratch" / "state.pt").exists():
        torch.manual_seed(99)  # whatever the new process drew before it resumed
    assert run(resumed, tmp_path / "cut", loop) == rows
    assert resumed.seen[0] == (stop if loop is ALWAYS else PHASES[0].steps * (stop >= PHASES[0].steps))
    assert same(whole, resumed)


@pytest.mark.parametrize("keep", [0, 3])
def test_steps_of_an_earlier_run_or_item_make_no_pace(
    tmp_path: Path, keep: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    fresh: list[int] = []

    @contextmanager
    def tracked(title: str, total: int, unit: str) -> Iterator[Callable[..., None]]:
        def advance(amount: int = 1, note: str = "", held: bool = False) -> None:
            fresh.append(0 if held else amount)

        yield advance

    loop, scratch = replace(ALWAYS, checkpoint_every=keep), _scratch(tmp_path)
    manager = CheckpointManager(scratch, loop, lambda folder: None)
    with pytest.raises(KeyboardInterrupt):
        train(TinyTask(stop_at=5), PHASES, loop, tmp_path / "metrics.jsonl", scratch, "Test", manager=manager)
    monkeypatch.setattr("pipelines.training.loop.track", tracked)
    task = TinyTask()
    train(task, PHASES, loop, tmp_path / "metrics.jsonl", scratch, "Test", manager=manager)
    assert sum(fresh) == len(task.seen) == STEPS - 5


def test_a_resumed_run_knows_how_many_ranks_computed_before(tmp_path: Path) -> None:
    scratch = _scratch(tmp_path)
    with pytest.raises(KeyboardInterrupt):
        run(TinyTask(stop_at=5), tmp_path)
    saved = torch.load(scratch / "state.pt", weights_only=True)
    assert saved["ranks"] == [1]
    torch.save({**saved, "ranks": [4, 2]}, scratch / "state.pt")
    for _ in range(2):  # the second one finds all done
        assert train(TinyTask(), PHASES, ALWAYS, tmp_path / "metrics.jsonl", scratch, "Test").ranks == (4, 2, 1)


def test_a_finished_run_that_was_not_committed_trains_no_further(tmp_path: Path) -> None:
    rows = run(first := TinyTask(), tmp_path)
    assert run(again := TinyTask(), tmp_path) == rows
    assert again.seen == []
    assert same(first, again)


def test_a_damaged_state_starts_over(tmp_path: Path) -> None:
    rows = run(whole := TinyTask(), tmp_path / "whole")
    with pytest.raises(KeyboardInterrupt):
        run(TinyTask(stop_at=9), tmp_path / "cut")
    state = tmp_path / "cut" / "scratch" / "state.pt"
    for place in range(1, 8):  # some of them in what is read, not in the padding between
        flip_byte(state, state.stat().st_size * place // 8)
    resumed = TinyTask()
    assert run(resumed, tmp_path / "cut") == rows
    assert resumed.seen[0] == 0
    assert same(whole, resumed)


def test_a_saved_optimiser_of_other_groups_starts_over_with_the_networks_as_they_were(tmp_path: Path) -> None:
    rows = run(whole := TinyTask(), tmp_path / "whole")
    with pytest.raises(KeyboardInterrupt):
        run(TinyTask(stop_at=9), tmp_path / "cut")
    path = tmp_path / "cut" / "scratch" / "state.pt"
    saved = torch.load(path, weights_only=True)
    saved["optimisers"]["second/model"]["param_groups"][0]["params"].pop()
    torch.save(saved, path)
    assert run(resumed := TinyTask(), tmp_path / "cut") == rows
    assert same(whole, resumed)
    assert (path.parent / "state.pt.unreadable-1").is_file() and (path.parent / "metrics.jsonl.unreadable-1").is_file()


@pytest.mark.parametrize(("at", "phase", "term"), [(3, "first", "tokenizer/"), (10, "second", "world/")])
def test_a_loss_that_is_no_number_stops_with_step_and_term(tmp_path: Path, at: int, phase: str, term: str) -> None:
    task = TinyTask(break_at=at)
    with pytest.raises(
        WorldlineError, match=rf"Loss term '{term}\w+' became nan at step {at + 1} of phase '{phase}'"
    ) as told:
        run(task, tmp_path)
    state = tmp_path / "scratch" / "state.pt"
    assert str(told.value).endswith(
        f"the last good state is {state}" if state.exists() else "no state was saved before that"
    )
    assert not (tmp_path / "metrics.jsonl").exists()
    assert task.after == list(range(at))  # no optimiser stepped on it
    assert all(value.isfinite().all() for value in task.weights().values())
    rows = [json.loads(line) for line in (tmp_path / "scratch" / "metrics.jsonl").read_text().splitlines()]
    assert all(row["step"] <= at for row in rows)


def test_clipping_bounds_the_step_and_logs_the_norm_before_it(tmp_path: Path) -> None:
    rows = run(TinyTask(), tmp_path)
    assert max(row["grad_norm_tokenizer"] for row in rows) > PHASES[0].clip


def test_a_run_without_phases_is_one_line(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="Title has no phase"):
        train(TinyTask(), (), LoopConfig(), tmp_path / "metrics.jsonl", tmp_path / "scratch", "Title")
    assert not list(tmp_path.iterdir())
