"""What a network says of a random variable: one-hot variables, Gaussian numbers, or plain numbers; and how it is drawn.

Each kind reads a network's numbers, always in float32; draws with a gradient; and tells divergences and entropies,
which are sums over all its variables. Source: arXiv 2010.02193, section 2.1 and appendix (straight-through gradients).

Shapes: `...` any axes; O a network's numbers, S variables, V classes, Z numbers of a sample; (..., 2, S) mean and std.
"""

import math
from collections.abc import Sequence
from typing import Protocol

import torch
import torch.nn.functional as F
from torch import Tensor

from models.api import Moment, stream
from models.practice.draws import choose


class Numbers(Protocol):
    """Where random numbers come from, each for a purpose that is named; alike on every device. All that play draws."""

    def classes(self, what: str, logits: Tensor) -> Tensor:
        """classes(what, logits (..., V)) -> classes (...) long"""
        ...

    def normal(self, what: str, like: Tensor) -> Tensor:
        """normal(what, tensor) -> standard normal numbers of its shape"""
        ...

    def uniform(self, what: str, like: Tensor) -> Tensor:
        """uniform(what, tensor) -> numbers in [0, 1) of its shape"""
        ...


class Draws(Numbers, Protocol):
    """With what is drawn to learn as well."""

    def order(self, what: str, count: int) -> Tensor:
        """order(what, count) -> an order (count,) long in which no number stands at its own place"""
        ...

    def steps(self, what: str, rows: int, count: int) -> Tensor:
        """steps(what, rows, count) -> a number below count for each row, (rows,) long"""
        ...

    def some(self, what: str, rows: int, count: int, kept: int) -> Tensor:
        """some(what, rows, count, kept) -> for each row `kept` different numbers below count: (rows, kept) long"""
        ...


class Seeded:
    """Draws of one step of a run, every purpose from a stream of its own on the CPU."""

    def __init__(self, seed: int, name: str, moment: Moment) -> None:
        self._seed, self._name, self._step = seed, name, moment.step
        self._streams: dict[str, torch.Generator] = {}

    def _stream(self, what: str) -> torch.Generator:
        if what not in self._streams:
            self._streams[what] = stream(self._seed, f"{self._name}.{what}", self._step)
        return self._streams[what]

    def classes(self, what: str, logits: Tensor) -> Tensor:
        """See `Draws`."""
        uniform = torch.rand(logits.shape[:-1], generator=self._stream(what), dtype=torch.float64)
        return choose(logits, uniform.to(logits.device))

    def normal(self, what: str, like: Tensor) -> Tensor:
        """See `Draws`."""
        return torch.randn(like.shape, generator=self._stream(what)).to(like.device)

    def uniform(self, what: str, like: Tensor) -> Tensor:
        """See `Draws`."""
        return torch.rand(like.shape, generator=self._stream(what)).to(like.device)

    def order(self, what: str, count: int) -> Tensor:
        """See `Draws`: one round through all of them in random order."""
        round_ = torch.randperm(count, generator=self._stream(what))
        order = torch.empty(count, dtype=torch.long)
        order[round_] = round_.roll(-1)
        return order

    def steps(self, what: str, rows: int, count: int) -> Tensor:
        """See `Draws`."""
        return torch.randint(count, (rows,), generator=self._stream(what))

    def some(self, what: str, rows: int, count: int, kept: int) -> Tensor:
        """See `Draws`."""
        return torch.rand(rows, count, generator=self._stream(what)).argsort(dim=1)[:, :kept]


class EachRow:
    """`Numbers` of rows that play, each from a generator of its own, on the CPU."""

    def __init__(self, streams: Sequence[torch.Generator]) -> None:
        self._streams = streams

    def uniform(self, what: str, like: Tensor) -> Tensor:
        """See `Numbers`."""
        drawn = [torch.rand(like.shape[1:], generator=each) for each in self._streams]
        return torch.stack(drawn).to(like.device)

    def normal(self, what: str, like: Tensor) -> Tensor:
        """See `Numbers`."""
        drawn = [torch.randn(like.shape[1:], generator=each) for each in self._streams]
        return torch.stack(drawn).to(like.device)

    def classes(self, what: str, logits: Tensor) -> Tensor:
        """See `Numbers`."""
        shape = logits.shape[1:-1]
        drawn = [torch.rand(shape, generator=each, dtype=torch.float64) for each in self._streams]
        return choose(logits, torch.stack(drawn).to(logits.device))


class OneHot:
    """Variables of classes. Statistics are logits (..., S, V); a sample is their one-hot rows side by side."""

    def __init__(self, variables: int, classes: int) -> None:
        self.variables, self.classes = variables, classes
        self.read_width = self.width = variables * classes

    def read(self, numbers: Tensor) -> Tensor:
        """Logits (..., S, V) of a network's numbers (..., S * V)."""
        return numbers.float().unflatten(-1, (self.variables, self.classes))

    def start(self, shape: Sequence[int], like: Tensor) -> Tensor:
        """Statistics of a state before anything was seen."""
        return like.new_zeros((*shape, self.variables, self.classes), dtype=torch.float32)

    def draw(self, logits: Tensor, draws: Numbers, what: str) -> Tensor:
        """A sample (..., Z) whose gradient is that of the probabilities."""
        return self._through(logits, draws.classes(what, logits.detach()))

    def mode(self, logits: Tensor) -> Tensor:
        """The likeliest sample (..., Z), with the same gradient."""
        return self._through(logits, logits.argmax(-1))

    def _through(self, logits: Tensor, classes: Tensor) -> Tensor:
        chances = logits.softmax(-1)
        drawn = F.one_hot(classes, self.classes).to(chances.dtype)
        return (drawn + (chances - chances.detach())).flatten(-2)

    def divergence(self, first: Tensor, second: Tensor) -> Tensor:
        """KL of the first from the second: (...)."""
        first, second = first.log_softmax(-1), second.log_softmax(-1)
        return (first.exp() * (first - second)).sum((-2, -1))

    def entropy(self, logits: Tensor) -> Tensor:
        """In nats: (...)."""
        known = logits.log_softmax(-1)
        return -(known.exp() * known).sum((-2, -1))

    def from_standard(self, logits: Tensor, std: float) -> Tensor:
        """KL from equal chances, which is what is standard for classes; `std` means nothing here."""
        return self.divergence(logits, torch.zeros_like(logits))


class Gaussian:
    """Independent Gaussian numbers. Statistics are means and stds, (..., 2, S)."""

    def __init__(self, width: int, std: str = "sigmoid2", least: float = 0.0) -> None:
        self.width, self.read_width = width, 2 * width
        self.std, self.least = std, least

    def read(self, numbers: Tensor) -> Tensor:
        """Means and stds (..., 2, S) of a network's numbers (..., 2 S)."""
        mean, raw = numbers.float().chunk(2, dim=-1)
        return torch.stack([mean, self.spread(raw)], dim=-2)

    def spread(self, raw: Tensor) -> Tensor:
        """Stds of a network's numbers."""
        if self.std == "sigmoid2":
            return 2 * torch.sigmoid(raw / 2) + self.least
        return (torch.sigmoid(raw) if self.std == "sigmoid" else F.softplus(raw)) + self.least

    def start(self, shape: Sequence[int], like: Tensor) -> Tensor:
        """Statistics of a state before anything was seen."""
        return like.new_zeros((*shape, 2, self.width), dtype=torch.float32)

    def draw(self, stats: Tensor, draws: Numbers, what: str) -> Tensor:
        """A sample (..., S) that follows mean and std."""
        mean, std = stats.unbind(-2)
        return mean + std * draws.normal(what, mean)

    def mode(self, stats: Tensor) -> Tensor:
        """The mean (..., S)."""
        return stats.select(-2, 0)

    def divergence(self, first: Tensor, second: Tensor) -> Tensor:
        """KL of the first from the second: (...)."""
        (mean, std), (other, spread) = first.unbind(-2), second.unbind(-2)
        ratio, distance = (std / spread).square(), ((mean - other) / spread).square()
        return 0.5 * (ratio + distance - 1 - ratio.log()).sum(-1)

    def entropy(self, stats: Tensor) -> Tensor:
        """In nats: (...)."""
        return (stats.select(-2, 1).log() + 0.5 * math.log(2 * math.pi * math.e)).sum(-1)

    def from_standard(self, stats: Tensor, std: float) -> Tensor:
        """KL from a Gaussian of mean 0 and that std: (...)."""
        mean = torch.zeros_like(stats.select(-2, 0))
        return self.divergence(stats, torch.stack([mean, torch.full_like(mean, std)], dim=-2))


Chance = OneHot | Gaussian
