"""Where a world model's and an actor's classes come from: the likeliest, drawn from named streams, or given.

Shapes: N rows, V classes; `...` any axes between, such as a frame's places.
"""

from abc import ABC, abstractmethod
from collections.abc import Callable

import torch
from torch import Tensor

from models.api import Moment, stream

Draw = Callable[[str, Tensor], Tensor]
"""draw(what, logits (N, ..., V)) -> classes (N, ...) long; `what` is "actions", "rewards", "ends" or "tokens" """


class ForeseenDraw(ABC):
    """A `Draw` that can say what it will draw of logits that are not all there yet, such as those behind a draft."""

    @abstractmethod
    def __call__(self, what: str, logits_NV: Tensor) -> Tensor:
        """See `Draw`."""

    @abstractmethod
    def ahead(self, what: str, rows: int, places: int) -> Callable[[Tensor, Tensor, Tensor], Tensor]:
        """ahead(what, rows, places) -> choose(logits (T, V), rows (T,), places (T,)) -> classes (T,)

        A row's next draws, one a place, from 0; what is drawn from behind the last place is of no use. Nothing is used
        up.
        """

    @abstractmethod
    def skip(self, what: str, rows: int, places: int) -> None:
        """skip(what, rows, places) -> None: so many draws of every row are made"""


class Likeliest(ForeseenDraw):
    """The class of the largest logit."""

    def __call__(self, what: str, logits_NV: Tensor) -> Tensor:
        """See `Draw`."""
        return logits_NV.argmax(-1)

    def ahead(self, what: str, rows: int, places: int) -> Callable[[Tensor, Tensor, Tensor], Tensor]:
        """See `ForeseenDraw`."""
        return lambda logits_TV, rows_T, places_T: logits_TV.argmax(-1)

    def skip(self, what: str, rows: int, places: int) -> None:
        """Nothing: no number is drawn."""


likeliest = Likeliest()


def choose(logits_NV: Tensor, uniform_N: Tensor) -> Tensor:
    """Classes (N, ...) of uniform numbers (N, ...) in [0, 1): those where the sum of probabilities passes them.

    One number a draw is enough, so that a row draws alike in any batch and on any device. A class of probability 0 is
    never drawn.
    """
    sums_NV = logits_NV.double().softmax(-1).cumsum(-1)
    total_N1 = sums_NV[..., -1:]
    at_N1 = (uniform_N[..., None] * total_N1).minimum(torch.nextafter(total_N1, torch.zeros_like(total_N1)))
    return (sums_NV <= at_N1).sum(-1)


class Sampled(ForeseenDraw):
    """Draws of one step of a run, every kind from a stream of its own.

    They are those of the whole batch, of which these rows may be a part: `moment` says which.
    """

    def __init__(self, seed: int, name: str, moment: Moment) -> None:
        self._seed, self._name, self._moment = seed, name, moment
        self._streams: dict[str, torch.Generator] = {}

    def __call__(self, what: str, logits_NV: Tensor) -> Tensor:
        """See `Draw`."""
        uniform_N = self._numbers(what, len(logits_NV), *logits_NV.shape[1:-1])
        return choose(logits_NV, uniform_N.to(logits_NV.device))

    def ahead(self, what: str, rows: int, places: int) -> Callable[[Tensor, Tensor, Tensor], Tensor]:
        """See `ForeseenDraw`: the same numbers that draws one by one will meet."""
        generator = self._stream(what)
        state = generator.get_state()
        uniform_SN = torch.stack([self._numbers(what, rows) for _ in range(places)])
        generator.set_state(state)

        def chosen(logits_TV: Tensor, rows_T: Tensor, places_T: Tensor) -> Tensor:
            uniform_T = uniform_SN[places_T.clamp(max=places - 1).cpu(), rows_T.cpu()]
            return choose(logits_TV, uniform_T.to(logits_TV.device))

        return chosen

    def skip(self, what: str, rows: int, places: int) -> None:
        """See `ForeseenDraw`."""
        for _ in range(places):
            self._numbers(what, rows)

    def _stream(self, what: str) -> torch.Generator:
        if what not in self._streams:
            self._streams[what] = stream(self._seed, f"{self._name}.{what}", self._moment.step)
        return self._streams[what]

    def _numbers(self, what: str, rows: int, *more: int) -> Tensor:
        """The next (rows, ...) uniform numbers of a kind."""
        first = self._moment.first
        count = max(self._moment.count, first + rows)
        drawn = torch.rand((count, *more), generator=self._stream(what), dtype=torch.float64)
        return drawn[first : first + rows]


class Given:
    """Classes (N, ...) by kind, in the order in which they will be asked for; `logits` keeps what each came of."""

    def __init__(self, **classes: list[Tensor]) -> None:
        self._classes = {what: iter(each) for what, each in classes.items()}
        self.logits: dict[str, list[Tensor]] = {what: [] for what in classes}

    def __call__(self, what: str, logits_NV: Tensor) -> Tensor:
        """See `Draw`. Raises ValueError where more is asked for than was given."""
        self.logits[what].append(logits_NV)
        if (classes_N := next(self._classes[what], None)) is None:
            raise ValueError(f"Only {len(self.logits[what]) - 1} draws of {what} are given")
        return classes_N
