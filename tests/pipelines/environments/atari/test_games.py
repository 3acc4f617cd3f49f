"""The 60 games, their ROMs, and their action numbers against the emulator, by name."""

import re

import pytest
from ale_py import Action, ALEInterface, LoggerMode

from pipelines.environments.atari.games import (
    ACTIONS,
    GAMES,
    IDS,
    PROTOCOLS,
    AtariRules,
    actions,
    ale_name,
    check_game,
    minimal_actions,
    rom_md5,
    rom_path,
)
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
