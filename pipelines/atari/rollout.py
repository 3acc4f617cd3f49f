"""Play episodes to their end with any policy, many at once: one environment an episode, no episode favoured for speed.

Taking the first n episodes that end would prefer short ones; here every environment's first episode counts, whatever
its length. Letters: N environments.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from pipelines.atari.environment import make_vector
from pipelines.atari.protocols import Protocol
from pipelines.progress import track

Act = Callable[[NDArray[np.uint8]], NDArray[np.integer]]
"""frames (N, 84, 84) uint8 -> actions (N,) in the 18-action vocabulary"""
Reset = Callable[[Sequence[int]], None]
"""rows of the environments that begin a new episode"""


@dataclass(frozen=True)
class Episode:
    """How one episode went. `seed` is the emulator's own; `ended` is terminated, truncated (protocol) or limit."""

    episode: int
    seed: int
    score: float  # sum of raw rewards: the return
    clipped_score: float  # sum of the rewards' signs
    length: int  # agent steps
    ended: str


@dataclass(frozen=True)
class Rollout:
    """All episodes, and the frames of the first one (S, 84, 84) that were asked for."""

    episodes: tuple[Episode, ...]
    frames: NDArray[np.uint8]


def play(
    game: str,
    act: Act,
    reset: Reset,
    protocol: Protocol,
    *,
    episodes: int,
    seed: int,
    max_steps: int = 0,
    film: int = 0,
    title: str = "",
) -> Rollout:
    """Play `episodes` episodes of `game`; `max_steps` cuts them (0: the protocol's limit), `film` frames are kept."""
    games = make_vector(game, episodes, protocol, seed)
    limit = max_steps or protocol.max_steps + 1
    frames = games.reset()
    scores, clipped = np.zeros(episodes), np.zeros(episodes)
    found: dict[int, Episode] = {}
    filmed: list[NDArray[np.uint8]] = []
    with track(title or f"Play {game}", total=episodes, unit="episodes") as advance:
        for length in range(1, limit + 1):
            if len(filmed) < film and 0 not in found:
                filmed.append(frames[0].copy())
            step = games.step(act(frames))
            running = np.array([row not in found for row in range(episodes)])
            scores += step.rewards * running
            clipped += np.sign(step.rewards) * running
            for row in np.flatnonzero(running & (step.ended | (length == limit))).tolist():
                how = "terminated" if step.terminated[row] else "truncated" if step.truncated[row] else "limit"
                found[row] = Episode(row, games.seeds[row], float(scores[row]), float(clipped[row]), length, how)
                advance(1, note=f"{game} returns {np.mean([item.score for item in found.values()]):.1f} on average")
            if len(found) == episodes:
                break
            reset(np.flatnonzero(step.ended).tolist())
            frames = step.frames
            advance(0, note=f"step {length:,}, return so far {scores.mean():.1f}")
    filmed_SHW = np.stack(filmed) if filmed else np.zeros((0, *frames.shape[1:]), np.uint8)
    return Rollout(tuple(found[row] for row in range(episodes)), filmed_SHW)
