"""Many copies of one game, played at once in ale-py's own vector environment.

Its 84x84 frames equal Dopamine's preprocessing bit for bit. Cost: about 1,000 to 1,900 agent steps per second and core.
Letters: N environments, H and W pixels.
"""

from dataclasses import dataclass

import numpy as np
from ale_py import ALEInterface, LoggerMode
from ale_py.vector_env import AtariVectorEnv
from numpy.typing import NDArray

from pipelines.atari.actions import ACTIONS, IDS
from pipelines.atari.games import ale_name
from pipelines.atari.protocols import Protocol

FRAME_SIDE = 84


@dataclass(frozen=True)
class Step:
    """What one step of all environments gave. Where an episode ended, `frames` holds the next episode's first frame."""

    frames: NDArray[np.uint8]  # (N, 84, 84)
    rewards: NDArray[np.float32]  # (N,) raw game points
    terminated: NDArray[np.bool_]  # (N,) game over
    truncated: NDArray[np.bool_]  # (N,) cut by the protocol's limit

    @property
    def ended(self) -> NDArray[np.bool_]:
        """(N,) True where an episode ended, for either reason; game over counts when both fell on one step."""
        return self.terminated | self.truncated


class VectorGame:
    """`num_envs` environments of one game. `seeds` are the emulators' own seeds, one per environment."""

    def __init__(self, game: str, num_envs: int, protocol: Protocol, seed: int, threads: int) -> None:
        ALEInterface.setLoggerMode(LoggerMode.Error)
        self.game = game
        self.protocol = protocol
        self.seeds = tuple(int(word) >> 1 for word in np.random.SeedSequence(seed).generate_state(num_envs))
        # SAME_STEP: a reset costs no step, so every step is a real transition and the logs need no masking.
        self._env = AtariVectorEnv(
            ale_name(game),
            num_envs,
            num_threads=threads,
            max_num_frames_per_episode=protocol.max_frames,
            repeat_action_probability=protocol.sticky,
            full_action_space=protocol.full_action_space,
            autoreset_mode="SameStep",
            img_height=FRAME_SIDE,
            img_width=FRAME_SIDE,
            stack_num=1,
            frameskip=protocol.frame_skip,
            noop_max=protocol.noop_max,
            reward_clipping=False,
            use_fire_reset=False,
        )
        self._index = np.full(len(ACTIONS), -1, np.int64)  # the 18 actions -> this environment's own numbers
        for number, action in enumerate(self._env.ale.get_action_set()):
            self._index[IDS[action.name]] = number

    def reset(self) -> NDArray[np.uint8]:
        """First frames (N, 84, 84) of fresh episodes; seeds every environment anew, so a reset repeats the run."""
        frames, _ = self._env.reset(seed=np.array(self.seeds))
        return frames[:, 0].copy()

    def step(self, actions_N: NDArray[np.integer]) -> Step:
        """Play one action of the 18 in each environment. Raises ValueError for an action the game does not have."""
        own = self._index[actions_N]
        if (own < 0).any():
            bad = ACTIONS[int(np.asarray(actions_N)[own < 0][0])]
            raise ValueError(f"{bad} is no action of {self.game}: mask with actions.legal_mask before choosing")
        frames, rewards, terminated, truncated, _ = self._env.step(own)
        return Step(frames[:, 0].copy(), rewards.astype(np.float32), terminated, truncated & ~terminated)


def make_vector(game: str, num_envs: int, protocol: Protocol, seed: int, threads: int = 2) -> VectorGame:
    """Environments of `game` under `protocol`; the result does not depend on `threads`.

    Raises UsageError for an unknown game, ValueError when `num_envs` is not positive.
    """
    if num_envs < 1:
        raise ValueError(f"{num_envs} environments of {game} were asked for: at least 1 is needed")
    return VectorGame(game, num_envs, protocol, seed, threads)
