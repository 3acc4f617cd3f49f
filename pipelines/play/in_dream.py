"""Modes inside the world model: you play it, or the checkpoint dreams; both from a real beginning.

A dream that ends begins again from the same real steps, with other draws where it draws.
Letters: H, W pixels, A actions that a person can choose, K tokens a frame.
"""

import numpy as np
from numpy.typing import NDArray

from models.api import Imagined
from pipelines.play.mode import Shown, words
from pipelines.play.source import Action, Beginning, PlaySource
from pipelines.play.tensors import DreamRow, Eyes


class DreamMode:
    """You play inside the world model. Picture: the `dream`. Rewards and ends are what the model predicts.

    Values are the world model's own, or where it values no actions, what the agent would do.
    """

    name, asks = "dream", True

    def __init__(self, source: PlaySource) -> None:
        self.actions, self._source, self._eyes = source.actions, source, Eyes(source)
        self._player = source.player()
        self._row: DreamRow | None = None
        self._seed, self._number, self._step, self._total, self._over = source.seed, 0, 0, 0.0, False
        self._beginning: Beginning | None = None
        self._next = source.noop

    def reset(self, seed: int | None = None) -> Shown:
        """See `Mode`."""
        self._seed, self._number = self._source.seed if seed is None else seed, 0
        self._beginning = self._source.beginning(self._seed)
        return self._begin()

    def step(self, action: int | None) -> Shown:
        """See `Mode`."""
        if self._row is None:
            return self.reset()
        if self._over:
            self._number += 1
            return self._begin()
        place = self._chosen(action)
        here = self._row.step(self._source.given(place))
        reward = float(here.rewards_N[0])
        self._step, self._total, self._over = self._step + 1, self._total + reward, bool(here.ends_N[0])
        return self._shown(here, place, reward)

    def close(self) -> None:
        """See `Mode`."""
        self._row = None

    def _begin(self) -> Shown:
        assert self._beginning is not None
        seed = self._source.episode_seed(self._seed, self._number)
        self._row, self._step, self._total, self._over = DreamRow(self._source, self._eyes, seed), 0, 0.0, False
        here = self._row.begin(self._beginning)
        self._remember(here)
        return self._shown(here, None, 0.0)

    def _remember(self, here: Imagined) -> None:
        """Where the agent is asked at every step, it knows what was before the first."""
        assert self._beginning is not None
        if self._thinks(here):
            self._player.begin(0, self._source.episode_seed(self._seed, self._number))
            if len(self._beginning.frames) > 1:
                self._player.recall(0, self._beginning.frames[:-1], self._beginning.actions)

    def _shown(self, here: Imagined, place: Action | None, reward: float) -> Shown:
        assert self._row is not None and self._beginning is not None
        values, kind = self._thought(here)
        facts = {
            "from": self._beginning.told,
            "episode": str(self._number),
            **self._row.facts(),
            **({"values": kind} if kind else {}),
            **({"end": "imagined"} if self._over else {}),
            **words(place),
        }
        pictures = {"dream": self._eyes.picture(here.tokens_NK[0])}
        return Shown(pictures, self._step, place, reward, self._total, self._over, values, facts)

    def _chosen(self, action: int | None) -> Action:
        return self._source.noop if action is None else action

    def _thinks(self, here: Imagined) -> bool:
        """Whether the agent is asked at every step."""
        return not here.values_NA.shape[1]

    def _thought(self, here: Imagined) -> tuple[NDArray[np.float32] | None, str]:
        """Values (A,) of what is shown, and what they are; the agent's choice where it is asked."""
        if self._over:
            return None, ""
        if not self._thinks(here):
            return self._source.own_values(here.values_NA[0].float().cpu().numpy()), "Q"
        self._next = self._source.chosen(self._player.act_on_tokens(here.tokens_NK, [0])[0])
        return self._source.thought(self._player)


class DreamingAgentMode(DreamMode):
    """The checkpoint plays inside its world model, and sees what that imagines."""

    name, asks = "dream-agent", False

    def _chosen(self, action: int | None) -> Action:
        return self._next

    def _thinks(self, here: Imagined) -> bool:
        return True
