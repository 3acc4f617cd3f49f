"""What keys mean in each game, asked of the page's own script in node."""

import json
import shutil
import subprocess

import pytest

from pipelines.environments.actions import own_actions
from pipelines.environments.crafter.game import GAME
from pipelines.stages.record import places_in
from tests.fakes import ROOT

CRAFTER = {
    "w": "move_up", "a": "move_left", "s": "move_down", "d": "move_right", "ArrowUp": "move_up", " ": "do",
    "Tab": "sleep", "z": "sleep", "r": "place_stone", "t": "place_table", "f": "place_furnace", "p": "place_plant",
    "1": "make_wood_pickaxe", "2": "make_stone_pickaxe", "3": "make_iron_pickaxe", "4": "make_wood_sword",
    "5": "make_stone_sword", "6": "make_iron_sword", "7": None, "u": None, "n": None,
}  # fmt: skip
BOXING = {"w": "UP", " ": "FIRE", "t": "UPRIGHT", "r": "UPLEFT", "ArrowLeft": "LEFTFIRE", "p": None, "1": None}


def meant(game: str, keys: list[str], together: bool = False) -> list[str | None]:
    """The action that each key names, or all together, in the script that the page runs."""
    code = f"""
import {{ action, pushed }} from {json.dumps((ROOT / "pipelines/play/page/keys.js").as_uri())};
const actions = {json.dumps(own_actions(game))};
const asked = {json.dumps([keys] if together else [[key] for key in keys])};
console.log(JSON.stringify(asked.map((keys) => {{
  const pushes = keys.map((key) => pushed(key, actions)).filter(Boolean);
  const at = pushes.length ? action(pushes, actions) : null;
  return at === null ? null : actions[at];
}})));"""
    done = subprocess.run(
        ["node", "--input-type=module", "-e", code], capture_output=True, text=True, check=True, timeout=60
    )
    return json.loads(done.stdout)


node = pytest.mark.skipif(shutil.which("node") is None, reason="node runs the page's script here")


@node
@pytest.mark.parametrize(("game", "keys"), [(GAME, CRAFTER), ("Boxing", BOXING)])
def test_keys_name_the_actions_of_their_game(game: str, keys: dict[str, str | None]) -> None:
    assert dict(zip(keys, meant(game, list(keys)), strict=True)) == keys


@node
def test_of_keys_that_are_held_together_the_newest_counts_in_crafter_and_atari_has_diagonals() -> None:
    assert meant(GAME, ["w", "d"], together=True) == ["move_right"]
    assert meant(GAME, ["d", " "], together=True) == ["do"]
    assert meant("Boxing", ["w", "d"], together=True) == ["UPRIGHT"]


def test_a_file_of_actions_takes_crafters_names_in_any_case() -> None:
    assert places_in("keys.txt", b"noop MOVE_LEFT Do 16", GAME) == (0, 1, 5, 16)
