"""Planning by the model's own values: greedily, or by a beam search over imagined steps, for many environments at once.

`Greedy` takes one pass through the context and imagines nothing. One level of the beam (JOWA, arXiv 2410.00564, section
3.3) costs one step of the world model for N * W * W rows (N * W on the first). All planners, mcts too, read values as
`masked_values` gives them: with illegal actions at -inf.

`imagine` makes data to train Q on: segments whose ends a beam search imagines, and a buffer of them. The original keeps
the frames of the T - H newest steps but the actions and rewards of one step later, so that each stands one step too
early, as its recordings show. Here every action stands with the frame in which it was taken.

Shapes: N environments, W kept nodes of each, R new ones, M = N * R rows, A actions, H horizon, K tokens a frame; B
segments, T steps.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, fields, replace
from typing import Literal

import torch
from torch import Tensor

from models.api import Batch, Context, Imagined, WorldModel
from models.limits import Count, check

# What a state is worth: that of its best legal action, the mean over legal actions, its own value, or nothing.
Leaf = Literal["max", "mean", "state", "none"]
# What an imagined step brings: the likeliest sign, or the mean of signs. Of a rare reward the likeliest is always 0.
Gain = Literal["likeliest", "expected"]


def masked_values(values_NA: Tensor, legal_NA: Tensor) -> Tensor:
    """Values with illegal actions at -inf.

    Raises ValueError for another shape, a row without a legal action, or a NaN, which no comparison could rank.
    """
    if values_NA.shape != legal_NA.shape or legal_NA.dtype != torch.bool or not bool(legal_NA.any(1).all()):
        raise ValueError(
            f"Legal actions {tuple(legal_NA.shape)} of {legal_NA.dtype} for values {tuple(values_NA.shape)}: "
            "give bool of the same shape with at least one legal action a row"
        )
    if bool(values_NA.isnan().any()):
        raise ValueError("The model values an action at NaN: its weights or its input are broken")
    return values_NA.masked_fill(~legal_NA, -torch.inf)


def leaf_values(here: Imagined, masked_NA: Tensor, leaf: Leaf) -> Tensor:
    """What each state is worth (N,), of values whose illegal actions are at -inf.

    Raises ValueError for a value of states where the model learned none.
    """
    if leaf == "state":
        if here.states_N is None:
            raise ValueError("This model learned no value of states: search with leaf max or mean")
        return here.states_N
    if leaf == "none":
        return torch.zeros_like(here.rewards_N)
    if leaf == "max":
        return masked_NA.amax(1)
    legal_NA = ~masked_NA.isneginf()
    return masked_NA.masked_fill(~legal_NA, 0).sum(1) / legal_NA.sum(1)


def gains(here: Imagined, gain: Gain) -> Tensor:
    """What the step that led to each state brought (N,). Raises ValueError for a mean where the world tells none."""
    if gain == "likeliest":
        return here.rewards_N
    if here.expected_N is None:
        raise ValueError("This world does not tell the chances of its rewards: search with gain likeliest")
    return here.expected_N


@dataclass(frozen=True)
class Greedy:
    """Looks no step ahead."""

    horizon: int = 0

    def plan(self, world: WorldModel, context: Context, legal_NA: Tensor, gamma: float) -> Tensor:
        """Actions (N,) long. Raises ValueError for legal actions that do not fit the context."""
        return masked_values(world.reset(context).values_NA, legal_NA).argmax(1)


@dataclass(frozen=True)
class Beam:
    """How wide and how deep to search, what a step brings and what the end of a path is worth.

    Raises ValueError below 1.
    """

    width: Count = 2
    horizon: Count = 2
    leaf: Leaf = "max"
    gain: Gain = "likeliest"

    def __post_init__(self) -> None:
        check(self, "beam")

    def plan(self, world: WorldModel, context: Context, legal_NA: Tensor, gamma: float) -> Tensor:
        """First action (N,) long of each best path. Raises ValueError as `search`."""
        return search(world, context, legal_NA, self, gamma).actions_NH[:, 0]


@dataclass(frozen=True)
class Path:
    """The best path of each environment."""

    actions_NH: Tensor  # long
    rewards_NH: Tensor  # float32
    tokens_NHK: Tensor  # long, the observation after each action
    scores_N: Tensor  # float32, sum_i gamma^i r_i + gamma^H * value of the path's end


def search(world: WorldModel, context: Context, legal_NA: Tensor, beam: Beam, gamma: float) -> Path:
    """The path with the greatest score, sum_i gamma^i r_i + gamma^H * value of its end.

    Every kept node expands its W best legal actions, then the W best nodes are kept; predicted ends are not used.
    A node with fewer than W legal actions fills up with paths of value -inf, which are never better than a legal one.
    The context must leave room for the horizon. Raises ValueError where it does not, or for legal actions that do not
    fit the context.
    """
    rows, device = len(context.games_N), context.games_N.device
    values_NRA = masked_values(world.reset(context).values_NA, legal_NA)[:, None]
    width = min(beam.width, int(legal_NA.sum(1).max()))
    nodes_NR = torch.zeros(rows, 1, dtype=torch.long, device=device)  # where in the world's tree
    returns_NR = values_NRA.new_zeros(rows, 1)  # discounted rewards so far
    rewards_NRH = values_NRA.new_zeros(rows, 1, 0)
    actions_NRH = nodes_NR.new_zeros(rows, 1, 0)
    tokens_NRHK = nodes_NR.new_zeros(rows, 1, 0, context.tokens_NCK.shape[2])
    created = 1
    for depth in range(beam.horizon):
        top = values_NRA.topk(width, dim=2)
        actions_NR = top.indices.flatten(1)
        parents_R = torch.arange(values_NRA.shape[1], device=device).repeat_interleave(width)
        here = world.step(actions_NR.flatten(), nodes_NR[:, parents_R].flatten())
        rewards_NR = gains(here, beam.gain).view_as(actions_NR)
        returns_NR = returns_NR[:, parents_R] + gamma**depth * rewards_NR
        returns_NR = returns_NR.masked_fill(top.values.flatten(1).isneginf(), -torch.inf)
        masked_MA = masked_values(here.values_NA, legal_NA.repeat_interleave(len(parents_R), 0))
        scores_NR = returns_NR + gamma ** (depth + 1) * leaf_values(here, masked_MA, beam.leaf).view_as(returns_NR)
        # The newest level's histories, then the best of it.
        actions_NRH = torch.cat([actions_NRH[:, parents_R], actions_NR[..., None]], dim=2)
        rewards_NRH = torch.cat([rewards_NRH[:, parents_R], rewards_NR[..., None]], dim=2)
        imagined_NR1K = here.tokens_NK.view(*actions_NR.shape, 1, -1)
        tokens_NRHK = torch.cat([tokens_NRHK[:, parents_R], imagined_NR1K], dim=2)
        ranked = scores_NR.sort(dim=1, descending=True, stable=True)
        kept_NW = ranked.indices[:, : beam.width]
        nodes_NR, created = created + kept_NW, created + len(parents_R)
        row_N1 = torch.arange(rows, device=device)[:, None]
        values_NRA = masked_MA.view(*scores_NR.shape, -1)[row_N1, kept_NW]
        returns_NR, rewards_NRH = returns_NR[row_N1, kept_NW], rewards_NRH[row_N1, kept_NW]
        actions_NRH, tokens_NRHK = actions_NRH[row_N1, kept_NW], tokens_NRHK[row_N1, kept_NW]
    return Path(actions_NRH[:, 0], rewards_NRH[:, 0], tokens_NRHK[:, 0], ranked.values[:, 0])


def plan(world: WorldModel, context: Context, legal_NA: Tensor, beam: Beam, gamma: float) -> Tensor:
    """`Beam.plan` as a function."""
    return beam.plan(world, context, legal_NA, gamma)


# ---- imagined data ----


def imaginable(batch: Batch, horizon: int) -> Tensor:
    """Which segments (B,) bool have nothing but real steps in the T - H newest, which the search starts from."""
    return batch.mask_BT[:, horizon:].all(1)


def imagine(
    world: WorldModel,
    batch: Batch,
    legal_BA: Tensor,
    beam: Beam,
    gamma: float,
    decode: Callable[[Tensor], Tensor] | None = None,
) -> Batch:
    """The T - H newest steps of each segment, then the H observations of the best path from there.

    With `decode`, a tokenizer's from tokens (..., K) to frames (..., C, H, W) in [0, 1], and where the batch has
    frames, the result has them too: the real ones, then the imagined ones as uint8. Without, it has tokens only.
    The newest real step's action and reward become the plan's first ones. The last imagined step has no successor and
    repeats the action and reward before it. No step ends the game, none is padding, all segments count as imagined.
    Raises ValueError for a batch without tokens, segments no longer than the horizon, or one that is not `imaginable`.
    """
    steps, horizon = batch.actions_BT.shape[1], beam.horizon
    if batch.tokens_BTK is None:
        raise ValueError("Imagined data starts from tokens: encode the batch's frames first")
    if steps <= horizon or not bool(imaginable(batch, horizon).all()):
        raise ValueError(
            f"Segments of {steps} steps cannot be imagined {horizon} steps further: "
            f"their {max(0, steps - horizon)} newest steps, at least one, must be real"
        )
    context = Context(batch.tokens_BTK[:, horizon:], batch.actions_BT[:, horizon:-1], batch.games_B)
    path = search(world, context, legal_BA, beam, gamma)
    actions_BT = torch.cat([context.actions_NC, path.actions_NH, path.actions_NH[:, -1:]], dim=1)
    rewards = (batch.rewards_BT[:, horizon:-1], path.rewards_NH, path.rewards_NH[:, -1:])
    frames = None
    if decode is not None and batch.frames_BTCHW is not None:
        imagined_BHCHW = (decode(path.tokens_NHK) * 255).round().clamp(0, 255).to(torch.uint8)
        frames = torch.cat([batch.frames_BTCHW[:, horizon:], imagined_BHCHW], dim=1)
    return replace(
        batch,
        tokens_BTK=torch.cat([context.tokens_NCK, path.tokens_NHK], dim=1),
        frames_BTCHW=frames,
        actions_BT=actions_BT,
        rewards_BT=torch.cat([reward.to(batch.rewards_BT.dtype) for reward in rewards], dim=1),
        ends_BT=torch.zeros_like(batch.ends_BT),
        mask_BT=torch.ones_like(batch.mask_BT),
        imagined_B=torch.ones_like(batch.games_B, dtype=torch.bool),
    )


class ImaginedBuffer:
    """The newest `capacity` imagined segments, on the CPU; `seed` fixes the draws.

    Memory: a segment of 8 steps holds 56 kB of frames and 2 kB of tokens. Raises ValueError for a capacity below 1.
    """

    def __init__(self, capacity: int, seed: int = 0) -> None:
        if capacity < 1:
            raise ValueError(f"Room for {capacity} imagined segments: give at least 1")
        self.capacity = capacity
        self.added = 0  # segments so far, those that made room included
        self._generator = torch.Generator().manual_seed(seed)
        self._rows: dict[str, Tensor] = {}  # name of a batch's field -> (capacity, ...)

    def __len__(self) -> int:
        return min(self.added, self.capacity)

    def add(self, batch: Batch) -> None:
        """Keep these segments. Raises ValueError where they have other fields, shapes or types than those before."""
        new = {field.name: getattr(batch, field.name) for field in fields(batch)}
        new = {name: tensor.cpu() for name, tensor in new.items() if tensor is not None}
        if not self._rows:
            self._rows = {
                name: torch.zeros(self.capacity, *tensor.shape[1:], dtype=tensor.dtype) for name, tensor in new.items()
            }
        ours, theirs = ({n: (t.dtype, t.shape[1:]) for n, t in rows.items()} for rows in (self._rows, new))
        if ours != theirs:
            raise ValueError(f"Imagined segments of {theirs} do not fit among segments of {ours}")
        count = len(batch.games_B)
        places = (self.added + torch.arange(count)) % self.capacity
        newest = slice(max(0, count - self.capacity), None)
        for name, tensor in new.items():
            self._rows[name][places[newest]] = tensor[newest]
        self.added += count

    def sample(self, count: int) -> Batch:
        """`count` segments, each drawn from all with equal chance. Raises ValueError while there are none."""
        if not len(self):
            raise ValueError("No segments were imagined yet: add some before drawing")
        rows = torch.randint(len(self), (count,), generator=self._generator)
        return Batch(**{name: tensor[rows] for name, tensor in self._rows.items()})

    def state(self) -> dict[str, Tensor]:
        """All that another buffer of this capacity needs to go on alike."""
        kept = {f"rows.{name}": tensor[: len(self)] for name, tensor in self._rows.items()}
        return {**kept, "added": torch.tensor(self.added), "generator": self._generator.get_state()}

    def restore(self, state: Mapping[str, Tensor]) -> None:
        """Go on from a `state`. Raises ValueError for that of another capacity."""
        added, rows = int(state["added"]), {n.removeprefix("rows."): t for n, t in state.items() if "rows." in n}
        held = {len(tensor) for tensor in rows.values()}
        if held - {min(added, self.capacity)}:
            raise ValueError(f"This state holds {held} segments of {added}: it is not of capacity {self.capacity}")
        self.added = added
        self._rows = {name: t.new_zeros(self.capacity, *t.shape[1:]) for name, t in rows.items()}
        for name, tensor in rows.items():
            self._rows[name][: len(tensor)] = tensor
        self._generator.set_state(state["generator"])
