"""The 60 games, their ROMs, actions against the emulator, rules of play, scripts where the right action is plain."""

import re

import numpy as np
import pytest
from ale_py import Action, ALEInterface, LoggerMode
from numpy.typing import NDArray

from pipelines.environments.actions import legal_mask
from pipelines.environments.atari.games import (
    ACTIONS,
    GAMES,
    IDS,
    PROTOCOLS,
    SCRIPTS,
    AtariRules,
    Script,
    actions,
    ale_name,
    boxing,
    breakout,
    check_game,
    freeway,
    minimal_actions,
    pong,
    rom_md5,
    rom_path,
)
from pipelines.environments.registry import emulator_seeds, make, protocol
from pipelines.errors import UsageError


def test_the_vocabulary_is_the_emulators_own() -> None:
    assert {name: action.value for name, action in Action.__members__.items()} == IDS
    assert len(ACTIONS) == 18


@pytest.mark.parametrize(
    ("game", "names"),
    [
        ("Freeway", "NOOP UP DOWN"),
        ("Breakout", "NOOP FIRE RIGHT LEFT"),
        ("Pong", "NOOP FIRE RIGHT LEFT RIGHTFIRE LEFTFIRE"),
        ("Skiing", "NOOP RIGHT LEFT"),
        ("MsPacman", "NOOP UP RIGHT LEFT DOWN UPRIGHT UPLEFT DOWNRIGHT DOWNLEFT"),
    ],
)
def test_minimal_sets_in_the_games_order(game: str, names: str) -> None:
    assert [ACTIONS[number] for number in minimal_actions(game)] == names.split()
    assert sum(actions(game).mask(game)) == len(names.split())


@pytest.mark.parametrize("game", GAMES)
def test_every_game_maps_into_the_vocabulary_by_name(game: str) -> None:
    number = len(minimal_actions(game))
    names = [ACTIONS[action] for action in actions(game).own(game)]
    ALEInterface.setLoggerMode(LoggerMode.Error)
    emulator = ALEInterface()
    emulator.loadROM(str(rom_path(game)))
    assert names == [action.name for action in emulator.getMinimalActionSet()]
    legal = {action.name for action in emulator.getLegalActionSet()}
    assert set(names) <= legal and len(legal) == (9 if game == "Skiing" else 18)
    assert len(set(names)) == number and names[0] == "NOOP"


def test_boxing_uses_all_eighteen() -> None:
    assert minimal_actions("Boxing") == tuple(range(18))


def test_sixty_games_in_alphabetical_order() -> None:
    assert len(GAMES) == len(set(GAMES)) == 60
    assert list(GAMES) == sorted(GAMES)


def test_every_game_has_its_own_rom() -> None:
    assert all(rom_path(name).is_file() for name in GAMES)
    digests = {rom_md5(name) for name in GAMES}
    assert len(digests) == 60
    assert all(re.fullmatch("[0-9a-f]{32}", digest) for digest in digests)


def test_names_as_ale_py_spells_them() -> None:
    spelled = [ale_name(name) for name in ("MsPacman", "UpNDown", "Qbert", "KungFuMaster", "Jamesbond", "WizardOfWor")]
    assert spelled == ["ms_pacman", "up_n_down", "qbert", "kung_fu_master", "jamesbond", "wizard_of_wor"]


def test_unknown_game() -> None:
    for ask in (minimal_actions, check_game, ale_name):
        with pytest.raises(UsageError, match=r"Unknown game 'Pang': .*'worldline games' lists all 60"):
            ask("Pang")


def test_sticky_is_half_an_hour_with_a_quarter_of_repeats() -> None:
    assert (PROTOCOLS["sticky"].sticky, PROTOCOLS["sticky"].max_steps) == (0.25, 27_000)


def test_jowa_has_no_sticky_actions_and_counts_agent_steps() -> None:
    assert (PROTOCOLS["jowa"].sticky, PROTOCOLS["jowa"].max_steps) == (0.0, 108_000)


def test_atari100k_starts_with_no_ops_and_repeats_none() -> None:
    rules = PROTOCOLS["atari100k"]
    assert (rules.sticky, rules.noop_max, rules.max_steps) == (0.0, 30, 27_000)


@pytest.mark.parametrize("rules", PROTOCOLS.values(), ids=PROTOCOLS)
def test_all_rules_skip_frames_as_dopamine_and_take_minimal_actions(rules: AtariRules) -> None:
    assert (rules.frame_skip, rules.full_action_space) == (4, False)
    assert rules.max_frames == rules.max_steps * 4


def test_iris_plays_64x64_rgb_and_lives_end_episodes_in_training_alone() -> None:
    test, train = PROTOCOLS["iris"], PROTOCOLS["iris-train"]
    assert test.frame == train.frame == (64, 64, 3) and PROTOCOLS["jowa"].frame == (84, 84, 1)
    assert (test.life_loss, test.max_steps, train.life_loss, train.max_steps) == (False, 27_000, True, 5_000)
    assert not any(rules.life_loss for name, rules in PROTOCOLS.items() if name != "iris-train")


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"resize": "nearest"}, "Resize 'nearest' is unknown: choose area or bilinear"),
        ({"noop_min": 1}, "No-ops from 1 to below 0 cannot be drawn"),
        ({"noop_min": 5, "noop_max": 5}, "noop_min must be below noop_max"),
        ({"noop_min": -1}, "cannot be drawn"),
    ],
)
def test_impossible_rules_are_refused(changes: dict[str, object], words: str) -> None:
    with pytest.raises(ValueError, match=words):
        AtariRules("test", 0.0, **changes)


def name_of(script: Script, frame: NDArray[np.uint8], last: str = "NOOP") -> str:
    return ACTIONS[script(frame[None], np.array([IDS[last]]))[0]]


def breakout_frame(ball: tuple[int, int] | None, paddle: int) -> NDArray[np.uint8]:
    """`ball` is (row, column), `paddle` the column of its left end."""
    frame = np.zeros((84, 84), np.uint8)
    frame[24:38] = 142
    frame[76:78, paddle : paddle + 8] = 148
    if ball:
        frame[ball] = 100
    return frame


def boxing_frame(white: tuple[int, int], black: tuple[int, int]) -> NDArray[np.uint8]:
    """Two bars of 18 x 7 pixels whose top left corners are given as (row, column)."""
    frame = np.full((84, 84), 110, np.uint8)
    frame[black[0] : black[0] + 18, black[1] : black[1] + 7] = 0
    frame[white[0] : white[0] + 18, white[1] : white[1] + 7] = 214
    return frame


def test_freeway_always_walks_up() -> None:
    assert freeway(np.zeros((3, 84, 84), np.uint8), np.zeros(3, np.int64)).tolist() == [2, 2, 2]


@pytest.mark.parametrize(
    ("ball", "action"), [((60, 70), "RIGHT"), ((60, 10), "LEFT"), ((60, 43), "NOOP"), (None, "FIRE")]
)
def test_breakout_follows_the_ball(ball: tuple[int, int] | None, action: str) -> None:
    assert name_of(breakout, breakout_frame(ball, paddle=40)) == action


@pytest.mark.parametrize(("ball", "action"), [((20, 40), "RIGHT"), ((70, 40), "LEFT"), (None, "FIRE")])
def test_pong_follows_the_ball(ball: tuple[int, int] | None, action: str) -> None:
    frame = np.full((84, 84), 87, np.uint8)
    frame[40:48, 74] = 147
    if ball:
        frame[ball] = 236
    assert name_of(pong, frame) == action


@pytest.mark.parametrize(
    ("white", "black", "action"),
    [
        ((20, 20), (50, 55), "DOWN"),
        ((50, 55), (20, 20), "UP"),
        ((30, 55), (33, 20), "LEFT"),
        ((30, 20), (33, 55), "RIGHT"),
    ],
)
def test_boxing_approaches_from_any_side(white: tuple[int, int], black: tuple[int, int], action: str) -> None:
    assert name_of(boxing, boxing_frame(white, black)) == action


def test_boxing_punches_within_reach_every_other_step() -> None:
    in_reach = boxing_frame((30, 30), (33, 39))
    assert name_of(boxing, in_reach) == "FIRE"
    assert name_of(boxing, in_reach, last="FIRE") == "NOOP"
    assert name_of(boxing, boxing_frame((30, 20), (33, 58)), last="FIRE") == "RIGHT"


@pytest.mark.parametrize("game", sorted(SCRIPTS))
def test_scripts_are_of_known_games_and_keep_to_their_actions(game: str) -> None:
    assert game in GAMES
    noise = np.random.default_rng(0).integers(0, 256, (64, 84, 84)).astype(np.uint8)
    frames = np.concatenate([noise, np.zeros((1, 84, 84), np.uint8), np.full((1, 84, 84), 255, np.uint8)])
    actions = SCRIPTS[game](frames, np.zeros(66, np.int64))
    assert actions.shape == (66,)
    assert legal_mask(game)[actions].all()


@pytest.mark.parametrize(("game", "steps"), [("Breakout", 300), pytest.param("Boxing", 500, marks=pytest.mark.slow)])
def test_scripts_with_eyes_beat_random_play(game: str, steps: int) -> None:
    rng = np.random.default_rng(0)
    points = {}
    for player in ("script", "random"):
        vector = make(game, emulator_seeds(0, 2), protocol("sticky"))
        frames = vector.reset()
        points[player], last = 0.0, np.zeros(2, np.int64)
        for _ in range(steps):
            actions = SCRIPTS[game](frames, last) if player == "script" else rng.choice(minimal_actions(game), 2)
            step = vector.step(actions)
            frames, last = step.frames, actions
            points[player] += float(step.rewards.sum())
    assert points["script"] > points["random"] + 4
