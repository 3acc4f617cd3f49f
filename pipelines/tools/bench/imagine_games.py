"""One game under the rules `iris-train` against a stack of gymnasium's wrappers, in turns, frame by frame alike.

The stack is that of the description: every raw screen is resized by Pillow's bilinear filter, a time limit counts raw
frames, an episode begins with no-op frames, a step is four raw frames of which the last two are maximised, and a lost
life ends an episode, after which the game goes on with one no-op step. Source: arXiv 2209.00588, its code's wrappers.
"""

from collections.abc import Iterator
from contextlib import closing
from typing import Any

import ale_py
import gymnasium
import numpy as np
from gymnasium.wrappers import TimeLimit
from numpy.typing import NDArray
from PIL import Image

from pipelines.environments.actions import own_actions, to_shared
from pipelines.environments.atari.games import AtariRules
from pipelines.environments.registry import make, protocol
from pipelines.progress import say
from pipelines.tools.bench.row import Row
from pipelines.tools.bench.train import Taken, in_turns

AIM, SEED, NOOP = 2.0, 1, 0


class Resized(gymnasium.ObservationWrapper):
    """Every raw screen as a square."""

    def __init__(self, env: gymnasium.Env, size: int) -> None:
        super().__init__(env)
        self._size = (size, size)
        self.observation_space = gymnasium.spaces.Box(0, 255, (size, size, 3), np.uint8)

    def observation(self, observation: NDArray[np.uint8]) -> NDArray[np.uint8]:
        return np.asarray(Image.fromarray(observation).resize(self._size, Image.Resampling.BILINEAR))


class Noops(gymnasium.Wrapper):
    """A new game begins with no-op frames, as many as the generator of its seed draws."""

    def __init__(self, env: gymnasium.Env, rules: AtariRules, seed: int) -> None:
        super().__init__(env)
        self._rules, self._draws = rules, np.random.default_rng(seed)

    def reset(self, **kwargs: Any) -> tuple[Any, dict[str, Any]]:
        frame, info = self.env.reset(**kwargs)
        for _ in range(int(self._draws.integers(self._rules.noop_min, self._rules.noop_max))):
            frame, _, terminated, truncated, info = self.env.step(NOOP)
            if terminated or truncated:
                frame, info = self.env.reset()
        return frame, info


class MaxAndSkip(gymnasium.Wrapper):
    """A step repeats its action; its frame is the maximum of the last two."""

    def __init__(self, env: gymnasium.Env, skip: int) -> None:
        super().__init__(env)
        self._skip = skip

    def step(self, action: Any) -> tuple[Any, float, bool, bool, dict[str, Any]]:
        total, frames = 0.0, []
        for _ in range(self._skip):
            frame, reward, terminated, truncated, info = self.env.step(action)
            frames.append(frame)
            total += float(reward)
            if terminated or truncated:
                break
        # An end before the last two frames leaves the newest alone.
        newest = frames[self._skip - 2 :] or frames[-1:]
        return np.max(newest, axis=0), total, terminated, truncated, info


class LifeLoss(gymnasium.Wrapper):
    """A lost life ends an episode; `reset` goes on with the game where it is not over."""

    def __init__(self, env: gymnasium.Env) -> None:
        super().__init__(env)
        self._lives, self._over = 0, True

    def step(self, action: Any) -> tuple[Any, float, bool, bool, dict[str, Any]]:
        frame, reward, terminated, truncated, info = self.env.step(action)
        self._over, before, self._lives = terminated or truncated, self._lives, info["lives"]
        return frame, float(reward), terminated or 0 < self._lives < before, truncated, info

    def reset(self, **kwargs: Any) -> tuple[Any, dict[str, Any]]:
        if not self._over:
            frame, _, terminated, truncated, info = self.env.step(NOOP)
            self._lives = info["lives"]
            if not (terminated or truncated):
                return frame, info
        frame, info = self.env.reset(**kwargs)
        self._lives, self._over = info["lives"], False
        return frame, info


def stack(game: str, rules: AtariRules, seed: int) -> gymnasium.Env:
    """`game` under all wrappers, not reset yet."""
    ale_py.ALEInterface.setLoggerMode(ale_py.LoggerMode.Error)
    gymnasium.register_envs(ale_py)
    made = gymnasium.make(
        f"ALE/{game}-v5", frameskip=1, repeat_action_probability=rules.sticky, max_num_frames_per_episode=0
    )
    limited = TimeLimit(Resized(made.unwrapped, rules.frame_size), rules.max_frames)
    return LifeLoss(MaxAndSkip(Noops(limited, rules, seed), rules.frame_skip))


def play_stack(game: str, rules: AtariRules, actions: NDArray[np.int64]) -> Iterator[tuple[NDArray[np.uint8], float]]:
    """Frame and reward of every step; where an episode ended, the next one's first frame."""
    with closing(stack(game, rules, SEED)) as env:
        frame, _ = env.reset(seed=SEED)
        yield frame, 0.0
        for action in actions:
            frame, reward, terminated, truncated, _ = env.step(action)
            if terminated or truncated:
                frame, _ = env.reset()
            yield frame, float(reward)


def play_ours(game: str, rules: AtariRules, actions: NDArray[np.int64]) -> Iterator[tuple[NDArray[np.uint8], float]]:
    """The same of ours."""
    with closing(make(game, [SEED], rules)) as env:
        yield env.reset()[0], 0.0
        for action in to_shared(game, actions)[:, None]:
            step = env.step(action)
            yield step.frames[0], float(step.rewards[0])


def games_row(game: str, steps: int, rounds: int) -> Row:
    """Steps a second of one environment, resets included, by random actions."""
    say(f"Playing {game} ...")
    rules = protocol("iris-train")
    assert isinstance(rules, AtariRules)
    actions = np.random.default_rng(0).integers(len(own_actions(game)), size=steps)
    pairs = zip(play_ours(game, rules, actions), play_stack(game, rules, actions), strict=True)
    same = sum(bool((mine == other).all()) and reward == points for (mine, reward), (other, points) in pairs)
    said = f"frames and rewards are the same bit for bit in {same} of {steps + 1}"
    theirs, ours = in_turns(
        rounds, lambda: list(play_stack(game, rules, actions)), lambda: list(play_ours(game, rules, actions))
    )

    def text(taken: Taken) -> str:
        return f"{steps / taken.wall:,.0f} steps/s, {taken.cpu / steps * 1e3:.2f} ms CPU a step"

    return Row(
        "game",
        f"{game} under {rules.name}, {steps} steps",
        "gymnasium's wrappers",
        text(ours),
        text(theirs),
        theirs.wall / ours.wall,
        AIM,
        theirs.cpu / ours.cpu,
        conditions=((said, same == steps + 1),),
    )
