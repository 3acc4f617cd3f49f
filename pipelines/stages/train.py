"""Stages `pretrained`, `world_action_model` and `finetuned`: an agent learns from stored data, in phases.

They differ in what they start from and in what they read. `pretrained` builds the networks and learns from frames;
`world_action_model` goes on with them on tokens; `finetuned` goes on with any agent on the best episodes of one game,
some of whose segments the model may continue itself. What the phases train, and on what, the model family says.
Run: `worldline pretrain EXPERIMENT`, `worldline train EXPERIMENT`, `worldline finetune EXPERIMENT --game Pong`.
"""

from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any, ClassVar, Literal, Self, cast

from models.family import AgentConfig
from models.limits import Count, Size, Weight
from models.registry import family_of
from pipelines.environments.registry import game_named
from pipelines.errors import UsageError
from pipelines.store.artefact import Draft, Report
from pipelines.store.ref import Ref
from pipelines.store.stage_config import Beside, filled, manner, networks_beside, option, parent
from pipelines.store.store import Store
from pipelines.training.schedule import ImagineConfig, Phase, Schedule, Use
from pipelines.training.training_config import TrainingConfig, check_phases

if TYPE_CHECKING:
    from collections.abc import Sequence

    from models.api import Agent
    from pipelines.batches.loader import SegmentSource, Source
    from pipelines.store.profile import Profile
    from pipelines.training.device import Device
    from pipelines.training.distributed.ranks import Ranks


@dataclass(frozen=True)
class PhasesConfig(TrainingConfig):
    """A training in phases: what the three stages here share."""

    CHECKS: ClassVar[tuple[str, ...]] = ("sees",)

    phases: tuple[Phase, ...] = ()

    @property
    def schedule(self) -> Schedule:
        """Its phases, in turn."""
        return self.phases


@dataclass(frozen=True)
class PretrainConfig(PhasesConfig):
    """Fresh networks learn from frames. `name` is the recipe's, and the artefact's folder."""

    STAGE: ClassVar[str] = "pretrained"
    VERB: ClassVar[str] = "pretrain"
    CODE: ClassVar[str] = "4"
    PLAYS: ClassVar[bool] = False

    name: str = filled("name", "")
    games: tuple[str, ...] = filled("games", ())
    networks: AgentConfig = field(default_factory=AgentConfig, metadata={"inner": True})
    trajectories: tuple[Ref, ...] = parent(makes="trajectories", every="game")
    segments: tuple[Ref, ...] = parent("segments", every="game")
    shards: tuple[Ref, ...] = parent("imported_shards", every="game", added=True)

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.networks.family:
            check_phases(self.phases, family_of(self.networks), self.networks)

    @property
    def subject(self) -> str:
        return self.name

    @property
    def every_game(self) -> tuple[str, ...]:
        return self.games

    def check_beside(self, beside: Beside) -> None:
        """Networks must fit each other and the segments."""
        cut = beside.template("segment")
        try:
            self.networks.require_fit(int(getattr(cut, "length", 0)))
        except ValueError as error:
            raise UsageError(f"Recipe '{beside.name}': pretrain.{error}") from error

    def check_frozen(self, beside: Beside) -> None:
        """The networks see frames as they are stored."""
        super().check_frozen(beside)
        drawn = beside.template("downsample")
        stored, seen = getattr(drawn, "FRAME", None), self.networks.takes.frame
        from_logs = drawn is not None and any(ref.stage == drawn.STAGE for ref in self.trajectories)
        if from_logs and stored and seen and stored != seen:
            raise UsageError(
                f"Recipe '{beside.name}': pretrain's networks see frames of {seen} and replay has {stored} (height, "
                "width, colours): change the tokenizer's resolution and frame_channels"
            )


@dataclass(frozen=True)
class TrainConfig(PhasesConfig):
    """An agent goes on learning on tokens of all games; frames are read only to measure how well it sees.

    Shards hold no tokens: their frames are encoded as they come, by the agent's own tokenizer.
    """

    STAGE: ClassVar[str] = "world_action_model"
    VERB: ClassVar[str] = "train"
    CODE: ClassVar[str] = "4"

    name: str = filled("name", "")
    games: tuple[str, ...] = filled("games", ())
    agent: Ref | None = parent(makes="agent", part="agent")
    tokens: tuple[Ref, ...] = parent("tokens", every="game")
    segments: tuple[Ref, ...] = parent("segments", every="game")
    trajectories: tuple[Ref, ...] = parent(makes="trajectories", every="game")
    shards: tuple[Ref, ...] = parent("imported_shards", every="game", added=True)
    imagine: ImagineConfig | None = option(None)  # with model.penalty=combo, what it imagines is valued low too (COMBO)

    @property
    def subject(self) -> str:
        return self.name

    @property
    def every_game(self) -> tuple[str, ...]:
        return self.games

    def check_frozen(self, beside: Beside) -> None:
        """What is imagined fits into what the model sees."""
        super().check_frozen(beside)
        _check_imagined(self, self.imagine, beside)

    def check_beside(self, beside: Beside) -> None:
        """Some segments of a batch must be real."""
        _check_real(self, self.imagine, beside)


@dataclass(frozen=True)
class FinetuneConfig(PhasesConfig):
    """An agent learns on from the `episodes` of one game that have the highest return. The numbers are JOWA's.

    `world_weight` and `penalty` change what its losses weigh, from here on.
    """

    STAGE: ClassVar[str] = "finetuned"
    VERB: ClassVar[str] = "finetune"
    CODE: ClassVar[str] = "4"

    game: str = ""
    episodes: Count = 4
    stride: Size = 1
    phases: tuple[Phase, ...] = (
        Phase("expert", 50_000, (Use("tokenizer", 128), Use("world_action", 32, lr=5e-5))),
    )  # fmt: skip
    world_weight: Weight = 0.5  # of the world model's terms beside TD and its penalty
    penalty: Literal["", "cql", "combo"] = option("")  # none goes on with the agent's own
    imagine: ImagineConfig | None = None
    lpips_file: str = manner("")  # where the weights of the perceptual term lie, if the agent was trained with one
    recording: str = option("")  # address of what was played and kept, to learn from in place of the game's own data
    agent: Ref | None = parent(makes="agent", part="agent")
    trajectories: Ref | None = parent(makes="trajectories", when="of_the_game")

    @property
    def subject(self) -> str:
        return self.game

    @property
    def of_the_game(self) -> bool:
        """Whether it learns from the game's own trajectories."""
        return not self.recording

    def fill(self, values: dict[str, Any], beside: Beside) -> Self:
        """A recording becomes the parent in place of trajectories."""
        if self.recording:
            values = values | {"trajectories": Ref.parse(self.recording), "recording": ""}
        return super().fill(values, beside)

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.game:
            object.__setattr__(self, "game", game_named(self.game))

    @property
    def only_game(self) -> str:
        return self.game

    @property
    def every_game(self) -> tuple[str, ...]:
        return (self.game,)

    def reconfigured(self, networks: AgentConfig) -> AgentConfig:
        """Files of others lie where this config says."""
        given: dict[str, Any] = {"lpips_file": self.lpips_file}
        return replace(networks, **{name: value for name, value in given.items() if hasattr(networks, name)})

    def check_frozen(self, beside: Beside) -> None:
        """What is imagined fits into what the model sees."""
        super().check_frozen(beside)
        if self.trajectories is None:
            raise UsageError(
                f"Recipe '{beside.name}': finetune chooses among whole episodes, and source=shards has none: import "
                "the game's trajectories and set source=imported"
            )
        _check_imagined(self, self.imagine, beside)

    def check_beside(self, beside: Beside) -> None:
        """Some segments of a batch must be real."""
        _check_real(self, self.imagine, beside)


def _check_imagined(config: PhasesConfig, imagine: ImagineConfig | None, beside: Beside) -> None:
    """Raises UsageError where agents of a recipe cannot imagine so far, or not at all."""
    networks = networks_beside(beside)
    if networks is None or imagine is None:
        return
    if "beam" not in family_of(networks).planners:
        raise UsageError(f"Recipe '{beside.name}': agents of '{networks.family}' cannot imagine: leave imagine out")
    steps = networks.takes.steps
    if steps is not None and imagine.horizon >= steps:
        raise UsageError(
            f"Recipe '{beside.name}': {config.VERB}.imagine.horizon is {imagine.horizon} of the {steps} steps that "
            "the model sees: some must be real, lower it"
        )


def _check_real(config: PhasesConfig, imagine: ImagineConfig | None, beside: Beside) -> None:
    """Raises UsageError where no segment of a batch would be real."""
    for phase in config.phases if imagine else ():
        if imagine and imagine.segments >= phase.rows:
            raise UsageError(
                f"Recipe '{beside.name}': phase '{phase.name}' has batches of {phase.rows}, "
                f"{imagine.segments} of them imagined: some must be real, lower {config.VERB}.imagine.segments"
            )


def run(config: PhasesConfig, store: Store) -> Report:
    """Train, or find the artefact; with torchrun on all its ranks. A killed run resumes."""
    from pipelines.training.distributed.ranks import produce

    return produce(store, config.spec(), lambda draft, ranks: _build(config, draft, ranks, store.profile))


def _build(config: PhasesConfig, draft: Draft, ranks: "Ranks", profile: "Profile") -> None:
    import torch

    from pipelines.training.device import pick
    from pipelines.training.fit import Lesson, fit

    device = pick(config.loop.precision, config.loop.device)
    torch.manual_seed(ranks.seed(config.seed))
    agent = _agent(config, draft, device)
    sources, measured = _sources(config, draft, agent, ranks, profile)
    tuning = config if isinstance(config, FinetuneConfig) else None
    lesson = Lesson(
        title=f"{_TITLES[config.STAGE]} {tuning.game if tuning else ''}".strip(),
        schedule=config.phases,
        loop=config.loop,
        games=config.every_game,
        sources=sources,
        measured=measured,
        unseen={source.name: _unseen(config, draft, source) for source in measured},
        sight_frames=config.sight_frames,
        seed=config.seed,
        plays=config.PLAYS,
        imagine=None if isinstance(config, PretrainConfig) else cast("TrainConfig | FinetuneConfig", config).imagine,
    )
    # The best episodes are chosen among whole ones, which `best_sources` gives.
    draft.counts |= {"games": len(sources)} if tuning is None else _experts(cast("SegmentSource", sources[0]), draft)
    fit(agent, lesson, draft, device, ranks)


_TITLES = {"pretrained": "Pretrain", "world_action_model": "Train", "finetuned": "Fine-tune"}


def _agent(config: PhasesConfig, draft: Draft, device: "Device") -> "Agent":
    """Fresh networks, or those of the agent that the config starts from."""
    import torch

    from pipelines.training.checkpoints import load_agent

    if isinstance(config, PretrainConfig):
        agent = family_of(config.networks).build(config.networks, config.seed)
        for network in agent.networks.values():
            network.to(torch.device(device.name))
        return agent
    assert isinstance(config, TrainConfig | FinetuneConfig)
    if config.agent is None:
        raise UsageError(f"Training of {config.STAGE} starts from an agent: name its artefact")
    agent = load_agent(draft.parents[config.agent], device)
    if isinstance(config, FinetuneConfig):
        changes = {"world_weight": config.world_weight, "lpips_file": config.lpips_file}
        agent.reconfigure(**changes, **({"penalty": config.penalty} if config.penalty else {}))
    return agent


def _sources(
    config: PhasesConfig, draft: Draft, agent: "Agent", ranks: "Ranks", profile: "Profile"
) -> "tuple[Sequence[Source], Sequence[Source]]":
    """What is learned from, and what the result is measured on; held-out episodes are in neither's segments."""
    from pipelines.training import inputs

    holdout = config.loop.holdout_episodes
    if isinstance(config, FinetuneConfig):
        if config.trajectories is None:
            raise UsageError(f"Fine-tuning on {config.game} needs trajectories: name their artefact")
        # A search starts from segments whose newest steps are real, which are those that are padded on the left.
        padding = "right" if config.imagine is None else "left"
        data = draft.parents[config.trajectories]
        every, best = inputs.best_sources(data, config.episodes, agent.limits.steps, config.stride, padding, holdout)
        return [best], [every]
    assert isinstance(config, PretrainConfig | TrainConfig)
    if config.shards:
        listed = [draft.parents[ref] for ref in config.shards]
        streamed = inputs.shard_sources(listed, config.loop, agent.limits.steps, draft.scratch, profile)
        return streamed, streamed
    tokens = [draft.parents[ref] for ref in config.tokens] if isinstance(config, TrainConfig) else []
    if isinstance(config, TrainConfig) and config.agent is not None:
        inputs.check_tokens(tokens, draft.parents[config.agent])
    with ranks.first_alone():  # tokens are unpacked once
        found = inputs.sources(
            [draft.parents[ref] for ref in config.trajectories],
            [draft.parents[ref] for ref in config.segments],
            holdout,
            tokens,
            draft.scratch,
            config.loop.preload_bytes,
        )
    return found, found


def _unseen(config: PhasesConfig, draft: Draft, source: "Source") -> int:
    """How many of a game's last episodes no training saw: neither this one nor, of the same data, the agent's own."""
    from pipelines.training.inputs import held_out_from

    game = source.name
    unseen = source.episodes - held_out_from(game, source.episodes, config.loop.holdout_episodes)
    if isinstance(config, TrainConfig | FinetuneConfig) and config.agent is not None:
        before = draft.parents[config.agent].manifest
        read = (*config.shards, *config.trajectories) if isinstance(config, TrainConfig) else (config.trajectories,)
        ours = {str(ref) for ref in read if ref is not None and ref.subject == game}
        if ours & {parent.ref for parent in before.parents}:  # else it never saw these episodes, or is not known to
            recorded = before.metrics.get("sight", {}).get(game, {}).get("held_out_episodes", unseen)
            unseen = min(unseen, before.config["loop"]["holdout_episodes"], recorded)
    return unseen


def _experts(experts: "SegmentSource", draft: Draft) -> dict[str, int]:
    """How much the best episodes are, and what they returned."""
    returns = float(experts.trajectories.rewards.sum())
    draft.metrics["expert_clipped_return"] = returns / experts.trajectories.num_episodes
    return {
        "episodes": experts.trajectories.num_episodes,
        "frames": len(experts.trajectories),
        "segments": len(experts.segments),
        "imagined": 0,
    }
