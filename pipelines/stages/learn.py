"""Stage `world_model_agent`: an agent plays, learns a world model of what it saw, and practises inside it, in rounds.

A round plays `collect.steps` steps, then steps each objective of the family in turn; everything is a number of the
recipe. With collect.steps=0 nothing is played: the same objectives learn from the game's trajectories. What was played
stands in the artefact as trajectories.h5, which other stages read as they read any (`worldline import trajectories`).
A killed run goes on from its last state, bit for bit on a CPU: the unfinished game is played again from its seed.
Run: `worldline learn EXPERIMENT`.
"""

import shutil
from dataclasses import dataclass, field, replace
from functools import partial
from typing import TYPE_CHECKING, Any, ClassVar

from models.family import AgentConfig
from models.limits import Count, Seed
from models.registry import family_of
from models.spaces import Discrete
from pipelines.batches.memory import Draws, require_rules
from pipelines.environments import registry
from pipelines.environments.registry import actions, emulator_seeds, make, options, protocol, roots, spaces
from pipelines.errors import UsageError
from pipelines.evaluation.player_settings import ACTOR, PlayerSettings, SearchConfig
from pipelines.progress import say
from pipelines.store.artefact import Draft, Report
from pipelines.store.lineage import summed
from pipelines.store.ref import Ref
from pipelines.store.stage_config import Beside, filled, option, parent
from pipelines.store.store import Store
from pipelines.training.play_turns import CheckPlay, PlayTurns
from pipelines.training.schedule import Practice, Rounds, Sampling, Schedule, phases_of
from pipelines.training.training_config import TrainingConfig, check_phases

if TYPE_CHECKING:
    from models.api import Agent
    from pipelines.environments.registry import Environment
    from pipelines.training.collecting import Collector, Stage
    from pipelines.training.device import Device
    from pipelines.training.distributed.ranks import Ranks
    from pipelines.training.fit import Lesson

PRACTICE_SEED = 2_000_003  # of games in which an agent practises in place of a world model
STORED = ("downsample", "import", "shards")  # templates of a recipe that brings episodes
TEST_SEED = 1_000_019  # of the play on which a finished agent is measured: not that of its training, nor of its scores


@dataclass(frozen=True)
class LearnConfig(TrainingConfig):
    """Fresh networks, or those of an agent, learn one game in `rounds` rounds of play and practice.

    agent: whose weights the networks begin with, the address of a checkpoint of the same family, sizes and game; what
    else `networks` says of losses and imagination is the recipe's. world: what learned videos, from which the world
    model alone goes on. Segments that are longer than their episode are
    padded, and imagination that goes beyond the world model's steps goes on from its newest frame alone.

    sampling: the rule by which segments are drawn from episodes, of objectives that name none of their own; draws: its
    numbers (`batches.sampler`, `batches.memory`).
    """

    STAGE: ClassVar[str] = "world_model_agent"
    VERB: ClassVar[str] = "learn"
    CODE: ClassVar[str] = "1"
    OF_SOME: ClassVar[tuple[str, ...]] = ("sees",)

    game: str = filled("game", "")
    networks: AgentConfig = field(default_factory=AgentConfig, metadata={"inner": True})
    rounds: Count = 600
    uses: tuple[Practice, ...] = field(default=(), metadata={"inner": True})
    collect: PlayTurns = field(default_factory=PlayTurns)
    check: CheckPlay = field(default_factory=CheckPlay)
    sampling: Sampling = "episodes"
    draws: Draws = option(Draws())
    agent: Ref | None = parent(makes="agent", part="agent", given=True)
    trajectories: Ref | None = parent(makes="trajectories", when="offline")
    world: Ref | None = parent(makes="world", part="agent", added=True)

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.uses and self.networks.family:
            check_phases(phases_of(self.schedule), family_of(self.networks), self.networks)
            require_rules(self.rules, self.draws, self.networks, family_of(self.networks))

    @property
    def subject(self) -> str:
        return self.game

    @property
    def every_game(self) -> tuple[str, ...]:
        """The game."""
        return (self.game,)

    @property
    def offline(self) -> bool:
        """Whether nothing is played, and stored episodes are learned from."""
        return self.collect.steps == 0

    @property
    def schedule(self) -> Schedule:
        """Its rounds."""
        if not self.uses:
            return ()
        play = self.collect
        return (
            Rounds(
                "rounds",
                self.rounds,
                self.uses,
                collect=play.steps,
                epsilon=play.epsilon,
                until=play.until,
                evaluate_every=self.check.every,
                first_collect=play.first_steps,
                first_epsilon=play.first_epsilon,
            ),
        )

    @property
    def steps_played(self) -> int:
        """Steps that it plays in all its rounds; the last look at the agent is none of its learning."""
        play = self.collect
        turns = min(play.until, self.rounds) if play.until else self.rounds
        return turns * play.steps + (play.first_steps - play.steps if play.first_steps else 0)

    @property
    def rules(self) -> dict[str, str]:
        """By objective, how its segments are drawn."""
        return {use.name: self.sampling if use.sampling == "stage" else use.sampling for use in self.uses}

    def check_beside(self, beside: Beside) -> None:
        """Its networks fit each other, and a world that learns videos before."""
        watched = getattr(beside.template("pretrain_videos"), "world", None)
        try:
            for use in self.uses:
                self.networks.require_fit(self.networks.length(use.name) or 0)
            if watched is not None:
                self.networks.require_world(watched)
        except ValueError as error:
            raise UsageError(f"Recipe '{beside.name}': learn.{error}") from error

    def check_frozen(self, beside: Beside) -> None:
        """There is something to learn from, of the size that the networks see, and it can be played."""
        self._check_source(beside)
        registry.check_rules(self.game, protocol(self.check.protocol))
        if not self.offline:
            registry.check_rules(self.game, rules := protocol(self.collect.protocol))
            registry.check_budget(rules, self.steps_played, f"Recipe '{beside.name}'")
        if self.offline and self.trajectories is None:
            raise UsageError(
                f"Recipe '{beside.name}': learn.collect.steps is 0 and there are no trajectories to learn from: take a "
                "recipe that makes some (iris_offline), or set source=imported and import the game's"
            )
        super().check_frozen(beside)
        if not self.offline and self.networks.wants_mean_frame:
            raise UsageError(
                f"Recipe '{beside.name}': learn.weights.motion_gain weighs pixels against the mean of stored episodes, "
                "and an agent that plays has none: set it to 0, or learn.collect.steps=0"
            )
        shown = protocol(self.collect.protocol).frame
        if not self.offline and self.networks.takes.frame not in (None, shown):
            raise UsageError(
                f"Recipe '{beside.name}': '{self.collect.protocol}' shows frames of {shown} and the networks see "
                f"{self.networks.takes.frame} (height, width, colours): change learn.collect.protocol or learn.frame"
            )
        if not self.offline and (self.collect.rom_dir or self.collect.rom_md5):
            options(self.game, self.collect.rom_dir, self.collect.rom_md5)

    def _check_source(self, beside: Beside) -> None:
        """It plays, or it learns from what is stored: nothing that is asked for may have no effect."""
        if self.offline and self.collect.first_steps:
            raise UsageError(
                f"Recipe '{beside.name}': learn.collect.first_steps is {self.collect.first_steps} and "
                "learn.collect.steps 0, which plays nothing: set both, or leave first_steps out"
            )
        if not self.offline and any(beside.template(verb) is not None for verb in STORED):
            raise UsageError(
                f"Recipe '{beside.name}': learn.collect.steps is {self.collect.steps}, and an agent that plays learns "
                f"from its own play alone, yet the recipe brings trajectories: set learn.collect.steps=0, or take a "
                "recipe that brings none (iris)"
            )


def run(config: LearnConfig, store: Store) -> Report:
    """Learn, or find the artefact; with torchrun on all its ranks. A killed run resumes.

    Raises UsageError where the agent and those that it goes on from would play more than the rules allow.
    """
    from pipelines.training.distributed.ranks import produce

    def build(draft: Draft, ranks: "Ranks") -> None:
        if config.agent is not None and not config.offline:
            before = summed(store, config.agent, config.STAGE, "frames")
            who = f"With what {config.agent} played before it, this agent"
            registry.check_budget(protocol(config.collect.protocol), before + config.steps_played, who)
        _build(config, draft, ranks)

    return produce(store, config.spec(), build)


def _build(config: LearnConfig, draft: Draft, ranks: "Ranks") -> None:
    import torch

    from pipelines.batches.loader import SegmentSource
    from pipelines.training.device import pick
    from pipelines.training.diagnostics import foresight
    from pipelines.training.fit import fit, say_missing

    device = pick(config.loop.precision, config.loop.device)
    torch.manual_seed(ranks.seed(config.seed))
    agent = _agent(config, draft, device)
    if ranks.first:
        start = str(config.agent) if config.agent is not None else ""
        draft.metrics |= say_missing(agent, tuple(use.name for use in config.uses), f"Learn {config.game}", start)
    lesson = _stored(config, draft) if config.offline else _played(config, draft)
    fit(agent, lesson, draft, device, ranks)
    if not ranks.first:
        return
    if config.offline:
        (source,) = lesson.sources
        assert isinstance(source, SegmentSource)
        draft.metrics["foresight"] = foresight(agent, source, lesson.unseen[source.name], device)
    else:
        _leave_experience(config, draft)
        _measure(config, draft, agent, device)


def _agent(config: LearnConfig, draft: Draft, device: "Device") -> "Agent":
    """Networks for the game's own actions: fresh ones, or with the weights of the agent that the config starts from."""
    import torch

    from pipelines.training.checkpoints import load_agent, take_weights, take_world

    networks, space = config.networks, actions(config.game)
    if hasattr(networks, "actions") and isinstance(space, Discrete):
        own: Any = {"actions": space.own(config.game)}
        networks = replace(networks, **own)
    agent = family_of(networks).build(networks, config.seed)
    if config.agent is not None:
        take_weights(
            agent, load_agent(draft.parents[config.agent], device), f"{config.agent}, which learn.agent names,"
        )
    if config.world is not None:
        take_world(agent, load_agent(draft.parents[config.world], device), f"{config.world}, which learned videos,")
    for network in agent.networks.values():
        network.to(torch.device(device.name))
    return agent


def _played(config: LearnConfig, draft: Draft) -> "Lesson":
    """Learning from what the agent plays itself."""
    from pipelines.training.collecting import Collector
    from pipelines.training.drawing import Drawing
    from pipelines.training.fit import Lesson

    stage = _stage(config, config.collect.protocol, config.collect.environments, config.seed)
    experience = stage.experience(draft.scratch / "experience")
    draft.roots.append(roots(config.game, stage.rules, **stage.options))

    def collector(agent: "Agent", device: "Device") -> "Collector":
        play = config.collect
        piece = partial(device.piece, "play")
        return Collector(agent, stage, experience, play.temperature, piece, play.truncation_ends)

    def emulators(first: int, rows: int) -> "Environment":
        seeds = emulator_seeds(PRACTICE_SEED + config.seed, first + rows)[first:]
        return make(config.game, seeds, stage.rules, 1, **stage.options)

    return Lesson(
        **_common(config),
        sources=(),
        measured=(),
        unseen={},
        spaces=spaces(config.game, stage.rules),
        drawing=Drawing(experience, config.seed, config.rules, config.draws, growing=experience),
        collector=collector,
        emulators=emulators,
    )


def _stored(config: LearnConfig, draft: Draft) -> "Lesson":
    """Learning from stored trajectories, without the held-out episodes."""
    import numpy as np

    from pipelines.batches.loader import SegmentSource
    from pipelines.batches.segments import Segmentation
    from pipelines.episodes.trajectories import FILE_NAME, Trajectories
    from pipelines.training import inputs
    from pipelines.training.drawing import Drawing
    from pipelines.training.fit import Lesson

    assert config.trajectories is not None, "check_frozen asks for them"
    data = Trajectories(draft.parents[config.trajectories].source(FILE_NAME))
    kept = inputs.held_out_from(data.game, data.num_episodes, config.loop.holdout_episodes)
    source = SegmentSource(data, Segmentation(data.episode_starts, 1, 1, "right").first_episodes(kept))
    longest = int(np.diff(data.episode_starts[: kept + 1]).max())
    padded = [use.name for use in config.uses if (config.networks.length(use.name) or 0) > longest]
    if padded:
        say(
            f"Learn {config.game}: no episode is longer than {longest} steps, so all segments of "
            f"{', '.join(padded)} are padded"
        )
        draft.metrics["all_padded"] = padded
    size = source.rows * int(data.frames(0, 1).nbytes)
    memory = data.frames(0, source.rows) if size <= config.loop.preload_bytes else None
    return Lesson(
        **_common(config),
        sources=(source,),
        measured=(source,),
        unseen={source.name: data.num_episodes - kept},
        drawing=Drawing(data, config.seed, config.rules, config.draws, kept, memory),
    )


def _common(config: LearnConfig) -> dict[str, Any]:
    check = config.check
    # The last player is the one whose returns say which checkpoint is best.
    search = SearchConfig(temperature=check.temperature) if check.temperature else SearchConfig()
    planner = ACTOR if check.temperature else "greedy"
    player = PlayerSettings(planner, check.episodes, check.max_steps, 1, 0.0, search=search)
    return {
        "title": f"Learn {config.game}",
        "schedule": config.schedule,
        "loop": config.loop,
        "games": config.every_game,
        "sight_frames": config.sight_frames,
        "seed": config.seed,
        "player": player,
        "rules": protocol(check.protocol),
    }


def _stage(config: LearnConfig, rules: str, environments: int, seed: Seed) -> "Stage":
    from pipelines.training.collecting import Stage

    given = options(config.game, config.collect.rom_dir, config.collect.rom_md5)
    return Stage(config.game, protocol(rules), environments, seed, given)


def _leave_experience(config: LearnConfig, draft: Draft) -> None:
    """What was played, as a file of trajectories that is a part of the artefact."""
    from pipelines.episodes.trajectories import FILE_NAME

    stage = _stage(config, config.collect.protocol, config.collect.environments, config.seed)
    experience = stage.experience(draft.scratch / "experience")
    digest = experience.pack_into(draft.path(FILE_NAME))
    draft.part("frames", digest=digest)
    draft.part("experience", [FILE_NAME])
    draft.counts |= {"frames": len(experience), "episodes": experience.num_episodes}


def _measure(config: LearnConfig, draft: Draft, agent: "Agent", device: "Device") -> None:
    """How well the agent sees what it has never seen: fresh play under the rules of its checks."""
    if not config.check.steps:
        return
    from pipelines.batches.loader import SegmentSource
    from pipelines.batches.segments import Segmentation
    from pipelines.training.collecting import Collector
    from pipelines.training.diagnostics import foresight
    from pipelines.training.fit import examine

    stage = _stage(config, config.check.protocol, 1, TEST_SEED + config.seed)
    shutil.rmtree(draft.scratch / "test", ignore_errors=True)  # of a run that was killed here
    fresh = stage.experience(draft.scratch / "test")
    player = Collector(agent, stage, fresh, config.check.temperature, partial(device.piece, "play"))
    player.play(0, config.check.steps, 0.0)
    player.close()
    source = SegmentSource(fresh, Segmentation(fresh.episode_starts, 1, 1, "right"))
    examine(draft, agent, [source], {source.name: fresh.num_episodes}, config.sight_frames, device)
    draft.metrics["foresight"] = foresight(agent, source, fresh.num_episodes, device)
