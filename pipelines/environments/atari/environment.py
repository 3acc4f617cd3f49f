"""Many copies of one game, played at once in ale-py's own vector environment.

Its 84x84 frames equal Dopamine's preprocessing bit for bit. Cost: about 1,000 to 1,900 agent steps per second and core.
Letters: N environments, H and W pixels.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from ale_py import ALEInterface, ALEVectorInterface, LoggerMode
from numpy.typing import NDArray

from pipelines.environments.atari.games import ACTIONS, IDS, rom_path
from pipelines.environments.atari.protocols import Protocol

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
    """One environment of `game` for each of `seeds`, the emulators' own; `rom` is its file (default: ale-py's)."""

    def __init__(
        self, game: str, seeds: Sequence[int], protocol: Protocol, threads: int = 2, rom: Path | None = None
    ) -> None:
        ALEInterface.setLoggerMode(LoggerMode.Error)
        self.game = game
        self.protocol = protocol
        self.seeds = tuple(seeds)
        # The interface below ale-py's AtariVectorEnv, which takes no file but its own.
        # SameStep: a reset costs no step, so every step is a real transition and the logs need no masking.
        self._ale = ALEVectorInterface(
            rom_path=rom or rom_path(game),
            num_envs=len(self.seeds),
            num_threads=threads,
            max_episode_steps=protocol.max_frames,
            repeat_action_probability=protocol.sticky,
            full_action_space=protocol.full_action_space,
            autoreset_mode="SameStep",
            img_height=FRAME_SIDE,
            img_width=FRAME_SIDE,
            stack_num=1,
            frame_skip=protocol.frame_skip,
            noop_max=protocol.noop_max,
            reward_clipping=False,
            use_fire_reset=False,
            grayscale=True,
            maxpool=True,
            episodic_life=False,
            life_loss_info=False,
            batch_size=0,  # every step waits for all
            thread_affinity_offset=-1,  # threads run on any core
        )
        self._strength = np.ones(len(self.seeds), np.float32)  # of paddles, whose actions are discrete here
        self._index = np.full(len(ACTIONS), -1, np.int64)  # the 18 actions -> this environment's own numbers
        for number, action in enumerate(self._ale.get_action_set()):
            self._index[IDS[action.name]] = number

    def reset(self) -> NDArray[np.uint8]:
        """First frames (N, 84, 84) of fresh episodes; seeds every environment anew, so a reset repeats the run."""
        return self.restart(range(len(self.seeds)), self.seeds)

    def restart(self, rows: Sequence[int], seeds: Sequence[int]) -> NDArray[np.uint8]:
        """Begin a fresh episode of its own seed in each of `rows`; frames (N, 84, 84), the other rows' unchanged.

        What follows is what a new environment of that seed would play.
        """
        frames, _ = self._ale.reset(np.asarray(rows, np.int64), np.asarray(seeds, np.int64))
        return frames[:, 0].copy()

    def step(self, actions_N: NDArray[np.integer]) -> Step:
        """Play one action of the 18 in each environment. Raises ValueError for an action the game does not have."""
        own = self._index[actions_N]
        if (own < 0).any():
            bad = ACTIONS[int(np.asarray(actions_N)[own < 0][0])]
            raise ValueError(f"{bad} is no action of {self.game}: mask with actions.legal_mask before choosing")
        self._ale.send(own, self._strength)
        frames, rewards, terminated, truncated, _ = self._ale.recv()
        return Step(frames[:, 0].copy(), rewards.astype(np.float32), terminated, truncated & ~terminated)


def emulator_seeds(seed: int, count: int) -> tuple[int, ...]:
    """`count` seeds of emulators; more of them begin with the same ones."""
    return tuple(int(word) >> 1 for word in np.random.SeedSequence(seed).generate_state(count))


def make_vector(game: str, num_envs: int, protocol: Protocol, seed: int, threads: int = 2) -> VectorGame:
    """Environments of `game` under `protocol`; the result does not depend on `threads`.

    Raises UsageError for an unknown game, ValueError when `num_envs` is not positive.
    """
    if num_envs < 1:
        raise ValueError(f"{num_envs} environments of {game} were asked for: at least 1 is needed")
    return VectorGame(game, emulator_seeds(seed, num_envs), protocol, threads)
