"""What the rules' limit cuts is no end of the game, unless a recipe repeats code that learned it as one."""

from dataclasses import replace
from pathlib import Path

import pytest

from models.delta_iris.agent import DeltaIrisAgent
from pipelines.environments.crafter.game import CrafterRules
from pipelines.training.collecting import Collector, Stage
from tests.models.delta_iris.small_delta import CONFIG


@pytest.mark.parametrize("ends", [False, True])
def test_a_time_limit_ends_the_game_where_it_is_asked_to(tmp_path: Path, ends: bool) -> None:
    agent = DeltaIrisAgent(replace(CONFIG, actions=tuple(range(17)), frame=(64, 64, 3)))
    stage = Stage("Crafter", CrafterRules("crafter", max_steps=4), 1, 0)
    experience = stage.experience(tmp_path)
    player = Collector(agent, stage, experience, truncation_ends=ends)
    player.play(0, 10, 1.0)
    player.close()
    assert experience.truncations.tolist() == [0, 0, 0, 1, 0, 0, 0, 1, 0, 0]
    assert experience.terminals.tolist() == [0, 0, 0, ends, 0, 0, 0, ends, 0, 0]
    assert experience.episode_starts.tolist() == [0, 4, 8, 10]
