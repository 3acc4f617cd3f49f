"""Many copies of one Atari game, played at once: in ale-py's vector environment, or frame by frame where it cannot.

`VectorGame` is ale-py's own. Its 84x84 grey frames equal Dopamine's preprocessing bit for bit. `EmulatorGame` plays any
`AtariRules` in plain emulators; `make` takes it for those that ale-py's environment does not know. Those are IRIS's
(arXiv 2209.00588, its code's wrappers): every screen is resized to 64x64 RGB by Pillow's bilinear filter, a frame is
the maximum of the last two, an episode begins with no-op frames, and in training it ends with every life, after which
the game goes on with one no-op step. Under rules that both know, frames, rewards and ends equal those of ale-py's
vector environment, but for the number of no-ops.
Letters: N environments, H and W pixels.
"""

from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import replace
from importlib.metadata import version
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from ale_py import Action, ALEInterface, ALEVectorInterface, LoggerMode
from numpy.typing import NDArray
from PIL import Image

from pipelines.environments import registry
from pipelines.environments.atari.games import ACTIONS, IDS, AtariRules, minimal_actions
from pipelines.environments.atari.roms import Rom, chosen, playable, shipped
from pipelines.environments.registry import Environment, Step

NOOP = IDS["NOOP"]


def make(game: str, seeds: Sequence[int], rules: AtariRules, threads: int = 2, rom: Rom | None = None) -> Environment:
    """One environment of `game` for each of `seeds`; `threads` changes no result. `rom` is ale-py's unless given.

    Raises UsageError for an unknown game, ValueError for no seed.
    """
    rom = _asked(game, seeds, rules, rom)
    if rules.resize == "area" and not rules.noop_min and not rules.life_loss:
        return VectorGame(rom, seeds, rules, threads)
    return EmulatorGame(rom, seeds, rules)


def watched(game: str, seeds: Sequence[int], rules: AtariRules, rom: Rom | None = None) -> "EmulatorGame":
    """See `registry.watched`. Raises as `make` does."""
    return EmulatorGame(_asked(game, seeds, rules, rom), seeds, rules)


def _asked(game: str, seeds: Sequence[int], rules: AtariRules, rom: Rom | None) -> Rom:
    """The ROM to play; refuses what cannot be played."""
    if not seeds:
        raise ValueError(f"0 environments of {game} were asked for: at least 1 is needed")
    return rom or shipped(game)


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


def grey(screens: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """RGB screens (..., 3) as the emulator shows them in grey, (...) uint8.

    The same bytes as its own grey screens in all games but those of `games.GREY_APART`.
    """
    red, green, blue = np.moveaxis(screens.astype(np.int32), -1, 0)
    return ((2989 * red + 5870 * green + 1140 * blue + 5000) // 10_000).astype(np.uint8)


def merged(screens: Sequence[NDArray[np.uint8]], rules: AtariRules) -> NDArray[np.uint8]:
    """The last one or two screens of a step as the frame that is shown under `rules`; see `AtariRules`.

    Screens are (H, W) grey, or (H, W, 3) where the rules are in colour; the frame is square.
    """
    if rules.resize == "area":
        return _resized(np.max(screens, axis=0), rules)
    different = screens[-1:] if np.array_equal(screens[0], screens[-1]) else screens  # resizing is most of a step
    return np.max([_resized(screen, rules) for screen in different], axis=0)


def _resized(screen: NDArray[np.uint8], rules: AtariRules) -> NDArray[np.uint8]:
    size = (rules.frame_size, rules.frame_size)
    if rules.resize == "area":
        return np.asarray(cv2.resize(screen, size, interpolation=cv2.INTER_AREA))
    return np.asarray(Image.fromarray(screen).resize(size, Image.Resampling.BILINEAR))


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
            raise ValueError(f"{bad} is no action of {self.game}: mask with legal_mask before choosing")
        self._ale.send(own, self._strength)
        frames, rewards, terminated, truncated, _ = self._ale.recv()
        return Step(frames[:, 0].copy(), rewards.astype(np.float32), terminated, truncated & ~terminated)

    def roots(self) -> dict[str, Any]:
        """See `roots`."""
        return roots(self.game, self.rules, self._rom)

    def close(self) -> None:
        """Remove the copy of a ROM of yours. Nothing can be played afterwards."""
        self._files.close()


class EmulatorGame:
    """One environment of the ROM's game for each of `seeds`, played in turn. See `Environment`."""

    def __init__(self, rom: Rom, seeds: Sequence[int], rules: AtariRules) -> None:
        ALEInterface.setLoggerMode(LoggerMode.Error)
        self.game, self.seeds, self.rules, self._rom = rom.game, tuple(seeds), rules, rom
        self.spaces = registry.spaces(self.game, rules)
        self._files = ExitStack()
        self._path = self._files.enter_context(playable(rom))
        self._emulators: dict[int, _Emulator] = {}  # by row; loading a ROM takes longer than a hundred frames
        self._scout: _Emulator | None = None  # looks ahead for all of them
        self._frames = np.empty((len(self.seeds), *self.spaces.frame_shape), np.uint8)
        self._legal = set(range(len(ACTIONS)) if rules.full_action_space else minimal_actions(self.game))

    def reset(self) -> NDArray[np.uint8]:
        """First frames (N, H, W) or (N, H, W, 3) of fresh episodes; seeds anew, so a reset repeats the run."""
        return self.restart(range(len(self.seeds)), self.seeds)

    def restart(self, rows: Sequence[int], seeds: Sequence[int]) -> NDArray[np.uint8]:
        """Begin a fresh episode of its own seed in each of `rows`; frames of all, the other rows' unchanged."""
        for row, seed in zip(rows, seeds, strict=True):
            self._emulators[row] = _Emulator(self._path, seed, self.rules)
            self._frames[row] = self._emulators[row].begin()
        return self._frames.copy()

    def step(self, actions_N: NDArray[Any]) -> Step:
        """Play one action of the 18 in each environment. Raises ValueError for an action the game does not have."""
        if strangers := [action for action in np.asarray(actions_N).tolist() if action not in self._legal]:
            bad = ACTIONS[strangers[0]]
            raise ValueError(f"{bad} is no action of {self.game}: mask with legal_mask before choosing")
        rewards = np.zeros(len(self.seeds), np.float32)
        terminated, truncated, goes_on = np.zeros((3, len(self.seeds)), np.bool_)
        for row, emulator in sorted(self._emulators.items()):
            frame, rewards[row] = emulator.skip(int(actions_N[row]))
            terminated[row] = emulator.over or emulator.lost_life
            truncated[row] = emulator.cut and not terminated[row]
            goes_on[row] = emulator.lost_life and not emulator.cut
            self._frames[row] = emulator.begin() if terminated[row] or truncated[row] else frame
        return Step(self._frames.copy(), rewards, terminated, truncated, goes_on if self.rules.life_loss else None)

    def ahead(self, row: int, action: int) -> tuple[NDArray[np.uint8], float, bool]:
        """What `action` would bring in that environment, which stays where it is: as if no action were sticky.

        Its frame (H, W) or (H, W, 3), the reward, and whether the episode would end. An emulator restores all of its
        state but the action that may stick, so another one looks ahead.
        """
        if self._scout is None:
            self._scout = _Emulator(self._path, 0, replace(self.rules, sticky=0.0))
        return self._scout.from_state_of(self._emulators[row], action)

    def held(self, row: int, action: int, steps: int) -> NDArray[np.float64]:
        """What each of `steps` steps (steps,) of that action would bring there, as `ahead`; 0 beyond an end."""
        rewards = np.zeros(steps)
        _, rewards[0], over = self.ahead(row, action)
        for step in range(1, steps):
            if over:
                break
            assert self._scout is not None
            _, rewards[step] = self._scout.skip(action)
            over = self._scout.ended
        return rewards

    def screens(self) -> NDArray[np.uint8]:
        """See `registry.Watched`: (N, 210, 160, 3) in most games. An episode that ended shows the next one's screen."""
        return np.stack([self._emulators[row].screen() for row in range(len(self.seeds))])

    def roots(self) -> dict[str, Any]:
        """See `registry.roots`."""
        return registry.roots(self.game, self.rules, rom=self._rom)

    def close(self) -> None:
        """Remove the copy of a ROM of yours. Nothing can be played afterwards."""
        self._files.close()


class _Emulator:
    """One emulator of one seed. `skip` plays an agent step, `begin` the start of an episode."""

    def __init__(self, path: Path, seed: int, rules: AtariRules) -> None:
        self._rules = rules
        self._ale = ALEInterface()
        self._ale.setInt("random_seed", seed)
        self._ale.setFloat("repeat_action_probability", rules.sticky)
        self._ale.loadROM(str(path))
        self._draws = np.random.default_rng(seed)
        self._played, self._lives = 0, 0  # emulator frames since the game began; lives at the end of the last step
        self.lost_life = False

    @property
    def over(self) -> bool:
        """Whether the game is over."""
        return self._ale.game_over()

    @property
    def ended(self) -> bool:
        """Whether the last step ended the game, or the life where rules end the episode with one."""
        return self.over or self.lost_life

    @property
    def cut(self) -> bool:
        """Whether the rules' limit is reached."""
        return self._played >= self._rules.max_frames

    def begin(self) -> NDArray[np.uint8]:
        """First frame of the next episode: a new game, or after a lost life the same game one no-op step later."""
        if self.lost_life and not self.over and not self.cut:
            frame, _ = self.skip(NOOP)
            self.lost_life = False
            if not self.over and not self.cut:
                return frame
        self._new_game()
        for _ in range(self._noops()):
            self._act(NOOP)
            if self.over or self.cut:
                self._new_game()
        self._lives, self.lost_life = self._ale.lives(), False
        return merged([self._screen()], self._rules)

    def screen(self) -> NDArray[np.uint8]:
        """What is on the screen now, (height, width, 3) RGB."""
        return self._ale.getScreenRGB()

    def skip(self, action: int) -> tuple[NDArray[np.uint8], float]:
        """Play one agent step: its frame (H, W) or (H, W, 3), and the sum of its rewards. An end cuts it short."""
        reward, screens = 0.0, []
        for number in range(self._rules.frame_skip):
            reward += self._act(action)
            if number >= self._rules.frame_skip - 2:
                screens.append(self._screen())
            if self.over or self.cut:
                break
        lives, before = self._ale.lives(), self._lives
        self._lives, self.lost_life = lives, self._rules.life_loss and 0 < lives < before
        return merged(screens or [self._screen()], self._rules), reward

    def from_state_of(self, other: "_Emulator", action: int) -> tuple[NDArray[np.uint8], float, bool]:
        """Where another one stands: a `skip`, and whether the episode ends with it."""
        self._ale.restoreState(other._ale.cloneState())
        self._played, self._lives = other._played, other._lives
        frame, reward = self.skip(action)
        return frame, reward, self.ended

    def _new_game(self) -> None:
        self._ale.reset_game()
        self._played = 0

    def _noops(self) -> int:
        least, beyond = self._rules.noop_min, self._rules.noop_max
        return int(self._draws.integers(least, beyond)) if beyond else 0

    def _act(self, action: int) -> float:
        self._played += 1
        return self._ale.act(Action(action))

    def _screen(self) -> NDArray[np.uint8]:
        return self._ale.getScreenRGB() if self._rules.colour else self._ale.getScreenGrayscale()
