"""What follows from flat arrays and a table of episode starts, whatever file they were read from."""

import numpy as np
from numpy.typing import NDArray


class FlatEpisodes:
    """Mixin of the trajectory readers. N transitions, episode after episode; E episodes."""

    actions: NDArray[np.uint8]  # (N,)
    episode_starts: NDArray[np.int64]  # (E+1,), N at its end

    def __len__(self) -> int:
        return len(self.actions)

    @property
    def num_episodes(self) -> int:
        """E."""
        return len(self.episode_starts) - 1
