"""What all training stages share as a config, and whether schedule, networks and games of one fit each other.

Each check raises a UsageError of one line before any work begins. Imports no torch.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field, fields
from typing import ClassVar

from models.family import AgentConfig, Family
from models.limits import Seed, Size
from models.registry import family_of
from models.spaces import Discrete
from pipelines.environments.registry import actions, task_count
from pipelines.errors import UsageError, unknown
from pipelines.store.files import named_file
from pipelines.store.stage_config import (
    Beside,
    StageConfig,
    Work,
    canonical_json,
    filled,
    networks_beside,
    networks_named,
    plain,
)
from pipelines.training.schedule import Keep, LoopConfig, Phase, Schedule, phases_of, total_steps, unroll


def check_phases(phases: Sequence[Phase], family: Family, config: AgentConfig, where: str = "stage") -> None:
    """Raises UsageError for an objective that the family lacks, for two that train one network, for two phases of one
    name, and for an objective that cannot be taken in parts and would be."""
    names = [phase.name for phase in phases]
    if len(set(names)) < len(names):
        raise UsageError(f"Phases {', '.join(names)} share a name: give each one of its own")
    for phase in phases:
        for name in phase.objectives:
            if name not in family.objectives:
                raise unknown(f"objective of phase '{phase.name}'", name, family.objectives, f"those of {family.name}")
            if phase.accumulate > 1 and (why := config.whole_batches(name)):
                raise UsageError(f"Phase '{phase.name}' has accumulate {phase.accumulate}, but {why}")
        trained = [network for name in phase.objectives for network in family.objectives[name].trains]
        if twice := sorted({name for name in trained if trained.count(name) > 1}):
            raise UsageError(
                f"Phase '{phase.name}': objectives {', '.join(phase.objectives)} train the same network "
                f"('{twice[0]}'), name one of them"
            )


def check_shares(phase: Phase, ranks: int) -> None:
    """Raises UsageError where so many ranks, each with the phase's parts, cannot share its batches."""
    if ranks * phase.accumulate > phase.rows:
        raise UsageError(
            f"Phase '{phase.name}' has batches of {phase.rows} for {ranks} ranks with {phase.accumulate} parts each: "
            "take fewer ranks or lower accumulate"
        )


def check_alone(networks: AgentConfig, ranks: int) -> None:
    """Raises UsageError where networks that learn on one rank alone are given more."""
    if ranks > 1 and networks.alone:
        raise UsageError(f"This agent cannot learn on {ranks} ranks: {networks.alone}")


def require_actions(config: AgentConfig, game: str) -> None:
    """Raises UsageError where agents of a config choose among actions and the game's are numbers, or the reverse, and
    where these numbers are others.
    """
    space, numbers = actions(game), config.takes.numbers
    if isinstance(space, Discrete) and numbers is None:
        return
    told = f"{len(space)} actions" if isinstance(space, Discrete) else f"{space.size} numbers an action"
    if isinstance(space, Discrete) or numbers is None:
        wants = "chooses among actions" if numbers is None else f"says {numbers} numbers an action"
        able = "jowa, iris, rem, delta_iris" if isinstance(space, Discrete) else "dreamer"
        raise UsageError(
            f"{game} is played with {told}, and an agent of the family '{config.family}' {wants}: take a recipe of "
            f"the family {able}"
        )
    if space.size != numbers or (space.low, space.high) != (-1.0, 1.0):
        raise UsageError(
            f"{game} is played with {told} from {space.low:g} to {space.high:g}, and the agent says {numbers} from -1 "
            f"to 1: set learn.actions={space.size}"
        )


def check_trainable(phases: Sequence[Phase], config: AgentConfig, games: Sequence[str], verb: str = "pretrain") -> None:
    """Raises UsageError where the networks of a config, that of `verb`, cannot learn these games by these phases.

    Their family knows the phases, they tell all games and actions apart, and the files of others that they want are
    there and the ones meant.
    """
    family, objectives = family_of(config), tuple(name for phase in phases for name in phase.objectives)
    check_phases(phases, family, config)
    for name, (file, sha256) in family.outside(config, objectives).items():
        named_file(name, file, sha256, verb)
    for game in games:
        if config.takes.games not in (None, task_count(game)):
            raise UsageError(
                f"{game} is numbered among {task_count(game)} games and the model names {config.takes.games}: set "
                f"pretrain.model.num_games={task_count(game)}"
            )
        space = actions(game)
        require_actions(config, game)
        if config.takes.actions is not None and isinstance(space, Discrete) and len(space) != config.takes.actions:
            held = [entry.name for entry in fields(config) if hasattr(getattr(config, entry.name), "num_actions")]
            change = " and ".join(f"{verb}.{name}.num_actions={len(space)}" for name in held or ["model"])
            raise UsageError(
                f"{game} is played with {len(space)} actions and the model has num_actions {config.takes.actions}: set "
                f"{change}"
            )


@dataclass(frozen=True)
class TrainingConfig(StageConfig):
    """What all training stages share. `sight_frames` held-out frame pairs a game tell how well the agent sees."""

    PLAYS: ClassVar[bool] = True  # whether what is trained can play on the way

    loop: LoopConfig = field(default_factory=LoopConfig)
    sight_frames: Size = 256
    seed: Seed = filled("seed", 0)

    @property
    def schedule(self) -> Schedule:
        """What it does, in turn."""
        raise TypeError(f"{type(self).__name__} must define schedule")

    @property
    def every_game(self) -> tuple[str, ...]:
        """The games that it learns from."""
        raise TypeError(f"{type(self).__name__} must define every_game")

    def keeps(self, step: int) -> bool:
        """Whether a checkpoint of that step is kept on the way, for a while at least."""
        items = unroll(self.schedule, self.loop.checkpoint_every, self.loop.evaluate_every)
        return any(isinstance(item, Keep) and item.start == step for item in items)

    def work(self, beside: Beside) -> Work:
        """Its steps, of these networks on batches like these."""
        total = total_steps(self.schedule)
        uses = [[phase.steps / total, plain(phase.uses)] for phase in phases_of(self.schedule)]
        return Work("steps", total, networks_named(beside) + canonical_json(uses))

    def reconfigured(self, networks: AgentConfig) -> AgentConfig:
        """The networks' config with what this training changes of it."""
        return networks

    def check_frozen(self, beside: Beside) -> None:
        """There are phases, which the networks' family knows, and the networks tell every game apart."""
        if not self.schedule:
            raise UsageError(f"Recipe '{beside.name}': {self.VERB} has no phase: give it at least one")
        if self.loop.evaluate_every and not self.PLAYS:
            raise UsageError(
                f"Recipe '{beside.name}': {self.VERB}.loop.evaluate_every is {self.loop.evaluate_every}, but nothing "
                "that this stage trains can play: set it for the train stage"
            )
        if (networks := networks_beside(beside)) is not None:
            verb = self.VERB if hasattr(self, "networks") else "pretrain"
            check_trainable(phases_of(self.schedule), self.reconfigured(networks), self.every_game, verb)
