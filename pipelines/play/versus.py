"""World model against game: the same actions drive both from the same real step, and what differs is counted.

What the tokenizer alone loses is told apart: `difference` is between the two pictures, `tokenizer's part` between the
game's picture and what the tokenizer makes of it. The two have parted where a pixel of the dream is further than
PARTED from the tokenizer's picture of the game: further than it wavers, less than a thing in another place.
Letters: H, W pixels.
"""

import numpy as np
from numpy.typing import NDArray

from models.api import Imagined
from pipelines.environments.registry import Environment, Step
from pipelines.play.in_dream import DreamMode
from pipelines.play.mode import Shown
from pipelines.play.source import Action, PlaySource
from pipelines.play.tensors import DreamRow

PARTED = 64  # of 255


class VersusMode(DreamMode):
    """You play both. Pictures: the `model`'s, the `game`'s, and their `difference`.

    Reward, total and end are the game's; the facts hold the model's beside them. An episode ends where either does.
    """

    name, asks = "versus", True

    def __init__(self, source: PlaySource) -> None:
        super().__init__(source)
        self._games: Environment | None = None
        self._frame: NDArray[np.uint8] = np.zeros(source.rules.frame, np.uint8)
        self._model_total, self._parted = 0.0, 0

    def reset(self, seed: int | None = None) -> Shown:
        """See `Mode`."""
        self._seed, self._number = self._source.seed if seed is None else seed, 0
        return self._begin()

    def step(self, action: int | None) -> Shown:
        """See `Mode`."""
        if self._row is None or self._games is None:
            return self.reset()
        if self._over:
            self._number += 1
            return self._begin()
        place = self._chosen(action)
        given = self._source.given(place)
        here, real = self._row.step(given), self._games.step(given)
        self._step, self._total = self._step + 1, self._total + float(real.rewards[0])
        self._model_total += float(here.rewards_N[0])
        self._over = bool(real.ended[0]) or bool(here.ends_N[0])
        self._frame = real.frames[0]
        return self._both(here, real, place)

    def close(self) -> None:
        """See `Mode`."""
        super().close()
        if self._games is not None:
            self._games.close()
            self._games = None

    def _begin(self) -> Shown:
        if self._games is not None:
            self._games.close()
        self._games, self._beginning = self._source.standing(self._seed)
        self._frame, self._model_total, self._parted = self._beginning.frames[-1], 0.0, 0
        self._row, self._step, self._total, self._over = None, 0, 0.0, False
        self._row = DreamRow(self._source, self._eyes, self._source.episode_seed(self._seed, self._number))
        here = self._row.begin(self._beginning)
        self._remember(here)
        return self._both(here, None, None)

    def _both(self, here: Imagined, real: Step | None, place: Action | None) -> Shown:
        assert self._row is not None and self._beginning is not None
        dream, game = self._eyes.picture(here.tokens_NK[0]), self._frame
        ended = real is not None and bool(real.ended[0])
        seen = self._eyes.picture(self._eyes.tokens(game[None])[0])
        if not self._parted and not ended and int(apart(dream, seen).max()) > PARTED:
            self._parted = self._step
        values, kind = self._thought(here)
        game_reward = float(real.rewards[0]) if real is not None else 0.0
        facts = {
            "from": self._beginning.told,
            "difference": "the next episode's picture" if ended else share(apart(dream, game)),
            "tokenizer's part": share(apart(seen, game)),
            "parted": f"at step {self._parted}" if self._parted else "not yet",
            "predicted reward": f"{float(here.rewards_N[0]):+g}, the game's {game_reward:+g}",
            "predicted return": f"{self._model_total:g}, the game's {self._total:g}",
            "predicted end": f"{_word(bool(here.ends_N[0]))}, the game's {_word(ended)}",
            **self._row.facts(),
            **({"values": kind} if kind else {}),
        }
        pictures = {"model": dream, "game": game, "difference": apart(dream, game)}
        return Shown(pictures, self._step, place, game_reward, self._total, self._over, values, facts)


def apart(one: NDArray[np.uint8], other: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """How far each value of two pictures of one shape is apart, uint8."""
    return np.abs(one.astype(np.int16) - other.astype(np.int16)).astype(np.uint8)


def share(difference: NDArray[np.uint8]) -> str:
    """The mean of differences, as a share of the range."""
    return f"{float(difference.mean()) / 255:.2%}"


def _word(answer: bool) -> str:
    return "yes" if answer else "no"
