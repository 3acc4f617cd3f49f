"""Who plays in an evaluation: a planner with every setting resolved, as the manifest records it."""

from dataclasses import asdict, dataclass, field, replace
from itertools import product

from models.api import Planner
from models.jowa.config import JowaConfig
from models.planning.beam import Beam
from models.planning.greedy import Greedy
from models.planning.mcts import Mcts
from pipelines.atari.games import game_id
from pipelines.configs.learn import EvaluateConfig
from pipelines.configs.search import TUNED_HORIZON, SearchConfig, tuned
from pipelines.configs.tune import TuneConfig
from pipelines.errors import UsageError, WorldlineError
from pipelines.progress import say
from pipelines.store.artefact import Artefact

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

    def build(self) -> Planner:
        """The planner itself."""
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

    def require_fit(self, game: str, model: JowaConfig) -> None:
        """Raises UsageError where a model cannot be asked for this game, or does not see that many steps."""
        if game_id(game) >= model.num_games:
            raise UsageError(
                f"This model names {model.num_games} games and {game} is number {game_id(game)}: evaluate another "
                "game, or train with pretrain.model.num_games raised"
            )
        if self.context + self.horizon > model.max_steps:
            ahead = f" and a {self.planner} horizon of {self.horizon}" if self.horizon else ""
            raise UsageError(
                f"A context of {self.context} steps{ahead} is more than the {model.max_steps} steps that this model "
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


def chance(config: EvaluateConfig) -> Entrant:
    """Random play, next to which all others are shown."""
    return Entrant(RANDOM, config.random_episodes, config.max_steps, context=0, epsilon=1.0)


def roster(config: EvaluateConfig, chosen: Chosen | None = None) -> list[Entrant]:
    """The planners of an evaluation, with `chosen` or tuned numbers where the config names such.

    Raises UsageError for numbers that were chosen for another planner.
    """
    context, width, horizon, search = config.context, config.beam_width, config.beam_horizon, config.search
    if chosen is not None:
        if chosen.planner != config.planner:
            raise UsageError(
                f"The settings of {config.tuned} were chosen for {chosen.planner}, not {config.planner}: set "
                f"evaluate.planner={chosen.planner}, or search for {config.planner}'s own"
            )
        context, width, horizon = chosen.context, chosen.width, chosen.horizon
        search = replace(search, leaf=chosen.leaf)
    if config.settings:
        if (known := tuned(config.settings, config.game)) is None:
            say(f"{config.settings} has no numbers for {config.game}: context {context} and width {width} stand")
        else:
            context, width, horizon = known.context, known.width, TUNED_HORIZON

    def entrant(planner: str, episodes: int, max_steps: int) -> Entrant:
        return _entrant(planner, episodes, max_steps, context, config.epsilon, width, horizon, search)

    found = [entrant(config.planner, config.episodes, config.max_steps)]
    if config.beam_episodes:
        found.append(entrant("beam", config.beam_episodes, config.beam_steps or config.max_steps))
    return found


def candidates(config: TuneConfig) -> list[Entrant]:
    """Every setting of a search, the cheaper first: equal scores then go to it."""
    grid, episodes = config.grid, config.grid.episodes
    axes = product(sorted(grid.widths) or [0], sorted(grid.horizons) or [0], sorted(grid.contexts), grid.leaves)
    return [
        _entrant(
            config.planner, episodes, config.max_steps, context, config.epsilon, width, horizon,
            replace(config.search, leaf=leaf),
        )
        for width, horizon, context, leaf in axes
    ]  # fmt: skip


def _entrant(
    planner: str, episodes: int, max_steps: int, context: int, epsilon: float, width: int, horizon: int,
    search: SearchConfig,
) -> Entrant:  # fmt: skip
    if planner == "greedy":
        return Entrant(planner, episodes, max_steps, context, epsilon)
    return Entrant(planner, episodes, max_steps, context, epsilon, width, horizon, search)
