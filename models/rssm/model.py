"""The recurrent state-space model: a GRU carries a state from step to step, of which a sample is drawn each time.

The prior tells the sample of the next state by the action alone, the posterior by the frame that was seen. Where only
posteriors are drawn, all that reads no sample is computed for a whole sequence at once: actions and frames before the
walk through time, priors behind it. Source: arXiv 2010.02193, section 2.1; the order of the GRU's parts and its layer
norm from its code.

Shapes: B rows, T steps, A numbers of an action, E of an embedded frame, D of the GRU, Z of a sample; `stats` as the
kind of `chance.py` has them.
"""

from collections.abc import Callable, Sequence
from functools import partial
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from models.rssm.chance import Chance, Gaussian, Numbers, OneHot
from models.rssm.config import KlConfig, RssmConfig
from models.rssm.walk import Layer, walked

NORM_EPS = 1e-3


class State(NamedTuple):
    """Of rows (B, ...), or of a sequence (B, T, ...)."""

    stats: Tensor
    sample: Tensor
    deter: Tensor

    @property
    def feature(self) -> Tensor:
        """What decoder, heads, actor and critic read: (..., Z + D)."""
        return torch.cat([self.sample, self.deter], dim=-1)

    def at(self, index: object) -> "State":
        """Some rows, or some steps of all rows."""
        return State(*(each[index] for each in self))  # type: ignore[index]

    def detach(self) -> "State":
        """The same numbers without gradient."""
        return State(*(each.detach() for each in self))

    def flatten(self) -> "State":
        """Rows and steps as rows, without gradient: where imagination begins."""
        return State(*(each.detach().flatten(0, 1) for each in self))


def stacked(states: Sequence[State]) -> State:
    """Steps of rows as a sequence."""
    return State(*(torch.stack(each, dim=1) for each in zip(*states, strict=True)))


class NormedGru(nn.Module):
    """A GRU cell whose parts are normed together. Of its numbers the first third resets, the second is the candidate,
    the last updates, which begins near keeping what is carried (its sigmoid is shifted by 1).
    """

    def __init__(self, inputs: int, width: int) -> None:
        super().__init__()
        self.layer = nn.Linear(inputs + width, 3 * width)
        self.norm = nn.LayerNorm(3 * width, eps=NORM_EPS)

    def forward(self, x_BI: Tensor, carried_BD: Tensor, layer: Layer | None = None) -> Tensor:
        """(B, I), (B, D) -> (B, D). layer: what computes as `self.layer` does."""
        parts = self.norm((layer or self.layer)(torch.cat([x_BI, carried_BD], dim=-1)))
        reset, candidate, update = parts.chunk(3, dim=-1)
        new_BD = torch.tanh(reset.sigmoid() * candidate)
        kept_BD = (update - 1).sigmoid()
        return kept_BD * new_BD + (1 - kept_BD) * carried_BD


class Layers(NamedTuple):
    """What every step of a walk through time calls; the last two read what the GRU carries, for the posterior, or for
    the prior.
    """

    inward: Layer  # of samples
    cell: Layer
    hidden: Layer
    head: Layer


class Rssm(nn.Module):
    """actions: the numbers of an action. embedded: those of a frame. acts: False: no action is read, though the
    weights have room for one (APV's pre-training).
    """

    def __init__(self, config: RssmConfig, actions: int, embedded: int, acts: bool = True) -> None:
        super().__init__()
        self.config, self.actions, self.acts = config, actions, acts
        self.kind: Chance = (
            OneHot(config.stoch, config.discrete)
            if config.discrete
            else Gaussian(config.stoch, config.std, config.min_std)
        )
        hidden, deter = config.hidden, config.deter
        self.inward = nn.Linear(config.sample + actions, hidden)
        self.cell = NormedGru(hidden, deter)
        self.prior_hidden = nn.Linear(deter, hidden)
        self.prior_head = nn.Linear(hidden, self.kind.read_width)
        self.post_hidden = nn.Linear(deter + embedded, hidden)
        self.post_head = nn.Linear(hidden, self.kind.read_width)

    # ---- one step ----

    def start(self, rows: int) -> State:
        """The state before the first frame: zeros, of which no sample was drawn."""
        like = self.inward.weight
        zeros = like.new_zeros((rows, self.config.feature), dtype=torch.float32)
        sample, deter = zeros.split([self.config.sample, self.config.deter], dim=1)
        return State(self.kind.start((rows,), like), sample, deter)

    def told(self, actions: Tensor | None) -> Tensor | None:
        """What the first layer adds for actions (..., A), which may have fewer numbers than there is room for; None
        where none is read. Raises ValueError for more.
        """
        if actions is None or not self.acts:
            return None
        first, width = self.config.sample, actions.shape[-1]
        if width > self.actions:
            raise ValueError(f"Actions of {width} numbers: this world has room for {self.actions}")
        return F.linear(actions, self.inward.weight[:, first : first + width])

    def layers(self, prior: bool, linear: Callable[[Tensor, Tensor | None], Layer] = walked) -> Layers:
        """For posteriors, or priors. linear: (weight, bias) -> what computes with them."""
        hidden, head, bias = self.post_hidden.weight[:, : self.config.deter], self.post_head, None
        if prior:
            hidden, head, bias = self.prior_hidden.weight, self.prior_head, self.prior_hidden.bias
        return Layers(
            linear(self.inward.weight[:, : self.config.sample], self.inward.bias),
            linear(self.cell.layer.weight, self.cell.layer.bias),
            linear(hidden, bias),
            linear(head.weight, head.bias),
        )

    def carry(self, state: State, told: Tensor | None, layers: Layers | None = None) -> Tensor:
        """What the GRU carries on, (B, D)."""
        layers = layers or self.layers(True, _linear)
        x = layers.inward(state.sample)
        return self.cell(F.elu(x if told is None else x + told), state.deter, layers.cell)

    def prior(self, deter: Tensor, layers: Layers | None = None) -> Tensor:
        """Statistics of what is expected, of (..., D)."""
        layers = layers or self.layers(True, _linear)
        return self.kind.read(layers.head(F.elu(layers.hidden(deter))))

    def seen(self, embedded: Tensor) -> Tensor:
        """What the posterior's first layer adds for embedded frames (..., E)."""
        return F.linear(embedded, self.post_hidden.weight[:, self.config.deter :], self.post_hidden.bias)

    def posterior(self, deter: Tensor, seen: Tensor, layers: Layers | None = None) -> Tensor:
        """Statistics of what is there, of (..., D) and `seen` (..., hidden)."""
        layers = layers or self.layers(False, _linear)
        return self.kind.read(layers.head(F.elu(layers.hidden(deter) + seen)))

    def imagine_step(
        self,
        state: State,
        actions: Tensor | None,
        draws: Numbers | None,
        what: str = "prior",
        layers: Layers | None = None,
    ) -> State:
        """The next state as expected after actions (B, A). draws: None takes the likeliest sample. layers: those of a
        walk, `layers(prior=True)`.
        """
        deter = self.carry(state, self.told(actions), layers)
        stats = self.prior(deter, layers)
        sample = self.kind.mode(stats) if draws is None else self.kind.draw(stats, draws, what)
        return State(stats, sample, deter)

    def observe_step(
        self,
        state: State,
        actions: Tensor | None,
        embedded: Tensor,
        first: Tensor,
        draws: Numbers | None,
        what: str = "posterior",
    ) -> State:
        """The next state after actions (B, A) and a frame (B, E). Rows that are `first` (B,) bool forget what was
        before, and the action that led there. draws: None takes the likeliest sample.
        """
        told = self.told(actions)
        told = None if told is None else told.masked_fill(first[:, None], 0.0)
        return self._observed(state, told, self.seen(embedded), first, draws, what, self.layers(False, _linear))

    def _observed(
        self,
        state: State,
        told: Tensor | None,
        seen: Tensor,
        first: Tensor,
        draws: Numbers | None,
        what: str,
        layers: Layers,
    ) -> State:
        fresh = first[:, None]
        state = State(state.stats, state.sample.masked_fill(fresh, 0.0), state.deter.masked_fill(fresh, 0.0))
        deter = self.carry(state, told, layers)
        stats = self.posterior(deter, seen, layers)
        sample = self.kind.mode(stats) if draws is None else self.kind.draw(stats, draws, what)
        return State(stats, sample, deter)

    # ---- sequences ----

    def observe(
        self,
        embedded_BTE: Tensor,
        actions_BTA: Tensor | None,
        first_BT: Tensor,
        draws: Numbers,
        state: State | None = None,
        what: str = "posterior",
    ) -> tuple[State, Tensor]:
        """Posteriors (B, T, ...) and the priors' statistics (B, T, ...). actions[t] led to frame t. first: bool."""
        state = self.start(len(embedded_BTE)) if state is None else state
        told_BTH = self.told(actions_BTA)
        told_BTH = None if told_BTH is None else told_BTH.masked_fill(first_BT[..., None], 0.0)
        seen_BTH, layers, found = self.seen(embedded_BTE), self.layers(False), list[State]()
        for step in range(embedded_BTE.shape[1]):
            told = None if told_BTH is None else told_BTH[:, step]
            state = self._observed(state, told, seen_BTH[:, step], first_BT[:, step], draws, what, layers)
            found.append(state)
        posterior = stacked(found)
        return posterior, self.prior(posterior.deter)

    def imagine(
        self, actions_BTA: Tensor | None, steps: int, state: State, draws: Numbers, what: str = "prior"
    ) -> State:
        """States (B, T, ...) as expected after given actions; `steps` of them."""
        found, layers = list[State](), self.layers(prior=True)
        for step in range(steps):
            actions = None if actions_BTA is None else actions_BTA[:, step]
            state = self.imagine_step(state, actions, draws, what, layers)
            found.append(state)
        return stacked(found)


def _linear(weight: Tensor, bias: Tensor | None) -> Layer:
    return partial(F.linear, weight=weight, bias=bias)


def balanced_kl(kind: Chance, posterior: Tensor, prior: Tensor, config: KlConfig) -> tuple[Tensor, Tensor]:
    """The loss (scalar) that draws posterior and prior together, and the KL (...) that it is made of."""
    if config.balance == 0.5:
        kl = kind.divergence(posterior, prior)
        return _above_free(kl, config), kl
    towards_prior = kind.divergence(posterior, prior.detach())
    towards_posterior = kind.divergence(posterior.detach(), prior)
    both = [_above_free(kl, config) for kl in (towards_prior, towards_posterior)]
    return (1 - config.balance) * both[0] + config.balance * both[1], towards_prior


def _above_free(kl: Tensor, config: KlConfig) -> Tensor:
    """The mean of what is lost, which is never less than `free`."""
    return kl.mean().clamp(min=config.free) if config.free_of_mean else kl.clamp(min=config.free).mean()
