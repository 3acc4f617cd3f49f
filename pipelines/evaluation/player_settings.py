"""How a policy chooses its actions: the planner, how far it looks, and every setting as the manifest records it.

Holds the numbers that JOWA's authors tuned for their games (arXiv 2410.00564, the appendix on evaluation); all of
those search 2 steps deep. Importing this imports no torch.
"""

from dataclasses import asdict, dataclass, field
from typing import TYPE_CHECKING

from models.registry import family_of
from pipelines.environments.environment import Rules
from pipelines.environments.registry import canonical, game_id, protocol, spaces
from pipelines.errors import UsageError, WorldlineError, unknown
from pipelines.store.artefact import Artefact
from pipelines.store.stage_config import manner, option

if TYPE_CHECKING:
    from models.api import Agent, Planner

PLANNERS = ("greedy", "beam", "mcts")
PRECISIONS = ("auto", "float32", "bf16")

LEAVES, CHOICES = ("max", "mean"), ("value", "visits")


@dataclass(frozen=True)
class SearchConfig:
    """Finer settings of the planners. `simulations` 0 is as many as a beam of the same width and horizon has nodes."""

    leaf: str = "max"  # what an imagined end is worth: its best legal action, or the mean over legal ones
    simulations: int = 0  # of MCTS, a decision
    temperature: float = 1.0  # of MCTS's priors
    choice: str = "value"  # MCTS plays the action of best mean value, or the most visited
    sample: bool = False  # draw what is imagined instead of the most likely; environments then plan one by one

    def __post_init__(self) -> None:
        if self.leaf not in LEAVES:
            raise unknown("leaf value", self.leaf, LEAVES, "what an imagined end is worth")
        if self.choice not in CHOICES:
            raise unknown("choice", self.choice, CHOICES, "how MCTS picks the action it plays")
        if self.simulations < 0 or self.temperature <= 0:
            raise UsageError(
                f"A search with simulations {self.simulations} and temperature {self.temperature} is impossible: "
                "simulations must be at least 0 (0: as many as a beam's nodes), temperature above 0"
            )


def check_precision(name: str) -> None:
    """Raises UsageError for a precision that is none of PRECISIONS."""
    if name not in PRECISIONS:
        raise UsageError(f"Precision '{name}' is unknown: choose from {', '.join(PRECISIONS)}")


@dataclass(frozen=True)
class PlaySettings:
    """How episodes are played, whether their scores are reported or only choose among settings."""

    protocol: str = "jowa"
    planner: str = option("greedy")
    epsilon: float = 0.001
    max_steps: int = 0  # agent steps at which every episode is cut; 0 leaves it to the protocol
    precision: str = "auto"
    search: SearchConfig = option(SearchConfig())
    rom_md5: str = option("")  # of a ROM of yours; none plays ale-py's
    rom_dir: str = manner("")  # the folder that holds it
    envs: int = manner(0)  # episodes that are played at once; 0: all. Each has its own seeds, so it changes none

    def __post_init__(self) -> None:
        protocol(self.protocol)
        object.__setattr__(self, "protocol", canonical(self.protocol))
        check_precision(self.precision)
        if self.planner not in PLANNERS:
            raise unknown("planner", self.planner, PLANNERS, "'worldline evaluate --help' explains them")
        if not 0.0 <= self.epsilon <= 1.0:
            raise UsageError(f"Evaluation with epsilon {self.epsilon} is impossible: it must fall within 0 and 1")
        for name in ("max_steps", "envs"):
            if (value := getattr(self, name)) < 0:
                raise UsageError(f"Evaluation with {name} {value} is impossible: it must be at least 0")


@dataclass(frozen=True)
class GridConfig:
    """Settings to search over before the reported evaluation: every combination plays the same `episodes`.

    An empty axis keeps the evaluation's own value; with all of them empty nothing is searched.
    """

    contexts: tuple[int, ...] = ()
    widths: tuple[int, ...] = ()
    horizons: tuple[int, ...] = ()
    leaves: tuple[str, ...] = ()
    episodes: int = 4
    max_steps: int = 0  # agent steps at which an episode of the search is cut; 0: as the evaluation's
    seed: int = 0  # of the search alone; its episodes are never reported

    def __post_init__(self) -> None:
        for name in ("contexts", "widths", "horizons"):
            values = getattr(self, name)
            if any(value < 1 for value in values) or len(set(values)) != len(values):
                given = ",".join(map(str, values))
                raise UsageError(f"A search over {name} {given} is impossible: give numbers from 1 on, each once")
        for leaf in self.leaves:
            if leaf not in LEAVES:
                raise unknown("leaf value", leaf, LEAVES, "what an imagined end is worth")
        if len(set(self.leaves)) != len(self.leaves):
            raise UsageError(f"A search over leaves {','.join(self.leaves)} is impossible: give each once")
        if self.episodes < 1 or self.max_steps < 0 or self.seed < 0:
            raise UsageError(
                f"A search with episodes {self.episodes}, max_steps {self.max_steps}, seed {self.seed} is impossible: "
                "episodes must be at least 1, the others 0"
            )

    @property
    def wanted(self) -> bool:
        """Whether there is anything to search over."""
        return bool(self.contexts or self.widths or self.horizons or self.leaves)


@dataclass(frozen=True)
class Tuned:
    """What was tuned for one game and size of model."""

    context: int
    width: int


SETTINGS = ("jowa_40m", "jowa_70m", "jowa_150m")

_TUNED = {  # game: contexts of the three sizes, then the width they share
    "Assault": (3, 5, 4, 2),
    "Atlantis": (4, 2, 2, 3),
    "BeamRider": (5, 2, 6, 2),
    "Berzerk": (6, 1, 1, 4),
    "Carnival": (2, 5, 4, 2),
    "Centipede": (1, 1, 6, 4),
    "ChopperCommand": (1, 4, 2, 4),
    "DemonAttack": (3, 3, 3, 2),
    "NameThisGame": (2, 2, 3, 2),
    "Phoenix": (2, 1, 2, 2),
    "Seaquest": (2, 6, 6, 4),
    "SpaceInvaders": (2, 3, 2, 2),
    "StarGunner": (1, 6, 2, 3),
    "TimePilot": (6, 6, 2, 4),
    "Zaxxon": (2, 6, 2, 4),
}

TUNED_HORIZON = 2

TUNED_FIELDS = ("context", "beam_width", "beam_horizon")  # of EvaluateConfig, which a set stands for


def tuned(settings: str, game: str) -> Tuned | None:
    """The numbers of a named set for a game, None where it has none. Raises UsageError for an unknown set."""
    if settings not in SETTINGS:
        raise unknown("set of settings", settings, SETTINGS, "pipelines/evaluation/player_settings.py holds them")
    if game not in _TUNED:
        return None
    *contexts, width = _TUNED[game]
    return Tuned(contexts[SETTINGS.index(settings)], width)


RANDOM = "random"


@dataclass(frozen=True)
class Entrant:
    """`planner` plays `episodes`, cut at `max_steps` agent steps (0: by the protocol). Greedy looks 0 steps ahead."""

    planner: str
    episodes: int
    max_steps: int
    context: int
    epsilon: float
    width: int = 0
    horizon: int = 0
    search: SearchConfig = field(default_factory=SearchConfig)

    def build(self) -> "Planner":
        """The planner itself."""
        from models.planning.beam import Beam
        from models.planning.greedy import Greedy
        from models.planning.mcts import Mcts

        match self.planner:
            case "greedy":
                return Greedy()
            case "beam":
                return Beam(self.width, self.horizon, self.search.leaf)  # type: ignore[arg-type]  # the config checks
            case _:
                return Mcts(
                    self.search.simulations or None,
                    self.width,
                    self.horizon,
                    self.search.temperature,
                    self.search.leaf,  # type: ignore[arg-type]
                    self.search.choice,  # type: ignore[arg-type]
                    resample=self.search.sample,
                )

    def settings(self) -> dict[str, float | int | str | bool]:
        """All that its choices depend on, by name; what its planner does not read is left out. Chance has none."""
        if self.planner == RANDOM:
            return {}
        found: dict[str, float | int | str | bool] = {"context": self.context, "epsilon": self.epsilon}
        if self.planner == "greedy":
            return found
        found |= {"width": self.width, "horizon": self.horizon} | asdict(self.search)
        unread = ("simulations", "temperature", "choice") if self.planner == "beam" else ()
        return {name: value for name, value in found.items() if name not in unread}

    def require_fit(self, game: str, agent: "Agent", rules: Rules) -> None:
        """Raises UsageError where an agent cannot play so, be asked for this game, or see so many or such frames."""
        planners, limits = family_of(agent.config).planners, agent.limits
        if self.planner not in planners:
            raise UsageError(
                f"Agents of the family '{agent.config.family}' cannot play by {self.planner}: choose from "
                f"{', '.join(planners)}"
            )
        if agent.spaces is not None:
            try:
                agent.spaces.require_fit(spaces(game, rules), "This agent", f"{game} under '{rules.name}'")
            except ValueError as error:
                raise UsageError(str(error)) from error
        if game_id(game) >= limits.games:
            raise UsageError(
                f"This model names {limits.games} games and {game} is number {game_id(game)}: evaluate another "
                "game, or train with pretrain.model.num_games raised"
            )
        if self.context + self.horizon > limits.steps:
            ahead = f" and a {self.planner} horizon of {self.horizon}" if self.horizon else ""
            raise UsageError(
                f"A context of {self.context} steps{ahead} is more than the {limits.steps} steps that this model "
                "sees: lower evaluate.context or evaluate.beam_horizon, or what tune tries"
            )


@dataclass(frozen=True)
class Chosen:
    """The settings that did best where they were searched for, and the emulator seeds that this took."""

    planner: str
    context: int
    width: int
    horizon: int
    leaf: str
    spent: tuple[int, ...]

    @classmethod
    def of(cls, tuned: Artefact) -> "Chosen":
        """What an artefact of the stage `tuned` found. Raises WorldlineError for another artefact."""
        try:
            best = tuned.manifest.metrics["best"]
            numbers = {name: best[name] for name in ("planner", "context", "width", "horizon", "leaf")}
            return cls(**numbers, spent=tuple(tuned.manifest.metrics["seeds"]))
        except (KeyError, TypeError) as error:
            raise WorldlineError(
                f"{tuned.ref} holds no chosen settings ({error}): name an artefact of the stage tuned"
            ) from error


def _entrant(
    planner: str, episodes: int, max_steps: int, context: int, epsilon: float, width: int, horizon: int,
    search: SearchConfig,
) -> Entrant:  # fmt: skip
    if planner == "greedy":
        return Entrant(planner, episodes, max_steps, context, epsilon)
    return Entrant(planner, episodes, max_steps, context, epsilon, width, horizon, search)
