"""Real torchrun, two gloo processes: the losses of one process, one error for all, a killed rank resumed to the bit."""

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch

from pipelines.errors import UsageError
from pipelines.training.distributed import ranks
from pipelines.training.distributed.ranks import ALONE, Ranks
from pipelines.training.metrics import read
from tests import fakes

PATIENCE = 600  # seconds; a crowded machine is no failure
PROGRAM = "tests.pipelines.training.toy_run"
STAGES = ("pretrained", "world_action_model", "finetuned")


def toy_run(folder: Path, processes: int, program: str = PROGRAM, **options: Any) -> tuple[int, str]:
    """Exit code and standard error of a toy run; with several processes through torchrun."""
    torchrun = ["-m", "torch.distributed.run", "--standalone", f"--nproc-per-node={processes}"]
    command = [sys.executable, *(torchrun if processes > 1 else []), "-m", program, str(folder), json.dumps(options)]
    done = subprocess.run(command, cwd=fakes.ROOT, text=True, capture_output=True, timeout=PATIENCE)
    return done.returncode, done.stderr


def rows(folder: Path, stage: str) -> list[dict]:
    (path,) = (folder / stage).rglob("metrics.jsonl")
    return [{name: value for name, value in row.items() if name != "seconds"} for row in read(path)]


def assert_close(left: list[dict], right: list[dict], within: float = 1e-5) -> None:
    assert len(left) == len(right) >= 10
    for ours, theirs in zip(left, right, strict=True):
        assert ours.keys() == theirs.keys()
        for name, value in ours.items():
            if isinstance(value, str) or name.startswith("grad_norm"):
                continue  # a norm sums a thousand errors of rounding
            assert theirs[name] == pytest.approx(value, rel=within, abs=within), (name, ours["step"])


def test_two_ranks_have_the_losses_of_one_process(tmp_path: Path) -> None:
    """Batches of 5 segments and 7 frames: the ranks' shares are unequal, and so is the padding in them.

    The codebook follows the batch, with k-means start, running means and revival; frames are shifted at random.
    """
    alone, two = tmp_path / "alone", tmp_path / "two"
    assert toy_run(alone, 1, codebook="ema")[0] == 0
    code, err = toy_run(two, 2, codebook="ema", loop={"shard": True})
    assert code == 0, err
    for stage in STAGES:
        assert_close(rows(alone, stage), rows(two, stage))
    assert {path.parts[-4] for path in two.rglob("manifest.json")} >= {"pretrained", "tokens"}
    for folder, told in ((alone, {1}), (two, {2})):
        found = [json.loads(path.read_text()) for each in STAGES for path in folder.glob(f"{each}/*/*/manifest.json")]
        assert len(found) == 3 and {each["metrics"]["ranks"] for each in found} == told
    assert list((two / ".partial").iterdir()) == list((two / ".scratch").iterdir()) == []


@pytest.mark.slow  # two processes that import torch, twice
def test_two_ranks_draw_by_counts_and_losses_what_one_process_draws(tmp_path: Path) -> None:
    """Each rank knows what all segments lost, and counts what all drew."""
    drawn = {}
    for processes in (1, 2):
        folder = tmp_path / str(processes)
        code, err = toy_run(folder, processes, program="tests.pipelines.training.toy_learn")
        assert code == 0, err
        lines = [line for path in sorted(folder.glob("drawn-*.jsonl")) for line in path.read_text().splitlines()]
        drawn[processes] = sorted(json.loads(line) for line in lines)
    assert drawn[1] == drawn[2] and {name for name, *_ in drawn[1]} == {"dynamics", "imitation"}


@pytest.mark.parametrize(
    ("how", "line"),
    [
        pytest.param("error", "The disk of this rank is gone", marks=pytest.mark.slow),
        pytest.param("nan", "Loss term 'world/total' became nan at step 4 of phase 'both'", marks=pytest.mark.slow),
    ],
)
def test_all_ranks_fail_with_the_first_error_shown_once(tmp_path: Path, how: str, line: str) -> None:
    code, err = toy_run(tmp_path, 2, stage="pretrain", **{"break": [1, 3, how]})
    assert code == 1
    assert err.count(line) == 1
    assert "lost each other" not in err
    assert not list(tmp_path.rglob("pretrained/*/*/manifest.json"))


@pytest.mark.timeout(1800)
@pytest.mark.slow  # three runs of two ranks: half a minute
@pytest.mark.parametrize(("rank", "stage"), [(0, "pretrained"), (1, "world_action_model"), (0, "finetuned")])
def test_a_rank_killed_in_mid_phase_changes_no_bit(tmp_path: Path, rank: int, stage: str) -> None:
    options = {"accumulate": 2, "dropout": 0.3, "dream_every": 3, "loop": {"save_seconds": 0, "workers": 1}}
    whole, cut = tmp_path / "whole", tmp_path / "cut"
    assert toy_run(whole, 2, **options)[0] == 0
    code, _ = toy_run(cut, 2, kill=[5, rank, stage], **options)
    assert code == 1
    assert not list(cut.rglob(f"{stage}/*/*/manifest.json"))
    assert toy_run(cut, 2, **options)[0] == 0
    for each in STAGES:
        assert rows(whole, each) == rows(cut, each)
    weights = sorted(path.relative_to(whole) for path in whole.rglob("*.safetensors"))
    assert len(weights) == 6  # two networks of each of three stages
    assert all((whole / path).read_bytes() == (cut / path).read_bytes() for path in weights)


@pytest.mark.timeout(1800)
@pytest.mark.slow  # half a minute
def test_parts_and_ranks_have_the_losses_of_whole_batches(tmp_path: Path) -> None:
    for name, processes, accumulate in (("whole", 1, 1), ("parts", 1, 3), ("both", 2, 2)):
        code, err = toy_run(tmp_path / name, processes, accumulate=accumulate)
        assert code == 0, err
    for stage in STAGES:
        # Fine-tuning begins with the other stages' rounding: by step 9 its commitment was seen 1.6e-5 apart.
        within = 1e-4 if stage == "finetuned" else 1e-5
        assert_close(rows(tmp_path / "whole", stage), rows(tmp_path / "parts", stage), within)
        assert_close(rows(tmp_path / "whole", stage), rows(tmp_path / "both", stage), within)


def test_one_process_alone_sends_nothing() -> None:
    values = torch.arange(3.0)
    assert ALONE.sum_(values) is values
    assert ALONE.gather(values) is values
    assert (ALONE.agree(True), ALONE.agree(False), ALONE.first) == (True, False, True)
    module = torch.nn.Linear(2, 1)
    module(torch.ones(2)).sum().backward()
    ALONE.sum_gradients([module])
    assert torch.equal(module.weight.grad, torch.ones(1, 2))
    with pytest.raises(ZeroDivisionError), ALONE.together():
        raise ZeroDivisionError


def test_seeds_differ_by_rank_and_the_first_keeps_the_runs() -> None:
    seeds = [Ranks(rank, 3).seed(7) for rank in range(3)]
    assert seeds[0] == 7
    assert len(set(seeds)) == 3


def test_half_of_torchruns_variables_are_one_line(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RANK", "0")
    monkeypatch.delenv("WORLD_SIZE", raising=False)
    with pytest.raises(UsageError, match=r"RANK is set, but not all that torchrun sets .*: start ranks by torchrun"):
        ranks.join.__wrapped__()
