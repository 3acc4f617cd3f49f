"""`worldline play` where an action is numbers: an agent that learned the toy arm plays, dreams, and is browsed."""

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
        ("--mode", "dream-agent", "--sample"),
        ("--mode", "dream-agent", "--episode", "0", "--step", "3"),
        ("--mode", "dream-agent", "--episode", "0", "--step", "3", "--of", "evaluated"),
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
