"""Who plays in an evaluation: a planner with every setting resolved, as the manifest records it."""

from dataclasses import asdict, dataclass, field

from models.api import Planner
from models.jowa.config import JowaConfig
from models.planning.beam import Beam
from models.planning.greedy import Greedy
from models.planning.mcts import Mcts
from pipelines.atari.games import game_id
from pipelines.configs.learn import EvaluateConfig
from pipelines.configs.search import TUNED_HORIZON, SearchConfig, tuned
from pipelines.errors import UsageError
from pipelines.progress import say


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
        """All that its choices depend on, by name; what its planner does not read is left out."""
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
                "sees: lower evaluate.context or evaluate.beam_horizon"
            )


def roster(config: EvaluateConfig) -> list[Entrant]:
    """The planners of an evaluation, each with its tuned numbers where the config names a set."""
    context, width, horizon = config.context, config.beam_width, config.beam_horizon
    if config.settings:
        if (known := tuned(config.settings, config.game)) is None:
            say(f"{config.settings} has no numbers for {config.game}: context {context} and width {width} stand")
        else:
            context, width, horizon = known.context, known.width, TUNED_HORIZON

    def entrant(planner: str, episodes: int, max_steps: int) -> Entrant:
        if planner == "greedy":
            return Entrant(planner, episodes, max_steps, context, config.epsilon)
        return Entrant(planner, episodes, max_steps, context, config.epsilon, width, horizon, config.search)

    found = [entrant(config.planner, config.episodes, config.max_steps)]
    if config.beam_episodes:
        found.append(entrant("beam", config.beam_episodes, config.beam_steps or config.max_steps))
    return found
