"""Meta-world as it is played here, in the real package with real pictures; skipped where nothing draws."""

import subprocess
import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing, contextmanager
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from pipelines.environments import registry
from pipelines.environments.metaworld.game import CAMERAS, MetaworldRules
from pipelines.environments.registry import protocol
from pipelines.environments.rollout import Episode, EpisodeBatch, play, replay
from pipelines.errors import UsageError
from pipelines.evaluation.players import RandomPlayer

pytestmark = pytest.mark.usefixtures("metaworld_here")
FAST = protocol("metaworld_fast")
TASK = "drawer-open"


@contextmanager
def playing(*seeds: int, game: str = TASK, rules: registry.Rules = FAST) -> Iterator[Any]:
    with closing(registry.make(game, seeds, rules)) as found:
        yield found


def drawn(seed: int, steps: int, count: int = 1) -> NDArray[np.float32]:
    return np.random.default_rng(seed).uniform(-1, 1, (steps, count, 4)).astype(np.float32)


def walked(game: Any, actions: NDArray[np.float32]) -> tuple[NDArray[np.uint8], NDArray[np.float32]]:
    """Frames from the first on, and rewards."""
    frames, rewards = [game.reset()], []
    for action in actions:
        step = game.step(action)
        frames.append(step.frames)
        rewards.append(step.rewards)
    return np.stack(frames), np.stack(rewards)


def test_equal_seeds_play_alike_and_others_do_not() -> None:
    found = []
    for seed in (3, 3, 4):
        np.random.seed(len(found))
        with playing(seed) as game:
            found.append(walked(game, drawn(1, 12)))
    assert np.array_equal(found[0][0], found[1][0]) and np.array_equal(found[0][1], found[1][1])
    assert not np.array_equal(found[0][0], found[2][0])
    assert found[0][0].shape == (13, 1, 64, 64, 3) and found[0][0].dtype == np.uint8


@pytest.mark.slow
def test_two_that_are_drawn_in_turn_show_what_each_shows_alone() -> None:
    actions = drawn(2, 8, 2)
    with playing(5, 6) as both, playing(6, game="reach") as other:
        other.reset()
        frames, rewards = [both.reset()], []
        for action in actions:
            other.step(drawn(9, 1)[0])
            step = both.step(action)
            frames.append(step.frames)
            rewards.append(step.rewards)
    for row, seed in enumerate((5, 6)):
        with playing(seed) as alone:
            ours, gained = walked(alone, actions[:, row : row + 1])
        assert np.array_equal(np.stack(frames)[:, row], ours[:, 0])
        assert np.array_equal(np.stack(rewards)[:, row], gained[:, 0])


def test_one_that_is_closed_leaves_the_others_pictures_whole() -> None:
    with playing(5) as stays:
        first = stays.reset()
        with playing(6) as goes:
            goes.reset()
            assert np.array_equal(stays.cameras(["corner"]), first)
        assert np.array_equal(stays.cameras(["corner"]), first)
        goes.close()  # a second time
        assert np.array_equal(stays.cameras(["corner"]), first)


def test_another_thread_goes_on_with_it() -> None:
    """As in the page of `worldline play`, whose games are made in one thread and played in another."""
    with playing(5) as game, ThreadPoolExecutor(1) as other:
        first = game.reset()
        assert np.array_equal(other.submit(game.cameras, ["corner"]).result(), first)
        assert np.array_equal(game.cameras(["corner"]), first)


def test_cameras_in_turn_show_what_each_shows_alone_and_change_nothing() -> None:
    alone = {}
    for camera in ("corner", "topview", "gripperPOV"):
        with playing(7, rules=MetaworldRules("one", camera, shadows=0, samples=0, reflections=False)) as game:
            alone[camera] = game.reset()[0]
    with playing(7) as game, playing(7) as unseen:
        first, expected = game.reset(), unseen.reset()
        pictures = game.cameras(CAMERAS)
        assert pictures.shape == (7, 64, 64, 3) and np.array_equal(first, expected)
        for camera, picture in alone.items():
            assert np.array_equal(picture, pictures[CAMERAS.index(camera)]), camera
        assert game.screens().shape == (1, 288, 288, 3)
        action = drawn(3, 1)[0]
        assert np.array_equal(game.step(action).frames, unseen.step(action).frames)
        with pytest.raises(UsageError, match="Unknown camera 'corner9': choose one of topview, corner"):
            game.cameras(["corner9"])


def test_frames_are_upright() -> None:
    """Grey above, the table's wood below, the red arm from the left: as papers show the view."""
    with playing(0, rules=protocol("metaworld")) as game:
        frame = game.reset()[0].astype(int)
    red, green, blue = frame.transpose(2, 0, 1)
    grey = (np.abs(red - green) < 12) & (np.abs(green - blue) < 12)
    wood = (red > green + 15) & (green > blue + 10)
    arm = (red > 60) & (red > 2 * green)
    assert grey[:16].mean() > grey[40:].mean() + 0.1
    assert wood[40:].mean() > 3 * wood[:24].mean()
    assert arm[:, :32].sum() > 3 * arm[:, 32:].sum()


def test_places_are_those_that_the_package_draws_of_a_seed() -> None:
    with playing(0) as game:
        game.reset()
        places = [game.states()[0, 4]]
        game._copies[0].reset()
        places.append(game.states()[0, 4])
    assert np.round(places, 4).tolist() == [0.0274, 0.0213]


def test_the_first_frame_shows_the_object_where_the_next_ones_do() -> None:
    still = np.zeros((1, 4), np.float32)
    with playing(0) as game:
        first = game.reset()
        second = game.step(still).frames
    assert np.abs(first.astype(int) - second).mean() < 1  # a drawer elsewhere makes it 10 times that


def test_the_limit_truncates_and_the_next_episode_is_another() -> None:
    rules = MetaworldRules("short", shadows=0, samples=0, reflections=False, max_steps=5)
    with playing(4, rules=rules) as game:
        first, ends, frames = game.reset(), [], []
        for action in drawn(4, 11):
            step = game.step(action)
            ends.append((bool(step.terminated[0]), bool(step.truncated[0])))
            frames.append(step.frames)
        assert ends == ([(False, False)] * 4 + [(False, True)]) * 2 + [(False, False)]
        assert not np.array_equal(frames[4], first) and not np.array_equal(frames[9], frames[4])
        again = game.restart([0], [4])
        assert np.array_equal(again, first)


def test_an_episode_has_500_steps() -> None:
    with playing(2, game="reach") as game:
        game.reset()
        game._copies[0].picture = lambda camera: np.zeros((64, 64, 3), np.uint8)  # what is drawn changes no physics
        ended = [bool(game.step(action).truncated[0]) for action in drawn(5, 501)]
    assert ended == [False] * 499 + [True, False]


def test_a_restart_of_one_leaves_the_others_alone() -> None:
    with playing(1, 2) as game:
        first = game.reset()
        step = game.step(drawn(6, 1, 2)[0])
        now = game.restart([1], [1])
        assert np.array_equal(now[0], step.frames[0]) and np.array_equal(now[1], first[0])


@pytest.mark.slow
def test_episodes_of_random_play_are_their_own_whoever_plays_beside() -> None:
    """By the rollout that plays evaluations; what is written down plays again to the same return."""
    rules = MetaworldRules("short", shadows=0, samples=0, reflections=False, max_steps=7)
    found = []
    for envs in (1, 3):
        played: list[Episode] = []
        play(EpisodeBatch("reach", rules, {0: 5, 1: 6, 2: 7}, played.append, envs), RandomPlayer("reach"))
        found.append(sorted(played, key=lambda episode: episode.episode))
    assert found[0] == found[1] and [len(episode.actions) for episode in found[0]] == [7 * 4 * 4] * 3
    assert {episode.ended for episode in found[0]} == {"truncated"} and len({each.score for each in found[0]}) == 3
    assert all(episode.achievements.keys() == {"success"} for episode in found[0])
    frames = list(replay("reach", found[0][1], rules))
    assert len(frames) == 7 and frames[0].shape == (64, 64, 3)


def test_roots_tell_what_is_played_and_what_drew_it(metaworld_here: str) -> None:
    found = registry.roots(TASK, protocol("metaworld+noise0.1"))
    assert found["emulator"].startswith("metaworld 3.1") and "mujoco 3.3.0" in found["emulator"]
    assert (found["game"], found["task"], found["protocol"]) == (TASK, "drawer-open-v3", "metaworld+noise0.1")
    assert (found["camera"], found["shadows"], found["samples"], found["reflections"]) == ("corner", 4096, 4, True)
    assert found["renderer"] == metaworld_here and ": " in metaworld_here
    with playing(1) as game:
        assert game.roots() == registry.roots(TASK, FAST)


@pytest.mark.parametrize(
    ("action", "fault"),
    [
        ([[0, 0, 0, 1.5]], "1.5 is in no action of drawer-open: its 4 numbers are from -1 to 1"),
        ([[0, np.nan, 0, 0]], "nan is in no action of drawer-open"),
        ([[0, 0, -np.inf, 0]], "-inf is in no action of drawer-open"),
        ([[0, 0, 0]], r"Actions of shape \(1, 3\) are none of drawer-open: give \(1, 4\)"),
        ([0], r"Actions of shape \(1,\) are none of drawer-open"),
    ],
)
def test_an_action_that_is_none_is_refused(action: list[Any], fault: str) -> None:
    with playing(1) as game:
        game.reset()
        with pytest.raises(ValueError, match=f"^{fault}"):
            game.step(np.array(action))


def test_roms_and_no_seeds_are_refused() -> None:
    with pytest.raises(UsageError, match="reach has no ROM, and roms names one: leave rom_dir"):
        registry.options("reach", "roms")
    assert registry.options("reach") == {}
    with pytest.raises(ValueError, match="0 environments of reach"):
        registry.make("reach", [], FAST)


def test_what_nobody_closed_makes_no_noise_at_the_end() -> None:
    code = (
        "from pipelines.environments import registry\n"
        "game = registry.make('reach', [1], registry.protocol('metaworld_fast'))\n"
        "print(game.reset().shape)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "(1, 64, 64, 3)\n" and done.stderr == ""
