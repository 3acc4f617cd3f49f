"""Score plot: a panel per game, with and without reference levels."""

import pytest
from PIL import Image

from pipelines.plots import scores


def size(path):
    with Image.open(path) as image:
        return image.size


def test_a_panel_per_game_and_small(tmp_path):
    freeway = scores.Panel("Freeway", (scores.Agent("demo", (20.0, 21.0, 21.0)),), random=0.0, behaviour=20.9)
    boxing = scores.Panel("Boxing", (scores.Agent("demo", (40.0,)),))
    scores.draw([freeway], tmp_path / "one.png")
    scores.draw([freeway, boxing], tmp_path / "two.png")
    assert size(tmp_path / "two.png")[0] == 2 * size(tmp_path / "one.png")[0]
    assert (tmp_path / "two.png").stat().st_size < 150_000


def test_levels_are_drawn_only_when_known(tmp_path):
    agents = (scores.Agent("demo", (1.0, 2.0, 3.0)),)
    scores.draw([scores.Panel("Pong", agents)], tmp_path / "without.png")
    scores.draw([scores.Panel("Pong", agents, random=1.5)], tmp_path / "with.png")
    assert (tmp_path / "without.png").read_bytes() != (tmp_path / "with.png").read_bytes()


def test_an_agent_without_episodes_leaves_an_empty_column(tmp_path):
    scores.draw([scores.Panel("Pong", (scores.Agent("imported", ()),), random=-20.7)], tmp_path / "s.png")
    assert size(tmp_path / "s.png")[0] > 200


def test_empty_table(tmp_path):
    with pytest.raises(ValueError, match="no game was scored"):
        scores.draw([], tmp_path / "s.png")
