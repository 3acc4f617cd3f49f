"""Modes in the real game: you play it, or the checkpoint does.

Letters: H, W pixels, A actions that a person can choose.
"""

from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from pipelines.environments.registry import Watched, watched
from pipelines.play.mode import Shown, words
from pipelines.play.source import Action, PlaySource

if TYPE_CHECKING:
    from pipelines.evaluation.players import AgentPlayer


class GameMode:
    """You play. Pictures: the `screen` and what an agent is `given`; with reconstruction its `tokenizer`'s too."""

    name, asks = "game", True

    def __init__(self, source: PlaySource) -> None:
        self.actions, self._source = source.actions, source
        self._games: Watched | None = None
        self._seed, self._number, self._step, self._total, self._over = source.seed, 0, 0, 0.0, False

    def reset(self, seed: int | None = None) -> Shown:
        """See `Mode`."""
        self._seed, self._number = self._source.seed if seed is None else seed, 0
        return self._begin()

    def step(self, action: int | None) -> Shown:
        """See `Mode`."""
        if self._games is None:
            return self.reset()
        if self._over:
            self._number += 1
            return self._begin()
        place = self._chosen(action)
        step = self._games.step(self._source.given(place))
        self._step, self._total = self._step + 1, self._total + float(step.rewards[0])
        self._over = bool(step.ended[0])
        how = "terminated" if step.terminated[0] else "truncated" if step.truncated[0] else ""
        return self._shown(step.frames[0], place, float(step.rewards[0]), how)

    def close(self) -> None:
        """See `Mode`."""
        if self._games is not None:
            self._games.close()

    def _begin(self) -> Shown:
        seed = self._source.episode_seed(self._seed, self._number)
        if self._games is None:
            self._games = watched(self._source.game, [seed], self._source.rules, **self._source.options)
        self._step, self._total, self._over = 0, 0.0, False
        return self._shown(self._games.restart([0], [seed])[0], None, 0.0, "")

    def _shown(self, frame: NDArray[np.uint8], place: Action | None, reward: float, ended: str) -> Shown:
        assert self._games is not None
        pictures = {"screen": self._games.screens()[0], "given": frame}
        if self._source.reconstruction:
            pictures["tokenizer"] = reconstructed(self._source, frame)
        values, facts = self._thought(frame)
        facts = {"episode": str(self._number), **({"end": ended} if ended else {}), **facts, **words(place)}
        return Shown(pictures, self._step, place, reward, self._total, bool(ended), values, facts)

    def _chosen(self, action: int | None) -> Action:
        return self._source.noop if action is None else action

    def _thought(self, frame: NDArray[np.uint8]) -> tuple[NDArray[np.float32] | None, dict[str, str]]:
        """Values (A,) and facts about what is seen now."""
        return None, {}


class AgentMode(GameMode):
    """The checkpoint plays, as its settings say. The values are those of what is shown."""

    name, asks = "agent", False

    def __init__(self, source: PlaySource) -> None:
        super().__init__(source)
        self._player: AgentPlayer = source.player()
        self._next = source.noop

    def _begin(self) -> Shown:
        self._player.begin(0, self._source.episode_seed(self._seed, self._number))
        return super()._begin()

    def _chosen(self, action: int | None) -> Action:
        return self._next

    def _thought(self, frame: NDArray[np.uint8]) -> tuple[NDArray[np.float32] | None, dict[str, str]]:
        if self._over:
            return None, {}
        self._next = self._source.chosen(self._player.act(frame[None], [0])[0])
        values, kind = self._source.thought(self._player)
        return values, {"planner": self._source.settings.planner, **({"values": kind} if kind else {})}


def reconstructed(source: PlaySource, frame: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """What the agent's tokenizer makes of a frame (H, W) or (H, W, 3)."""
    from pipelines.play.tensors import Eyes  # torch is imported where a model is asked

    eyes = Eyes(source)
    return eyes.picture(eyes.tokens(frame[None])[0])
