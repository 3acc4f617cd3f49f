"""Where a world model's and an actor's classes come from: the likeliest, drawn from named streams, or given.

Shapes: N rows, V classes; `...` any axes between, such as a frame's places.
"""

from collections.abc import Callable

import torch
from torch import Tensor

from models.api import Moment, stream

Draw = Callable[[str, Tensor], Tensor]
"""draw(what, logits (N, ..., V)) -> classes (N, ...) long; `what` is "actions", "rewards", "ends" or "tokens" """


def likeliest(what: str, logits_NV: Tensor) -> Tensor:
    """The class of the largest logit."""
    return logits_NV.argmax(-1)


def choose(logits_NV: Tensor, uniform_N: Tensor) -> Tensor:
    """Classes (N, ...) of uniform numbers (N, ...) in [0, 1): those where the sum of probabilities passes them.

    One number a draw is enough, so that a row draws alike in any batch and on any device. A class of probability 0 is
    never drawn.
    """
    sums_NV = logits_NV.double().softmax(-1).cumsum(-1)
    total_N1 = sums_NV[..., -1:]
    at_N1 = (uniform_N[..., None] * total_N1).minimum(torch.nextafter(total_N1, torch.zeros_like(total_N1)))
    return (sums_NV <= at_N1).sum(-1)


class Sampled:
    """Draws of one step of a run, every kind from a stream of its own.

    They are those of the whole batch, of which these rows may be a part: `moment` says which.
    """

    def __init__(self, seed: int, name: str, moment: Moment) -> None:
        self._seed, self._name, self._moment = seed, name, moment
        self._streams: dict[str, torch.Generator] = {}

    def __call__(self, what: str, logits_NV: Tensor) -> Tensor:
        """See `Draw`."""
        if what not in self._streams:
            self._streams[what] = stream(self._seed, f"{self._name}.{what}", self._moment.step)
        first, rows = self._moment.first, len(logits_NV)
        count = max(self._moment.count, first + rows)
        shape = (count, *logits_NV.shape[1:-1])
        uniform_N = torch.rand(shape, generator=self._streams[what], dtype=torch.float64)[first : first + rows]
        return choose(logits_NV, uniform_N.to(logits_NV.device))


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
