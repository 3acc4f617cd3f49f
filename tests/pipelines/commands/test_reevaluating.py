"""`worldline reevaluate`: a round of its own for each checkpoint, held against the past, and bad requests in a line."""

import pytest

from pipelines.cli import run
from pipelines.graph.experiment import register
from pipelines.recipes.registry import recipe
from tests.pipelines.conftest import TinyRun


@pytest.fixture
def ours(tiny_copy: TinyRun, monkeypatch: pytest.MonkeyPatch) -> TinyRun:
    monkeypatch.setenv("WORLDLINE_HOME", str(tiny_copy.home))
    monkeypatch.delenv("WORLDLINE_STORAGE", raising=False)
    monkeypatch.delenv("WORLDLINE_QUIET")
    return tiny_copy


@pytest.mark.slow
def test_a_round_makes_scores_and_says_how_they_compare(ours: TinyRun, capfd: pytest.CaptureFixture[str]) -> None:
    register(ours.home / "experiments", "untrained", recipe("mini"))
    assert run(["reevaluate", "--round", "extra-1"]) == 0
    out, err = capfd.readouterr()
    assert "untrained-" in err and "has no checkpoint yet: it is left out" in err
    name = f"scores/{ours.experiment.key}/Breakout/extra-1"
    ref = ours.store.resolve(name)
    assert ref != ours.made["scores"].ref
    assert out.startswith(f"{ref}: made in ")
    assert out.count("against the past: greedy ") == 1 and "no verdict below 8 episodes" in out
    assert run(["reevaluate", "tiny", "--games", "Breakout", "--round", "extra-1"]) == 0
    assert capfd.readouterr().out.startswith(f"{ref}: already there")
    assert (
        run(["reevaluate", "tiny", "--games", "all", "--set", "evaluate.episodes=3", "--set", "evaluate.max_steps=4"])
        == 0
    )
    others = [each for each in ours.store.pointers() if each.startswith(f"scores/{ours.experiment.key}/Breakout/")]
    assert len(others) == 2


@pytest.mark.parametrize(
    ("arguments", "code", "said"),
    [
        (["tin"], 2, "Unknown experiment 'tin': did you mean 'tiny'?"),
        (["untrained"], 1, "has no checkpoint yet: make it with 'worldline materialize untrained-"),
        (["tiny", "--games", "Pong"], 2, "Unknown game of these checkpoints 'Pong'"),
        (["tiny", "--games", " , "], 2, "--games ' , ' names no game: give some"),
        (["tiny", "--games", "Breakou"], 2, "did you mean 'Breakout'?"),
        (["tiny", "--round", "../up"], 2, "'../up' cannot name part of an artefact"),
        (["tiny", "--round", ".hidden"], 2, "'.hidden' cannot name part of an artefact"),
        (["tiny", "--set", "train.loop.device=cuda"], 2, "would change more than how the checkpoint plays"),
        (["tiny", "--set", "evaluate.planner=bea"], 2, "Unknown planner 'bea': did you mean 'beam'?"),
    ],
    ids=lambda value: value[-1] if isinstance(value, list) else "",
)
def test_bad_requests(
    ours: TinyRun, arguments: list[str], code: int, said: str, capfd: pytest.CaptureFixture[str]
) -> None:
    register(ours.home / "experiments", "untrained", recipe("mini"))
    before = set(ours.store.pointers())
    assert run(["reevaluate", *arguments]) == code
    out, err = capfd.readouterr()
    assert said in err and err.count("\n") == 1 and not out
    assert set(ours.store.pointers()) == before


def test_no_checkpoint_at_all(tmp_path, monkeypatch, capfd) -> None:  # type: ignore[no-untyped-def]
    monkeypatch.setenv("WORLDLINE_HOME", str(tmp_path / "new"))
    monkeypatch.delenv("WORLDLINE_STORAGE", raising=False)
    assert run(["reevaluate"]) == 1
    assert "has a checkpoint to play: make one, such as 'worldline demo'" in capfd.readouterr().err


def test_an_experiment_that_cannot_play_stops_no_other(ours: TinyRun, capfd: pytest.CaptureFixture[str]) -> None:
    untrained = register(ours.home / "experiments", "untrained", recipe("mini"))
    (ours.home / "experiments" / "torn-00000000.json").write_text("{")
    small = ["--round", "extra-1", "--set", "evaluate.max_steps=2", "--set", "evaluate.beam_episodes=0"]
    assert run(["reevaluate", "torn", "tiny", "untrained", *small]) == 1
    out, err = capfd.readouterr()
    assert out.startswith("scores/Breakout/") and "against the past" in out
    torn, last = [line for line in err.splitlines() if " failed: " in line]
    assert torn.startswith("torn failed: ") and "'worldline experiment remove torn-00000000'" in torn
    assert last.startswith(f"{untrained.key} failed: ") and err.endswith(last + "\n")
