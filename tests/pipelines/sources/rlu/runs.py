"""A run of miniature shards with everything that can befall an episode, and what is to be read of it."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from pipelines.episodes.trajectories import Trajectories
from pipelines.sources.rlu.listing import file_name
from tests.pipelines.sources.rlu.shards import Truth, play, write_shard

CUT = {(0, 3), (1, 3)}  # (shard, episode) that end with their shard; what follows them may be their rest
SHARDS = 4


@dataclass(frozen=True)
class Played:
    """A run as it was played: by shard, its episodes."""

    shards: Mapping[int, list[Truth]]

    def whole(self) -> dict[tuple[int, int], Truth]:
        """Those that are known to be whole, by shard and first row."""
        found, sound = {}, True
        for number, episodes in self.shards.items():
            row = 0
            for each in episodes:
                if sound and each.terminated:
                    found[number, row] = each
                sound, row = each.terminated, row + len(each.frames)
        return found


def write_run(
    root: Path, game: str = "Pong", agent: int = 1, seed: int = 0, shifted: bool = False, steps: int = 13
) -> Played:
    """Four shards of four episodes; two of the shards end in a cut episode."""
    shards = {}
    for shard in range(SHARDS):
        shards[shard] = [
            play(1000 * seed + 10 * shard + n, steps + 9 * n + shard, (shard, n) not in CUT, shard, n) for n in range(4)
        ]
        write_shard(root / game / file_name(agent, shard, SHARDS), shards[shard], shifted)
    return Played(shards)


def require_played(drawn: Trajectories, played: Played) -> set[tuple[int, int]]:
    """Every drawn transition is the one that was played; returns the drawn episodes by shard and first row."""
    found, whole = set(), played.whole()
    for start, stop in zip(drawn.episode_starts[:-1].tolist(), drawn.episode_starts[1:].tolist(), strict=True):
        agent_shard_row: NDArray[np.int32] = drawn.source_rows(start, stop)
        shard, row = agent_shard_row[0, 1:].tolist()
        truth = whole[shard, row]
        count = len(truth.actions)
        assert agent_shard_row[:, 2].tolist() == list(range(row, row + count))
        np.testing.assert_array_equal(drawn.frames(start, stop), truth.frames[:count])
        np.testing.assert_array_equal(drawn.actions[start:stop], truth.actions)
        np.testing.assert_array_equal(drawn.rewards[start:stop], truth.rewards.clip(-1, 1))
        assert drawn.terminals[start:stop].tolist() == [0] * (count - 1) + [1]
        found.add((shard, row))
    return found
