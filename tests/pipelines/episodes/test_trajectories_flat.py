"""Lengths of flat episodes."""

import numpy as np

from pipelines.episodes.trajectories import FlatEpisodes


def test_transitions_and_episodes_are_counted() -> None:
    found = FlatEpisodes()
    found.actions, found.episode_starts = np.zeros(7, np.uint8), np.array([0, 3, 7])
    assert (len(found), found.num_episodes) == (7, 2)
