"""`worldline evaluate` under rules of one's own: other scores beside the experiment's, and bad requests in a line."""

from pathlib import Path

import pytest

from pipelines.cli import run
from pipelines.environments.atari import roms
from pipelines.store.artefact import Artefact
from tests.pipelines.conftest import TinyRun


@pytest.fixture
def ours(tiny_copy: TinyRun, monkeypatch: pytest.MonkeyPatch) -> TinyRun:
    monkeypatch.setenv("WORLDLINE_HOME", str(tiny_copy.home))
    monkeypatch.delenv("WORLDLINE_STORAGE", raising=False)
    return tiny_copy


SHORT = ("--set", "evaluate.max_steps=4", "--set", "evaluate.random_episodes=1")


def scores(ours: TinyRun) -> dict[str, Artefact]:
    """By what follows the game in their names."""
    found = {name: ref for name, ref in ours.store.pointers().items() if name.startswith("scores/")}
    return {name.partition("Breakout")[2]: ours.store.open(ref) for name, ref in found.items()}


def test_the_experiments_own_scores_keep_their_name(ours: TinyRun) -> None:
    assert run(["evaluate", "tiny", "--games", "all", "--protocol", "machado", "--envs", "1"]) == 0
    assert {name: found.ref for name, found in scores(ours).items()} == {"": ours.made["scores"].ref}


@pytest.mark.slow
def test_other_rules_make_other_scores_beside_them(ours: TinyRun) -> None:
    asked = ["--games", "Breakout", "--protocol", "atari100k", "--planner", "mcts", "--episodes", "3", "--envs", "2"]
    assert run(["evaluate", "tiny", *asked, "--seed", "5", "--set", "evaluate.search.simulations=2", *SHORT]) == 0
    found = scores(ours)
    (name,) = set(found) - {""}
    manifest = found[name].manifest
    assert name == f"/mcts-{found[name].ref.key[:8]}"
    assert manifest.metrics["mcts"]["settings"]["simulations"] == 2
    assert (manifest.metrics["mcts"]["episodes"], manifest.config["seed"]) == (3, 5)
    assert "beam" not in manifest.metrics and "greedy" not in manifest.metrics
    assert (manifest.roots[0]["protocol"], manifest.roots[0]["noop_max"]) == ("atari100k", 30)


@pytest.mark.slow
def test_a_named_set_stands_for_the_recipes_numbers(ours: TinyRun) -> None:
    assert run(["evaluate", "tiny", "--planner", "beam", "--episodes", "1", "--settings", "jowa_150m", *SHORT]) == 0
    (name,) = set(scores(ours)) - {""}
    config = scores(ours)[name].manifest.config
    assert (config["settings"], config["context"]) == ("jowa_150m", 4)  # Breakout is not among the paper's games


def test_a_rom_folder_with_the_bytes_that_ale_py_ships_gives_the_same_scores(ours: TinyRun, tmp_path: Path) -> None:
    (tmp_path / "a.bin").write_bytes(roms.shipped("Breakout").path.read_bytes())
    assert run(["evaluate", "tiny", "--rom-dir", str(tmp_path)]) == 0
    assert set(scores(ours)) == {""}


def test_a_search_comes_first_and_its_best_setting_is_reported(
    ours: TinyRun, capsys: pytest.CaptureFixture[str]
) -> None:
    search = ["--set", "tune.contexts=1,3", "--set", "tune.episodes=1", "--set", "tune.max_steps=2"]
    asked = ["evaluate", "tiny", "--planner", "beam", "--episodes", "1", "--together", "2", *search, *SHORT]
    assert run(asked) == 0
    (name,) = set(scores(ours)) - {""}
    manifest = scores(ours)[name].manifest
    (tuned,) = [parent.ref for parent in manifest.parents if parent.ref.startswith("tuned/Breakout/")]
    best = ours.store.open(ours.store.resolve(tuned)).manifest.metrics["best"]
    assert manifest.metrics["beam"]["settings"]["context"] == best["context"] in (1, 3)
    said = capsys.readouterr().out
    assert tuned in said and f"best: context {best['context']}, width 2, horizon 2, leaf max" in said
    assert run(asked) == 0
    assert capsys.readouterr().out.count("already there") == 2


@pytest.mark.parametrize(
    ("asked", "words"),
    [
        (["--protocol", "jowah"], "Unknown protocol 'jowah': did you mean 'jowa'?"),
        (["--planner", "beem"], "Unknown planner 'beem': did you mean 'beam'?"),
        (["--episodes", "0"], "evaluate.episodes 0 is impossible: it must be at least 1"),
        (["--envs", "-1"], "envs -1 is impossible"),
        (["--seed", "-1"], "seed -1 is impossible: it must be at least 0"),
        (["--together", "0"], "together 0 is impossible"),
        (["--set", "evaluate.epsilon=2"], "epsilon 2.0 is impossible: it must be from 0 to 1"),
        (["--set", "evaluate.beam_width=-1"], "beam_width -1 is impossible"),
        (["--planner", "mcts", "--set", "evaluate.search.simulations=-1"], "simulations -1"),
        (["--set", "evaluate.rom_md5=00"], "The ROM of Breakout has md5"),
        (["--set", "tune.contexts=1,2"], "A search serves one planner"),
        (["--planner", "greedy", "--set", "tune.widths=2"], "Greedy play reads no width"),
        (["--planner", "beam", "--set", "tune.contexts=0,1"], "tune.contexts 0,1 is impossible"),
        (["--planner", "beam", "--set", "tune.contexts=2,7"], "beam horizon of 2 is more than the 8 steps"),
        (["--games", "Pong"], "Game 'Pong' is not in recipe 'mini': it has Breakout"),
        (["--settings", "jowa_1b"], "Unknown set of settings 'jowa_1b'"),
        (["--planner", "beam", "--set", "evaluate.context=7"], "beam horizon of 2 is more than the 8 steps"),
        (["--set", "train.phases.world_action.steps=9"], "set evaluate.FIELD here, or make another experiment"),
        (["--rom-dir", "/nowhere/at/all"], "ROM folder /nowhere/at/all cannot be read"),
    ],
)
def test_bad_requests_are_one_line(
    ours: TinyRun, asked: list[str], words: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(["evaluate", "tiny", *asked]) in (1, 2)
    printed = capsys.readouterr()
    assert words in printed.err and printed.err.count("\n") == 1 and not printed.out
    assert set(scores(ours)) == {""}
