"""How a policy chooses its actions: the planner, how far it looks, and every setting as the manifest records it.

Holds the numbers that JOWA's authors tuned for their games (arXiv 2410.00564, the appendix on evaluation); all of
those search 2 steps deep. Importing this imports no torch.
"""

from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Literal, get_args

from models.family import AgentConfig, Takes
from models.limits import Few, Natural, Positive, Seed, Share, Size
from models.registry import family_of
from pipelines.environments.registry import Rules, canonical, check_rules, game_id, options, protocol, spaces
from pipelines.errors import UsageError, WorldlineError, unknown
from pipelines.store.artefact import Artefact
from pipelines.store.stage_config import Beside, manner, networks_beside, option, plain, require

if TYPE_CHECKING:
    from models.api import Agent

PLANNERS = ("greedy", "beam", "mcts", "gumbel", "rollouts", "actor")
Precision = Literal["auto", "float32", "bf16"]

Searcher = Literal["beam", "mcts", "gumbel", "rollouts"]
Leaf = Literal["max", "mean", "state", "none"]
Gain = Literal["likeliest", "expected"]


@dataclass(frozen=True)
class SearchConfig:
    """Finer settings of the planners. `simulations` 0 is as many as a beam of the same width and horizon has nodes."""

    leaf: Leaf = "max"  # an imagined end is worth its best legal action, the mean over them, its own value, or nothing
    simulations: Few = 0  # of MCTS and Gumbel search, a decision
    temperature: Positive = 1.0  # of their priors, and of the distribution that an actor's actions are drawn from
    choice: Literal["value", "visits"] = "value"  # MCTS plays the action of best mean value, or the most visited
    sample: bool = False  # draw what is imagined instead of the most likely; environments then plan one by one
    gain: Gain = option("likeliest")  # an imagined step brings the likeliest sign of a reward, or the mean of signs
    hold: Size = option(1)  # steps for which rollouts hold the action that they try

    def __post_init__(self) -> None:
        require(self, "search")


def read_search(planner: str, search: SearchConfig) -> dict[str, Any]:
    """Of the finer settings those that a planner that searches reads."""
    unread = {"simulations", "temperature", "choice"} if planner in ("beam", "rollouts") else set[str]()
    unread |= {"choice"} if planner == "gumbel" else set()
    unread |= set() if planner == "rollouts" else {"hold"}
    return {name: value for name, value in plain(search).items() if name not in unread}


@dataclass(frozen=True)
class PlayConfig:
    """How episodes are played, whether their scores are reported or only choose among settings."""

    protocol: str = "jowa"
    planner: str = option("greedy")
    epsilon: Share = 0.001
    max_steps: Natural = 0  # agent steps at which every episode is cut; 0 leaves it to the protocol
    precision: Precision = "auto"
    search: SearchConfig = option(SearchConfig())
    rom_md5: str = option("")  # of a ROM of yours; none plays ale-py's
    rom_dir: str = manner("")  # the folder that holds it
    envs: Few = manner(0)  # episodes that are played at once; 0: all. Each has its own seeds, so it changes none

    def __post_init__(self) -> None:
        protocol(self.protocol)
        object.__setattr__(self, "protocol", canonical(self.protocol))
        require(self, getattr(self, "VERB", "evaluate"))
        if self.planner not in PLANNERS:
            raise unknown("planner", self.planner, PLANNERS, "'worldline evaluate --help' explains them")


@dataclass(frozen=True)
class GridConfig:
    """Settings to search over before the reported evaluation: every combination plays the same `episodes`.

    An empty axis keeps the evaluation's own value; with all of them empty nothing is searched.
    """

    contexts: tuple[Size, ...] = ()
    widths: tuple[Size, ...] = ()
    horizons: tuple[Size, ...] = ()
    leaves: tuple[Leaf, ...] = ()
    episodes: Size = 4
    max_steps: Natural = 0  # agent steps at which an episode of the search is cut; 0: as the evaluation's
    seed: Seed = 0  # of the search alone; its episodes are never reported

    def __post_init__(self) -> None:
        require(self, "tune")
        for name in ("contexts", "widths", "horizons", "leaves"):
            values = getattr(self, name)
            if len(set(values)) != len(values):
                given = ",".join(map(str, values))
                raise UsageError(f"A search over {name} {given} is impossible: give each once")

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


WHAT_PLANNERS_DO = {
    "greedy": "takes what the agent holds best, without looking ahead",
    "actor": "draws from the agent's actor",
    "beam": "looks ahead in the world model and keeps the best few paths",
    "mcts": "looks ahead in the world model and grows a tree where it looks best",
    "gumbel": "looks ahead in the world model a few times, from the likeliest actions, and keeps the better half",
    "rollouts": "tries each action in the world model, plays on from there, and compares what comes of it",
}
SEARCHES: tuple[str, ...] = get_args(Searcher)
WHEN_SEARCH_LOSES = (
    "A search that loses to greedy play of the same checkpoint does not show that its world model fails: after hours "
    "of training the values at the ends of paths are not yet numbers to be compared. 'worldline diagnose' says which "
    "it is."
)


def told_of(planners: Iterable[str]) -> str:
    """What those of these planners do that are known, in a sentence or two; empty where there is none."""
    found = [name for name in WHAT_PLANNERS_DO if name in planners]
    if not found:
        return ""
    text = "; ".join(f"{name} {WHAT_PLANNERS_DO[name]}" for name in found) + "."
    return text + (f" {WHEN_SEARCH_LOSES}" if "greedy" in found and set(SEARCHES) & {*found} else "")


RANDOM = "random"
ACTOR = "actor"  # draws actions from what the family's actor says; no world model is asked


@dataclass(frozen=True)
class PlayerSettings:
    """`planner` plays `episodes`, cut at `max_steps` agent steps (0: by the protocol). Greedy looks 0 steps ahead."""

    planner: str
    episodes: int
    max_steps: int
    context: int
    epsilon: float
    width: int = 0
    horizon: int = 0
    search: SearchConfig = field(default_factory=SearchConfig)

    def settings(self) -> dict[str, float | int | str | bool]:
        """All that its choices depend on, by name; what its planner does not read is left out. Chance has none."""
        if self.planner == RANDOM:
            return {}
        found: dict[str, float | int | str | bool] = {"context": self.context, "epsilon": self.epsilon}
        if self.planner == "greedy":
            return found
        if self.planner == ACTOR:  # what it remembers is its family's to say
            return {"epsilon": self.epsilon, "temperature": self.search.temperature}
        return found | {"width": self.width, "horizon": self.horizon} | read_search(self.planner, self.search)

    def require_fit(self, game: str, agent: "Agent", rules: Rules) -> None:
        """Raises UsageError where an agent cannot play so, be asked for this game, or see so many or such frames."""
        self.require_takes(game, agent.config, Takes(None, agent.limits.steps, agent.limits.games), rules)
        require_spaces(game, agent, rules)

    def require_takes(self, game: str, networks: AgentConfig, takes: Takes, rules: Rules) -> None:
        """`require_fit` as far as it is known before the agent is: by its config and what it takes."""
        planners = family_of(networks).planners
        if self.planner not in planners:
            raise UsageError(
                f"Agents of the family '{networks.family}' cannot play by {self.planner}: choose from "
                f"{', '.join(planners)}"
            )
        if self.horizon:
            require_search(networks, self.search)
        require_game(game, takes, rules, "evaluate")
        if takes.steps is not None and self.context + self.horizon > takes.steps:
            ahead = f" and a {self.planner} horizon of {self.horizon}" if self.horizon else ""
            raise UsageError(
                f"A context of {self.context} steps{ahead} is more than the {takes.steps} steps that this model "
                "sees: lower evaluate.context or evaluate.beam_horizon, or what tune tries"
            )


def require_game(game: str, takes: Takes, rules: Rules, verb: str) -> None:
    """Raises UsageError where an agent sees other frames than the rules show, or tells fewer games apart."""
    if takes.frame not in (None, rules.frame):
        raise UsageError(
            f"'{rules.name}' shows frames of {rules.frame} and the agent sees {takes.frame} (height, width, "
            f"colours): choose another {verb}.protocol"
        )
    if takes.games is not None and game_id(game) >= takes.games:
        raise UsageError(
            f"This model names {takes.games} games and {game} is number {game_id(game)}: {verb} another "
            "game, or train with pretrain.model.num_games raised"
        )


def require_spaces(game: str, agent: "Agent", rules: Rules) -> None:
    """Raises UsageError where an agent learned in other spaces than the game has under these rules."""
    if agent.spaces is not None:
        try:
            agent.spaces.require_fit(spaces(game, rules), "This agent", f"{game} under '{rules.name}'")
        except ValueError as error:
            raise UsageError(str(error)) from error


def require_search(networks: AgentConfig, search: SearchConfig) -> None:
    """Raises UsageError where a search asks what this agent's world does not tell."""
    require_values(networks, search.leaf)
    if not networks.ranks_by_actor:
        return
    wrong = {
        f"search.leaf={search.leaf}": search.leaf in ("max", "mean"),
        f"search.gain={search.gain}": search.gain != "likeliest",
        "search.sample=true": search.sample,
    }
    if asked := next((name for name, is_asked in wrong.items() if is_asked), ""):
        raise UsageError(
            f"Agents of the family '{networks.family}' value states and no actions, and imagine what is likeliest: "
            f"{asked} does not fit, set evaluate.search.leaf (in play record.search.leaf) to state or none, and leave "
            "search.gain and search.sample out"
        )


def require_values(networks: AgentConfig, leaf: Leaf) -> None:
    """Raises UsageError where a path's end is to be worth what its state is, and the agent learned no such value."""
    if leaf == "state" and not networks.values_states:
        raise UsageError(
            "This agent learned no value of states: train with pretrain.networks.model.state_value above 0, or set "
            "search.leaf to max or mean"
        )


def require_players(players: Iterable[PlayerSettings], play: PlayConfig, beside: Beside) -> None:
    """Raises UsageError where a recipe's agent cannot play a game as `play` says, or its ROM is not there.

    `play` is filled: it names its game.
    """
    game, rules = getattr(play, "game", ""), protocol(play.protocol)
    check_rules(game, rules)
    if play.rom_dir or play.rom_md5:
        options(game, play.rom_dir, play.rom_md5)
    if (networks := networks_beside(beside)) is not None:
        for who in players:
            who.require_takes(game, networks, networks.takes, rules)


@dataclass(frozen=True)
class Chosen:
    """The settings that did best where they were searched for, and the emulator seeds that this took."""

    planner: str
    context: int
    width: int
    horizon: int
    leaf: Leaf
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
) -> PlayerSettings:  # fmt: skip
    if planner == "greedy":
        return PlayerSettings(planner, episodes, max_steps, context, epsilon)
    if planner == ACTOR:
        return PlayerSettings(planner, episodes, max_steps, context, epsilon, search=search)
    return PlayerSettings(planner, episodes, max_steps, context, epsilon, width, horizon, search)
