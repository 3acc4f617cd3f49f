"""The plug of a model family: what it trains, what each objective reads, and where its networks are. Imports no torch.

A family is a folder `models/<family>/` whose `family.py` holds one `Family`, and one line in `models/registry.py`.
Pipelines read this description and never name a network: plans and loaders ask the objectives what they read, and
`models.api.Agent` computes the losses.
"""

import importlib
import typing
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, field, fields, is_dataclass
from typing import TYPE_CHECKING, Any, ClassVar

if TYPE_CHECKING:
    from models.api import Agent


def option(default: Any) -> Any:
    """A field newer than some artefacts: at its default it is left out of keys. Its default may never change."""
    return field(default=default, metadata={"elide": True})


def manner(default: Any) -> Any:
    """A field that says how the work is done, not what comes out (where a file lies): it is never part of a key."""
    return field(default=default, metadata={"manner": True})


@dataclass(frozen=True)
class Frames:
    """An objective that reads single frames, drawn from all steps that training sees."""


@dataclass(frozen=True)
class Segments:
    """An objective that reads segments of consecutive steps: their frames, or their tokens where those are stored.

    padding: the side on which what is shorter is filled up; "left" where the newest step must be real; "both" where a
    segment may begin before its episode and end behind it. anywhere: of left ones, whether the step that is drawn may
    be any of the segment and not the newest alone.
    """

    padding: str = "right"
    anywhere: bool = False


Reads = Frames | Segments


@dataclass(frozen=True)
class Objective:
    """A loss of a family: the networks that it trains, by name, what a batch of it is, and whose weights it asks for.

    outside: of the weights of others that the config names, those that this loss reads. tells_rows: whether it tells
    what each segment of a batch lost (`models.api.Losses`).
    """

    trains: tuple[str, ...]
    reads: Reads
    outside: tuple[str, ...] = ()
    tells_rows: bool = False


@dataclass(frozen=True)
class Takes:
    """What the agent of a config takes, known before any network is built; None where anything will do.

    frame: (H, W, C) of what it sees. steps: of a segment, and of context and imagination together when it plays. games
    and actions: how many it tells apart, by number. numbers: of an action that is no choice, each from -1 to 1; None of
    an agent that chooses.
    """

    frame: tuple[int, int, int] | None = None
    steps: int | None = None
    games: int | None = None
    actions: int | None = None
    numbers: int | None = None


@dataclass(frozen=True)
class AgentConfig:
    """Base of a family's frozen config: the sizes of all its networks and what their losses weigh.

    Its fields are plain numbers, text, tuples and further frozen dataclasses, so that it can stand in a checkpoint's
    agent.json. `family` is the name in `models/registry.py`.
    """

    family: str = ""

    meaning: ClassVar[Mapping[str, tuple[str, ...]]] = {}
    """by part, numbers on which it depends what weights mean, and which their names and shapes do not tell"""

    @property
    def outside(self) -> Mapping[str, tuple[str, str]]:
        """Weights of others that training wants: name -> (file, its sha256). Files that decide about the result."""
        return {}

    @property
    def left_out(self) -> str:
        """What its losses lack although it is wanted, in words: a term whose weights no file gives. Empty: nothing."""
        return ""

    @property
    def takes(self) -> Takes:
        """Frames, steps, games and actions of its agent."""
        return Takes()

    @property
    def values_states(self) -> bool:
        """Whether its world tells what a state itself is worth (`models.worlds.Imagined.states_N`)."""
        return False

    @property
    def ranks_by_actor(self) -> bool:
        """Whether a search finds an actor's log-probabilities where it looks for values of actions."""
        return False

    @property
    def watches(self) -> bool:
        """Whether its world learns videos, in which nobody says what was done."""
        return False

    @property
    def wants_mean_frame(self) -> bool:
        """Whether a loss reads the mean frame of stored episodes, of which an agent that plays has none."""
        return False

    def length(self, objective: str) -> int | None:
        """Steps of the segments that this objective reads; None: as many as its agent can be asked for."""
        return self.takes.steps

    def least(self, objective: str) -> int:
        """Real steps that a segment of this objective must have at least: none is drawn with fewer."""
        return 1

    def discount(self, objective: str) -> float | None:
        """The discount of the returns that come with an objective's single frames; None: without returns."""
        return None

    def whole_batches(self, objective: str) -> str:
        """Why a batch of this objective cannot be taken in parts; empty where it can."""
        return ""

    @property
    def alone(self) -> str:
        """Why several ranks cannot share its batches; empty where they can."""
        return ""

    def require_fit(self, length: int) -> None:
        """Raises ValueError where the networks do not fit each other, or segments of `length` steps."""

    def require_world(self, watched: "AgentConfig") -> None:
        """Raises ValueError where an agent of this config cannot go on from a world of that one, of videos."""
        raise ValueError(f"networks: agents of the family '{self.family}' learn no videos: leave pretrain_videos out")

    def plain(self) -> dict[str, Any]:
        """As JSON types, without what says how the work is done and not what comes out."""
        return _without_manner(self, asdict(self))

    @classmethod
    def of(cls, data: Mapping[str, Any]) -> "AgentConfig":
        """Back from `plain`. Raises TypeError or ValueError for fields that this family does not have."""
        return _read(cls, data)


def _read(kind: Any, data: Any) -> Any:
    """A value of the annotated type from JSON types: dataclasses from mappings, tuples from lists."""
    if is_dataclass(kind) and isinstance(kind, type):
        hints = typing.get_type_hints(kind)
        return kind(**{name: _read(hints.get(name, Any), value) for name, value in dict(data).items()})
    if typing.get_origin(kind) is tuple and isinstance(data, list):
        return tuple(_read(typing.get_args(kind)[0], item) for item in data)
    return data


def _without_manner(config: Any, values: dict[str, Any]) -> dict[str, Any]:
    kept = {}
    for entry in fields(config):
        if entry.metadata.get("manner"):
            continue
        name = entry.name
        value = getattr(config, name)
        kept[name] = _without_manner(value, values[name]) if hasattr(value, "__dataclass_fields__") else values[name]
    return kept


@dataclass(frozen=True)
class Family:
    """One family of models.

    config: the type of its frozen config. agent: "module:Class" of its `models.api.Agent`, called with config and seed.
    objectives: its losses by name. planners: how it can choose actions, of actor, greedy, beam, mcts, gumbel and
    rollouts. tokens: whether its frames can be stored as tokens. one_file: what the original calls the file that holds
    all networks, each network's names behind its own, or with `whole_names` as they are; empty where it writes a file a
    network. part_files: files of single networks that it writes beside, and what goes before their names in that one.
    """

    name: str
    config: type[AgentConfig]
    agent: str
    objectives: Mapping[str, Objective]
    planners: tuple[str, ...] = ("greedy",)
    tokens: bool = False
    one_file: str = ""
    whole_names: bool = False
    part_files: Mapping[str, str] = field(default_factory=dict)

    def build(self, config: AgentConfig, seed: int = 0) -> "Agent":
        """The networks of a config with fresh weights; the seed fixes them. Imports torch."""
        module, _, name = self.agent.partition(":")
        build: Callable[..., Agent] = getattr(importlib.import_module(module), name)
        return build(config, seed)

    def sequence_networks(self, objectives: tuple[str, ...]) -> tuple[str, ...]:
        """The networks that learn from segments: what a compiler should see on a GPU."""
        return self.trains(tuple(name for name in objectives if isinstance(self.objectives[name].reads, Segments)))

    def outside(self, config: AgentConfig, objectives: tuple[str, ...]) -> Mapping[str, tuple[str, str]]:
        """The weights of others that these objectives read: name -> (file, its sha256)."""
        wanted = {name for each in objectives for name in self.objectives[each].outside}
        return {name: found for name, found in config.outside.items() if name in wanted}

    def trains(self, objectives: tuple[str, ...]) -> tuple[str, ...]:
        """The networks that some of its objectives train, each once, in order."""
        return tuple(dict.fromkeys(name for each in objectives for name in self.objectives[each].trains))
