"""Modes that need no model, for tests of the server and its page; run as a program it serves them.

`python -m tests.pipelines.play.fakes PORT`: what a person would see in every mode, without a checkpoint.
"""

import sys
import time
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from pipelines import process
from pipelines.errors import UsageError, WorldlineError
from pipelines.play.mode import Mode, Shown
from pipelines.play.server import Port, serve
from pipelines.play.session import START
from pipelines.play.source import Start

ACTIONS = ("NOOP", "FIRE", "UP", "RIGHT", "LEFT", "DOWN", "UPRIGHT", "UPLEFT", "UPFIRE", "DOWNFIRE")
MOVES = {"UP": (-4, 0), "DOWN": (4, 0), "LEFT": (0, -4), "RIGHT": (0, 4)}
NAMES = ("agent", "dream", "dream-agent", "versus", "game", "episodes")
LENGTHS = (40, 7, 120)


class FakeMode:
    """A square that a person moves, or that moves by itself. Each step takes `takes` seconds; FIRE fails if `fails`."""

    def __init__(self, name: str = "dream", ends: int = 50, takes: float = 0.0, fails: bool = False) -> None:
        self.name, self.actions, self.asks = name, ACTIONS, name in ("dream", "versus", "game")
        self._ends, self._takes, self._fails = ends, takes, fails
        self.played: list[int | None] = []
        self.closed = False
        self.reset()

    def reset(self, seed: int | None = None) -> Shown:
        self._at, self._step, self._total = np.array([40, 40]), 0, 0.0
        return self._shown(None, 0.0)

    def step(self, action: int | None) -> Shown:
        self.played.append(action)
        time.sleep(self._takes)
        if self._step >= self._ends:
            return self.reset()
        chosen = (action or 0) if self.asks else self._step // 8 % 6
        if self._fails and chosen == 1:
            raise WorldlineError("FIRE cannot be played: choose another action")
        for way, by in MOVES.items():
            if way in ACTIONS[chosen]:
                self._at = np.clip(self._at + by, 0, 76)
        self._step += 1
        reward = float(self._step % 10 == 0)
        self._total += reward
        return self._shown(chosen, reward)

    def close(self) -> None:
        self.closed = True

    def _shown(self, action: int | None, reward: float) -> Shown:
        grey = np.full((84, 84), 60, np.uint8)
        grey[self._at[0] : self._at[0] + 8, self._at[1] : self._at[1] + 8] = 230
        colour = np.zeros((210, 160, 3), np.uint8)
        colour[..., 2] = np.arange(210, dtype=np.uint8)[:, None]
        colour[self._at[0] * 2 : self._at[0] * 2 + 16, self._at[1] * 2 : self._at[1] * 2 + 16] = (236, 170, 40)
        pictures = {"world model": grey}
        if self.name in ("agent", "game"):
            pictures = {"game": colour, "what the agent sees": grey} if self.name == "agent" else {"game": colour}
        if self.name == "versus":
            apart = np.abs(grey.astype(int) - grey.T).astype(np.uint8)
            pictures = {"world model": grey, "game": grey.T.copy(), "difference": apart}
        values = None if self.asks else np.sin(np.arange(len(ACTIONS)) + self._step / 5).astype(np.float32)
        facts = {"passes": "37", "memory": f"flushed {self._step % 20} steps ago"}
        ended = self._step >= self._ends
        return Shown(pictures, self._step, action, reward, self._total, ended, values, facts)


class FakeEpisodes(FakeMode):
    """Three episodes, where the square stands where its step says."""

    sets = ("recorded", "evaluated")

    def __init__(self) -> None:
        self._episode, self.of = 0, "recorded"
        super().__init__("episodes")

    @property
    def lengths(self) -> tuple[int, ...]:
        return LENGTHS if self.of == "recorded" else (5,)

    def choose(self, of: str) -> Shown:
        self.of = of
        return self.seek(0, 0)

    def seek(self, episode: int, step: int) -> Shown:
        assert 0 <= step < self.lengths[episode]
        self._episode, self._step = episode, step
        self._at = np.array([4 * episode, step % 76])
        self._ends = self.lengths[episode] - 1
        return self._shown(self._step % 6, 0.0)

    def reset(self, seed: int | None = None) -> Shown:
        self._total = 0.0
        return self.seek(0, 0)

    def step(self, action: int | None) -> Shown:
        return self.seek(self._episode, min(self._step + 1, self.lengths[self._episode] - 1))


class FakeRecording:
    """Counts what it is given."""

    def __init__(self, mode: Mode, start: Start, shown: Shown, log: list[str] | None = None) -> None:
        self._steps, self._log = 0, log if log is not None else []

    def add(self, shown: Shown) -> None:
        self._steps += 1

    def save(self, places: Sequence[int]) -> str:
        if not self._steps:
            raise UsageError("Nothing was played since the recording began: play first")
        self._log.append(f"{self._steps} of {len(places)}")
        return f"recordings/fake-{self._steps}"


def open_fake(name: str, start: Start = START, **how: Any) -> Mode:
    """A mode by name."""
    return FakeEpisodes() if name == "episodes" else FakeMode(name, **how)


def main(opened: Callable[..., Mode] = open_fake) -> int:
    """Serve until told to stop."""
    port = Port(port=int(sys.argv[1]), host=sys.argv[2] if len(sys.argv) > 2 else "127.0.0.1")
    serve(port, "fake · Pong", NAMES, opened("agent"), opened, FakeRecording, START, browser="--browser" in sys.argv)
    return 0


if __name__ == "__main__":
    sys.exit(process.stoppable(main))
