"""Commands where an action is numbers, on an agent that learned the toy arm: each works, or is refused in one line."""

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from pipelines import home
from pipelines.cli import run
from pipelines.episodes.trajectories import FILE_NAME, Trajectories
from pipelines.recipes.registry import RECIPES
from pipelines.store.store import Store
from tests.pipelines.commands.test_dreamer_files import recipe
from tests.pipelines.environments.toy_arm import GAME, SIZE, known

SHORT = ("play", "robot", "--headless", "--steps", "14")


@pytest.fixture(scope="module")
def robot(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A home with an experiment that learned and was evaluated."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("WORLDLINE_HOME", str(tmp_path_factory.mktemp("robot") / "home"))
        patch.delenv("WORLDLINE_STORAGE", raising=False)
        patch.setitem(RECIPES, "dreamerv2", lambda: recipe("dreamerv2"))
        known(patch)
        assert run(["experiment", "new", "robot", "--recipe", "dreamerv2"]) == 0
        assert run(["learn", "robot"]) == 0 and run(["evaluate", "robot"]) == 0
        yield home.home()


@pytest.mark.parametrize(
    "asked",
    [
        ("--mode", "agent", "--reconstruction"),
        pytest.param(("--mode", "dream-agent", "--sample"), marks=pytest.mark.slow),
        ("--mode", "dream-agent", "--episode", "0", "--step", "3"),
        pytest.param(
            ("--mode", "dream-agent", "--episode", "0", "--step", "3", "--of", "evaluated"), marks=pytest.mark.slow
        ),
        ("--mode", "episodes"),
        ("--mode", "episodes", "--of", "evaluated"),
    ],
)
def test_what_no_person_plays_is_played_and_kept(robot: Path, tmp_path: Path, asked: tuple[str, ...]) -> None:
    assert run([*SHORT, *asked, "--out", str(tmp_path / "kept.npz")]) == 0
    with np.load(tmp_path / "kept.npz", allow_pickle=False) as data:
        assert data["actions"].shape == (15, SIZE) and np.nanmax(np.abs(data["actions"])) <= 1
    store = Store(robot / "store")
    kept = [store.open(ref) for name, ref in store.pointers().items() if "/agent-" in name]
    for each in kept:
        played = Trajectories(each.path(FILE_NAME))
        assert played.game == GAME and played.actions.dtype == np.float32 and played.actions.shape == (13, SIZE)


@pytest.mark.parametrize(
    ("asked", "told"),
    [
        (
            (),
            "In mode 'dream' a person plays, and an action of ToyArm is 2 numbers, which no key says: choose --mode ag",
        ),
        (("--mode", "game"), "In mode 'game' a person plays"),
        (("--mode", "versus"), "In mode 'versus' a person plays"),
        (("--mode", "agent", "--planner", "mcts"), "cannot play by mcts: choose from actor, greedy"),
    ],
)
def test_the_rest_is_one_line(
    robot: Path, capsys: pytest.CaptureFixture[str], asked: tuple[str, ...], told: str
) -> None:
    capsys.readouterr()
    assert run([*SHORT, *asked]) == 2
    printed = capsys.readouterr().err
    assert printed.count("\n") == 1 and told in printed


def test_keys_and_the_page_of_a_persons_mode_are_one_line(
    robot: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    keys = tmp_path / "keys.txt"
    keys.write_text("NOOP UP")
    capsys.readouterr()
    assert run([*SHORT, "--mode", "agent", "--actions", str(keys)]) == 2
    assert "an action of ToyArm is numbers, which no key says: leave it out" in capsys.readouterr().err
    assert run(["play", "robot"]) == 2
    assert "choose --mode agent, dream-agent, episodes" in capsys.readouterr().err


@pytest.mark.slow
def test_what_it_played_goes_out_and_comes_in_and_is_learned_from(
    robot: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    store = Store(robot / "store")
    (ref,) = [ref for name, ref in store.pointers().items() if name.startswith("world_model_agent/")]
    played = store.open(ref).path(FILE_NAME)
    assert run(["import", "trajectories", str(played), "--game", GAME]) == 0
    assert run(["export", "trajectories", f"imported_trajectories/{GAME}", "--to", "zarr", "--out", str(tmp_path)]) == 0
    assert (
        run(["export", "segments", f"imported_trajectories/{GAME}", "--to", "csv", "--out", f"{tmp_path}/s.csv"]) == 0
    )
    croissant = ["export", "croissant", f"imported_trajectories/{GAME}", "--out", str(tmp_path / "s.json")]
    assert run(croissant) == 0
    capsys.readouterr()
    assert run(["import", "trajectories", str(tmp_path / f"{GAME}.zarr"), "--game", GAME]) == 0
    told = capsys.readouterr().out
    back = Trajectories(store.open(store.resolve(f"imported_trajectories/{GAME}")).path(FILE_NAME))
    before = Trajectories(played)
    assert np.array_equal(back.actions, before.actions) and np.array_equal(back.rewards, before.rewards)
    assert np.array_equal(back.frames(0, 100), before.frames(0, 100))
    (line,) = [each for each in told.splitlines() if each.startswith("Train on it: worldline ")]
    advised = line.removeprefix("Train on it: worldline ").replace("NAME", "off").split()
    assert run([*advised, "--set", "learn.check.steps=0"]) == 0 and run(["learn", "off"]) == 0
    for form in ("jowa-h5", "webdataset"):
        asked = ["export", "trajectories", f"imported_trajectories/{GAME}", "--to", form, "--out", str(tmp_path)]
        assert refused(asked, capsys) == (
            f"An action of ToyArm is numbers, and {form} holds one by its number: export --to zarr\n"
        )


def test_what_cannot_be_done_with_numbers_is_one_line(
    robot: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    ends = np.array([0, 0, 0, 0, 0, 1], bool)
    own = {"observations": np.zeros((6, 16, 16, 3), np.uint8), "rewards": np.zeros(6, np.float32), "terminals": ends}
    for name, actions in (("numbers", np.zeros((6, SIZE), np.float32)), ("ids", np.zeros(6, np.int64))):
        np.savez(tmp_path / f"{name}.npz", actions=actions, **own)
        asked = ["import", "trajectories", str(tmp_path / f"{name}.npz"), "--game", GAME]
        assert "an action of ToyArm is numbers: import what holds such (trajectories, zarr)" in refused(asked, capsys)
    assert "whose state can be saved: diagnose an Atari game" in refused(["diagnose", "robot"], capsys)
    assert "Unknown field 'tune'" in refused(["evaluate", "robot", "--set", "tune.contexts=1,2"], capsys)
    assert "family 'dreamer' cannot dream in a browser" in refused(
        ["export", "browser", "robot", "--to", str(tmp_path / "page")], capsys
    )
    assert "only those of 'jowa' are fine-tuned" in refused(["finetune", "robot", "--game", GAME], capsys)
    assert not (tmp_path / "page").exists()


def refused(asked: list[str], capsys: pytest.CaptureFixture[str]) -> str:
    """What a command says that does nothing."""
    capsys.readouterr()
    assert run(asked) in (1, 2)
    printed = capsys.readouterr().err
    assert printed.count("\n") == 1 and "fault of Worldline" not in printed, printed
    return printed
