"""The expert set: the right episodes, read through as if they were a file of their own."""

from pathlib import Path

import numpy as np
import pytest

from pipelines.episodes.reader import BestEpisodes, best_episodes
from pipelines.episodes.trajectories import FILE_NAME, Trajectories
from pipelines.errors import UsageError
from tests.pipelines.episodes.made_episodes import write_episodes


@pytest.fixture
def data(tmp_path: Path) -> Trajectories:
    return write_episodes(tmp_path / FILE_NAME, lengths=(5, 40, 3, 22))


def test_the_best_are_those_of_the_highest_return(data: Trajectories) -> None:
    starts = data.episode_starts
    data.rewards = np.zeros(len(data), np.float32)
    for episode in range(data.num_episodes):
        data.rewards[starts[episode] : starts[episode] + episode % 3] = 1
    returns = [episode % 3 for episode in range(data.num_episodes)]
    for count in range(1, data.num_episodes + 1):
        chosen = best_episodes(data, count, among=data.num_episodes)
        assert chosen == sorted(sorted(range(data.num_episodes), key=lambda e: (-returns[e], e))[:count])
    assert best_episodes(data, 1, among=2) == [1]
    with pytest.raises(UsageError, match=r"3 expert episodes of Freeway are wanted, .* hold 2 to learn from"):
        best_episodes(data, 3, among=2)


def test_chosen_episodes_read_as_one_file(data: Trajectories) -> None:
    starts, chosen = data.episode_starts, [0, 2]
    best = BestEpisodes(data, chosen)
    rows = np.concatenate([np.arange(starts[episode], starts[episode + 1]) for episode in chosen])
    assert len(best) == len(rows) == best.episode_starts[-1] and best.num_episodes == 2
    for name in ("actions", "rewards", "terminals", "truncations"):
        np.testing.assert_array_equal(getattr(best, name), getattr(data, name)[rows])
    everything = data.frames(0, len(data))
    np.testing.assert_array_equal(best.frames(0, len(best)), everything[rows])
    border = int(best.episode_starts[1])
    np.testing.assert_array_equal(best.frames(border - 2, border + 3), everything[rows[border - 2 : border + 3]])
