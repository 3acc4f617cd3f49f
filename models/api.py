"""What every model family speaks: batches in, losses out; world models that imagine; policies that act.

Shapes: B segments, T steps, C channels of H x W pixels, K tokens a frame, N environments or imagined rows, C steps of
context, A actions, G games, R nodes of an environment, M = N * R rows, n single frames.
"""

from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, field, fields, replace
from hashlib import sha256
from typing import Any, Protocol, TypeVar

import torch
from torch import Tensor, nn
from torch.optim import Optimizer

from models.spaces import Spaces
from models.worlds import Context as Context  # passed on: families and pipelines import them from here
from models.worlds import Dream, Planner, WorldModel
from models.worlds import Imagined as Imagined
from models.worlds import Remembered as Remembered


@dataclass(frozen=True, kw_only=True)
class Batch:
    """Segments as a network reads them. Frames, tokens or both are present; steps where `mask_BT` is False are padding.

    Raises ValueError where a shape disagrees with that of `actions_BT`.
    """

    actions_BT: Tensor  # long, numbers of the family's action set; float (B, T, A) where an action is A numbers
    rewards_BT: Tensor  # float
    ends_BT: Tensor  # bool or integer: a true end of the game, not a truncation
    mask_BT: Tensor  # bool, True is a real step
    games_B: Tensor  # long
    frames_BTCHW: Tensor | None = None  # uint8
    tokens_BTK: Tensor | None = None  # long
    imagined_B: Tensor | None = None  # bool, True where a model dreamt the segment's end; None: all are real

    def __post_init__(self) -> None:
        whole = self.actions_BT.shape
        if len(whole) != 2 + self.actions_BT.is_floating_point():
            raise ValueError(f"actions_BT has shape {tuple(whole)}: give (segments, steps), or floats with a last axis")
        shape = whole[:2]
        for name in ("rewards_BT", "ends_BT", "mask_BT", "tokens_BTK", "frames_BTCHW"):
            tensor = getattr(self, name)
            if tensor is not None and tensor.shape[:2] != shape:
                raise ValueError(f"{name} has shape {tuple(tensor.shape)}: it must begin with {tuple(shape)}")
        if self.games_B.shape != shape[:1]:
            raise ValueError(f"games_B has shape {tuple(self.games_B.shape)}: it must be ({shape[0]},)")
        if self.imagined_B is not None and (self.imagined_B.shape != shape[:1] or self.imagined_B.dtype != torch.bool):
            raise ValueError(
                f"imagined_B is {self.imagined_B.dtype} of {tuple(self.imagined_B.shape)}: give bool ({shape[0]},)"
            )
        if self.mask_BT.dtype != torch.bool:
            raise ValueError(f"mask_BT is {self.mask_BT.dtype}: it must be bool, True for a real step")

    def real_mask(self) -> Tensor:
        """Real steps (B, T) of segments that no model dreamt: what a world model may learn from."""
        return self.mask_BT if self.imagined_B is None else self.mask_BT & ~self.imagined_B[:, None]

    def to(self, device: torch.device | str) -> "Batch":
        """The same batch on another device."""
        present = {field.name: getattr(self, field.name) for field in fields(self)}
        return replace(self, **{name: tensor.to(device) for name, tensor in present.items() if tensor is not None})


@dataclass(frozen=True, kw_only=True)
class FrameBatch:
    """Single frames, for objectives that read no sequence."""

    frames_nCHW: Tensor  # uint8
    games_n: Tensor  # long
    returns_n: Tensor | None = None  # float, what each frame's episode still brought, discounted


AnyBatch = TypeVar("AnyBatch", bound="Batch | FrameBatch")


def rows_of(batch: AnyBatch, rows: slice) -> AnyBatch:
    """Some rows of a batch."""
    return replace(batch, **{name: tensor[rows] for name, tensor in vars(batch).items() if tensor is not None})


def mixed(real: Batch, imagined: Batch) -> Batch:
    """Real segments, then imagined ones, marked so. Frames or tokens must be present in both, or they are left out.

    Raises ValueError where neither is, or where the segments differ in length.
    """
    parts = (
        replace(real, imagined_B=torch.zeros_like(real.games_B, dtype=torch.bool)),
        replace(imagined, imagined_B=torch.ones_like(imagined.games_B, dtype=torch.bool)),
    )
    pairs = {field.name: [getattr(part, field.name) for part in parts] for field in fields(Batch)}
    if real.actions_BT.shape[1:] != imagined.actions_BT.shape[1:]:
        raise ValueError(f"Segments of {real.actions_BT.shape[1]} and {imagined.actions_BT.shape[1]} steps do not mix")
    joined = {name: torch.cat(pair) for name, pair in pairs.items() if all(tensor is not None for tensor in pair)}
    if not joined.keys() & {"frames_BTCHW", "tokens_BTK"}:
        raise ValueError("One batch has frames and the other tokens: encode the frames first")
    return Batch(**joined)


@dataclass(frozen=True)
class Losses:
    """`total` is what to differentiate. `terms` are detached scalars to log, each before its weight in the total.

    rows_B: (B,) detached, what each segment lost, by which those that are drawn next are chosen; None where the
    objective does not tell (`Objective.tells_rows`).
    """

    total: Tensor
    terms: Mapping[str, Tensor]
    rows_B: Tensor | None = None


def weighted(terms: dict[str, Tensor], weights: dict[str, float]) -> Losses:
    """The terms' weighted sum, and the terms."""
    total = torch.stack([weights[name] * term for name, term in terms.items()]).sum()
    return Losses(total, {name: term.detach() for name, term in terms.items()})


def share(losses: Losses, part: float) -> Losses:
    """What means over a part of a batch contribute to the means over all of it."""
    return replace(losses, total=losses.total * part, terms={name: term * part for name, term in losses.terms.items()})


@dataclass(frozen=True)
class ActionValues:
    """What a policy thinks of each action of the environment: float32 (A,), which are the best where they are largest.

    kind: what they are, such as "Q" or "probability".
    """

    values_A: Tensor
    kind: str


class Policy(Protocol):
    """Plays N environments at once; what it remembers of an episode stays inside."""

    def begin(self, rows: Sequence[int], seeds: Sequence[int]) -> None:
        """begin(rows, seeds) -> None: those environments begin a new episode, with draws from these seeds"""
        ...

    def recall(self, row: int, frames: Tensor, actions: Tensor) -> None:
        """recall(row, frames (T, C, H, W) uint8, actions (T,) long or (T, A) float) -> None, after `begin`

        That environment is in the middle of an episode, whose newest steps these are: what is asked next follows them.
        """
        ...

    def act(self, frames: Tensor, rows: Sequence[int]) -> Tensor:
        """act(frames (N, C, H, W) uint8, rows) -> actions (N,) long or (N, A) float, for those environments"""
        ...

    def act_on_tokens(self, tokens_NK: Tensor, rows: Sequence[int]) -> Tensor:
        """act_on_tokens(observations (N, K), rows) -> actions (N,) long: `act` on what a world model imagined"""
        ...

    def values(self, row: int) -> ActionValues:
        """values(row) -> what it thinks of that environment's actions at the newest frame that it acted on"""
        ...


@dataclass(frozen=True)
class Acting:
    """How a policy is to play: each environment's game and legal actions, and the settings of the search.

    context: how many steps it looks at (None: as many as it can). With probability `epsilon` an environment plays a
    random legal action. temperature: an actor's actions are drawn from its distribution at it; 0 plays the likeliest.
    sample: what is imagined is drawn instead of the most likely. compiled: a backend of torch.compile for what is
    imagined, "" for none.
    """

    games_N: Tensor  # long
    legal_NA: Tensor  # bool
    planner: "Planner | None" = None
    context: int | None = None
    epsilon: float = 0.0
    temperature: float = 0.0
    sample: bool = False
    compiled: str = ""


@dataclass(frozen=True)
class Moment:
    """When a loss is asked for: the step over the whole run, and where the rows lie in the whole batch."""

    step: int
    first: int = 0
    count: int = 0


def stream(seed: int, name: str, step: int = 0) -> torch.Generator:
    """The random numbers, on the CPU, that a run of this seed draws for one purpose in one step: nobody else's."""
    digest = sha256(f"{seed} {name} {step}".encode()).digest()
    return torch.Generator().manual_seed(int.from_bytes(digest[:8], "big", signed=True))


@dataclass(frozen=True)
class Learning:
    """What an agent is told before it learns.

    seed: of all draws. legal_GA: (G, A) bool, the actions that each game has. autocast: the context in which networks
    run. mean_frames: by game, its mean frame (C, H, W) float in [0, 1] over what training sees. outside: the weights of
    others that `AgentConfig.outside` names. gather: rows of this process -> those of all processes, in order. fresh:
    whether its networks have learned nothing yet. emulators: (first row, rows) -> the game itself, once for each of
    these rows of a batch, for who practises in it; None where nothing is played. plays_until: the step from which on
    nothing is played any more; None where play goes on to the end.
    """

    seed: int
    legal_GA: Tensor
    autocast: Callable[[], AbstractContextManager[None]] = nullcontext
    mean_frames: Callable[[], Mapping[int, Tensor]] = dict
    outside: Mapping[str, Mapping[str, Tensor]] = field(default_factory=dict)
    gather: Callable[[Tensor], Tensor] | None = None
    fresh: bool = False
    emulators: Callable[[int, int], Any] | None = None
    plays_until: int | None = None


@dataclass(frozen=True)
class Limits:
    """What an agent can be asked for: game numbers below `games`, and `steps` of context and imagination together."""

    games: int
    steps: int


class Agent(Protocol):
    """All networks of one checkpoint: how they learn, what they see, and how they act.

    spaces: what it learned from; None of a fresh agent, which has seen nothing yet.
    """

    spaces: Spaces | None

    @property
    def config(self) -> Any:
        """The family's AgentConfig."""
        ...

    @property
    def networks(self) -> Mapping[str, nn.Module]:
        """By name; each is saved as <name>.safetensors."""
        ...

    @property
    def limits(self) -> Limits:
        """What it can be asked for."""
        ...

    @property
    def gamma(self) -> float:
        """The discount of its values."""
        ...

    @property
    def vocabulary(self) -> int:
        """Different tokens; 0 where the family has none."""
        ...

    @property
    def tokens_per_frame(self) -> int:
        """Numbers of one observation."""
        ...

    def reconfigure(self, **changes: Any) -> None:
        """reconfigure(world_weight=0.5, ...) -> None: what its losses weigh from now on; ValueError for others"""
        ...

    def start(self, learning: Learning, objectives: Sequence[str]) -> None:
        """start(learning, objectives) -> None: these objectives will train; others' networks stay frozen"""
        ...

    def prepare(self, objective: str, batch: Any, moment: Moment) -> Any:
        """prepare(objective, batch, moment) -> batch: augmentation, before anything is counted"""
        ...

    def counts(self, objective: str, batch: Any) -> Tensor:
        """counts(objective, batch) -> (n,) float64: what its losses are means over; summed over ranks"""
        ...

    def loss(self, objective: str, batch: Any, counts: Tensor, moment: Moment) -> Losses:
        """loss(objective, batch, counts of the whole batch, moment) -> Losses; those of a batch's parts add up"""
        ...

    def optimiser(self, network: str, lr: float, weight_decay: float) -> tuple[type[Optimizer], list[dict[str, Any]]]:
        """optimiser(network, lr, weight_decay) -> its kind, and groups of parameters with their decay"""
        ...

    def after_step(self, objectives: Sequence[str], step: int, target_every: int) -> None:
        """after_step(objectives, step, target_every) -> None: target networks and the like"""
        ...

    def work(self, objective: str, rows: int) -> int:
        """work(objective, rows of a batch) -> tokens (or frames, where there are none) that one step reads"""
        ...

    def load_original(self, network: str, state_dict: Mapping[str, Tensor]) -> None:
        """load_original(network, weights under the original's names) -> None; ValueError where they do not fit"""
        ...

    def original_weights(self, network: str, state_dict: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """original_weights(network, a file's tensors) -> its weights, under the names of original_state_dict"""
        ...

    def original_state_dict(self, network: str) -> dict[str, Tensor]:
        """original_state_dict(network) -> copies of the weights as the original's own loader wants them"""
        ...

    def probe(self) -> Mapping[str, tuple[Tensor, ...]]:
        """probe() -> by network, what it returns for one small input that is always the same, in eval mode"""
        ...

    def encode(self, frames: Tensor) -> Tensor:
        """encode(frames (..., C, H, W) uint8) -> observations (..., K): tokens, or what the family sees instead"""
        ...

    def decode(self, observations: Tensor) -> Tensor:
        """decode(observations (..., K)) -> frames (..., C, H, W) float in [0, 1]"""
        ...

    def world(self) -> WorldModel:
        """world() -> a world model that imagines with the networks as they are"""
        ...

    def dream(self, seed: int = 0, sample: bool | None = None) -> Dream:
        """dream(seed, sample) -> a world that is played on and on, with the networks in eval mode

        sample: whether what is imagined is drawn, with draws from `seed`, or the likeliest; None: as where it learns.
        """
        ...

    def policy(self, acting: Acting) -> Policy:
        """policy(acting) -> a policy for its environments; the networks are put in eval mode"""
        ...
