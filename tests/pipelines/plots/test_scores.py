"""Plots of scores: a panel per game, aggregate and block; levels and intervals where they are known."""

import numpy as np
import pytest
from PIL import Image

from pipelines.plots import scores
from pipelines.plots.scores import AggregateLine, ProfileCurve, ProfilePanel, Value, draw_aggregates, draw_profiles


def size(path):
    with Image.open(path) as image:
        return image.size


def test_a_panel_per_game_and_small(tmp_path):
    freeway = scores.Panel("Freeway", (scores.Agent("demo", (20.0, 21.0, 21.0)),), random=0.0, behaviour=20.9)
    boxing = scores.Panel("Boxing", (scores.Agent("demo", (40.0,)),))
    scores.draw_episodes([freeway], tmp_path / "one.png")
    scores.draw_episodes([freeway, boxing], tmp_path / "two.png")
    assert size(tmp_path / "two.png")[0] == 2 * size(tmp_path / "one.png")[0]
    assert (tmp_path / "two.png").stat().st_size < 150_000


def test_levels_are_drawn_only_when_known(tmp_path):
    agents = (scores.Agent("demo", (1.0, 2.0, 3.0)),)
    scores.draw_episodes([scores.Panel("Pong", agents)], tmp_path / "without.png")
    scores.draw_episodes([scores.Panel("Pong", agents, random=1.5)], tmp_path / "with.png")
    assert (tmp_path / "without.png").read_bytes() != (tmp_path / "with.png").read_bytes()


def test_an_agent_without_episodes_leaves_an_empty_column(tmp_path):
    scores.draw_episodes([scores.Panel("Pong", (scores.Agent("imported", ()),), random=-20.7)], tmp_path / "s.png")
    assert size(tmp_path / "s.png")[0] > 200


def test_no_game_is_nothing_to_draw(tmp_path):
    with pytest.raises(ValueError, match="no game was scored"):
        scores.draw_episodes([], tmp_path / "s.png")


def test_a_panel_per_aggregate_and_a_row_per_agent(tmp_path):
    lines = [
        AggregateLine("a", 0, True, {"IQM": Value(0.8, 0.7, 0.9)}),
        AggregateLine("b", 1, False, {"IQM": Value(0.5), "Gap": Value(1)}),
    ]
    draw_aggregates(lines, ["IQM", "Gap"], tmp_path / "two.png")
    draw_aggregates(lines[:1], ["IQM"], tmp_path / "one.png")
    with Image.open(tmp_path / "two.png") as two, Image.open(tmp_path / "one.png") as one:
        assert two.width > one.width and two.height > one.height
    assert (tmp_path / "two.png").stat().st_size < 60_000


def test_an_interval_shows(tmp_path):
    draw_aggregates([AggregateLine("a", 0, True, {"IQM": Value(0.8, 0.1, 2.0)})], ["IQM"], tmp_path / "with.png")
    draw_aggregates([AggregateLine("a", 0, True, {"IQM": Value(0.8)})], ["IQM"], tmp_path / "without.png")
    assert (tmp_path / "with.png").read_bytes() != (tmp_path / "without.png").read_bytes()


def test_no_aggregate_is_nothing_to_draw(tmp_path):
    with pytest.raises(ValueError, match="no agent has an aggregate"):
        draw_aggregates([], ["IQM"], tmp_path / "a.png")


def test_a_panel_of_profiles_per_block(tmp_path):
    tau = np.linspace(0, 2, 20)
    panel = ProfilePanel(
        "15 games",
        (ProfileCurve("a", tau, 1 - tau / 2, 0.9 - tau / 2, 1.1 - tau / 2), ProfileCurve("b", tau, *[tau * 0] * 3)),
    )
    draw_profiles([panel], tmp_path / "one.png")
    draw_profiles([panel, panel], tmp_path / "two.png")
    with Image.open(tmp_path / "one.png") as one, Image.open(tmp_path / "two.png") as two:
        assert two.width == 2 * one.width and two.height == one.height


def test_no_profile_is_nothing_to_draw(tmp_path):
    with pytest.raises(ValueError, match="no agent has an episode"):
        draw_profiles([], tmp_path / "a.png")
