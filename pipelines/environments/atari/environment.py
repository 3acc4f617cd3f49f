"""Many copies of one Atari game, played at once: in ale-py's vector environment, or frame by frame where it cannot.

`VectorGame` is ale-py's own. Its 84x84 grey frames equal Dopamine's preprocessing bit for bit.
`emulator_game.EmulatorGame` plays any `AtariRules`; `make` takes it for those that ale-py's environment does not know:
IRIS's resize, no-ops of which the least number is not 0, and lives that end an episode.
Letters: N environments, H and W pixels.
"""

from collections.abc import Sequence
from contextlib import ExitStack
from importlib.metadata import version
from typing import Any

import numpy as np
from ale_py import ALEInterface, ALEVectorInterface, LoggerMode
from numpy.typing import NDArray

from pipelines.environments import registry
from pipelines.environments.atari.emulator_game import EmulatorGame
from pipelines.environments.atari.games import ACTIONS, IDS, AtariRules
from pipelines.environments.atari.roms import Rom, chosen, playable, shipped
from pipelines.environments.registry import Environment, Step
from pipelines.errors import UsageError


def make(game: str, seeds: Sequence[int], rules: AtariRules, threads: int = 2, rom: Rom | None = None) -> Environment:
    """One environment of `game` for each of `seeds`; `threads` changes no result. `rom` is ale-py's unless given.

    Raises UsageError for an unknown game and for rules of another kind of environment, ValueError for no seed.
    """
    rom = rom or shipped(game)
    if not isinstance(rules, AtariRules):
        raise UsageError(f"{game} cannot be played under {rules.name}: choose rules of Atari, such as sticky")
    if not seeds:
        raise ValueError(f"0 environments of {game} were asked for: at least 1 is needed")
    if rules.resize == "area" and not rules.noop_min and not rules.life_loss:
        return VectorGame(rom, seeds, rules, threads)
    return EmulatorGame(rom, seeds, rules)


def options(game: str, rom_dir: str = "", rom_md5: str = "") -> dict[str, Any]:
    """The ROM of that game for `make` and `roots`: see `roms.chosen`, which says what is raised."""
    return {"rom": chosen(game, rom_dir, rom_md5)}


def roots(game: str, rules: AtariRules, rom: Rom | None = None) -> dict[str, Any]:
    """What is played, for a manifest: game, ROM, emulator, and the rules in numbers."""
    rom = rom or shipped(game)
    return {
        "game": game,
        "protocol": rules.name,
        "emulator": f"ale-py {version('ale-py')}",
        "rom_md5": rom.md5,
        "rom": rom.origin,
        "replays_rom": rom.is_replays,
        "sticky": rules.sticky,
        "noop_max": rules.noop_max,
        "max_steps": rules.max_steps,
        "life_loss": rules.life_loss,
        "frame": list(rules.frame),
    }


class VectorGame:
    """One environment of the ROM's game for each of `seeds`, in ale-py's vector environment. See `Environment`."""

    def __init__(self, rom: Rom, seeds: Sequence[int], rules: AtariRules, threads: int = 2) -> None:
        ALEInterface.setLoggerMode(LoggerMode.Error)
        self.game, self.seeds, self.rules, self._rom = rom.game, tuple(seeds), rules, rom
        self.spaces = registry.spaces(self.game, rules)
        self._files = ExitStack()
        # The interface below ale-py's AtariVectorEnv, which takes no file but its own.
        # SameStep: a reset costs no step, so every step is a real transition and the logs need no masking.
        self._ale = ALEVectorInterface(
            rom_path=self._files.enter_context(playable(rom)),
            num_envs=len(self.seeds),
            num_threads=threads,
            max_episode_steps=rules.max_frames,
            repeat_action_probability=rules.sticky,
            full_action_space=rules.full_action_space,
            autoreset_mode="SameStep",
            img_height=rules.frame_size,
            img_width=rules.frame_size,
            stack_num=1,
            frame_skip=rules.frame_skip,
            noop_max=rules.noop_max,
            reward_clipping=False,
            use_fire_reset=False,
            grayscale=not rules.colour,
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
        """First frames (N, H, W) or (N, H, W, 3) of fresh episodes; seeds anew, so a reset repeats the run."""
        return self.restart(range(len(self.seeds)), self.seeds)

    def restart(self, rows: Sequence[int], seeds: Sequence[int]) -> NDArray[np.uint8]:
        """Begin a fresh episode of its own seed in each of `rows`; frames of all, the other rows' unchanged."""
        frames, _ = self._ale.reset(np.asarray(rows, np.int64), np.asarray(seeds, np.int64))
        return frames[:, 0].copy()

    def step(self, actions_N: NDArray[Any]) -> Step:
        """Play one action of the 18 in each environment. Raises ValueError for an action the game does not have."""
        own = self._index[actions_N]
        if (own < 0).any():
            bad = ACTIONS[int(np.asarray(actions_N)[own < 0][0])]
            raise ValueError(f"{bad} is no action of {self.game}: mask with registry.legal_mask before choosing")
        self._ale.send(own, self._strength)
        frames, rewards, terminated, truncated, _ = self._ale.recv()
        return Step(frames[:, 0].copy(), rewards.astype(np.float32), terminated, truncated & ~terminated)

    def roots(self) -> dict[str, Any]:
        """See `roots`."""
        return roots(self.game, self.rules, self._rom)

    def close(self) -> None:
        """Remove the copy of a ROM of yours. Nothing can be played afterwards."""
        self._files.close()
