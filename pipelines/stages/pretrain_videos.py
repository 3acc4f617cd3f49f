"""Stage `video_pretrained`: a world model learns from videos, in which nobody says what was done.

What it learned is taken over by an agent that plays (`world_model_agent`): its encoder, its decoder and its state-space
model. The last videos are held out; on them it is measured what it foresees (`training/foreseeing.py`).
Run: `worldline pretrain-videos EXPERIMENT`.
"""

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Annotated, ClassVar

from models.family import AgentConfig
from models.limits import Within
from models.registry import family_of
from pipelines.errors import UsageError
from pipelines.store.artefact import Draft, Report
from pipelines.store.ref import Ref
from pipelines.store.stage_config import Beside, filled, parent
from pipelines.store.store import Store
from pipelines.training.schedule import Phase, Schedule
from pipelines.training.training_config import TrainingConfig, check_phases

if TYPE_CHECKING:
    from pipelines.training.distributed.ranks import Ranks


@dataclass(frozen=True)
class PretrainVideosConfig(TrainingConfig):
    """Fresh networks of the config `world` learn videos in phases. `sight_frames` bounds the held-out videos looked at.

    `foreseen` steps of a held-out video are looked at, the first five of which are shown.
    """

    STAGE: ClassVar[str] = "video_pretrained"
    VERB: ClassVar[str] = "pretrain_videos"
    CODE: ClassVar[str] = "1"
    CHECKS: ClassVar[tuple[str, ...]] = ("sees",)
    PLAYS: ClassVar[bool] = False

    name: str = filled("name", "")
    world: AgentConfig = field(default_factory=AgentConfig, metadata={"inner": True})
    phases: tuple[Phase, ...] = field(default=(), metadata={"inner": True})
    foreseen: Annotated[int, Within(least=6, most=1_000)] = 25
    videos: Ref | None = parent(makes="videos")

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.world.family:
            check_phases(self.phases, family_of(self.world), self.world)

    @property
    def subject(self) -> str:
        return self.name

    @property
    def every_game(self) -> tuple[str, ...]:
        """None: videos are of no game."""
        return ()

    @property
    def schedule(self) -> Schedule:
        """Its phases, in turn."""
        return self.phases

    def check_frozen(self, beside: Beside) -> None:
        """There are videos, and the family can learn them."""
        super().check_frozen(beside)
        if self.videos is None:
            raise UsageError(
                f"Recipe '{beside.name}': pretrain_videos has no videos to learn from: give the recipe a stage 'videos'"
            )
        if not self.world.watches:
            raise UsageError(
                f"Recipe '{beside.name}': pretrain_videos.world of the family '{self.world.family}' reads the actions "
                "of play, and videos have none: set pretrain_videos.reads=video or nothing"
            )


def run(config: PretrainVideosConfig, store: Store) -> Report:
    """Learn, or find the artefact. A killed run resumes."""
    from pipelines.training.distributed.ranks import produce

    return produce(store, config.spec(), lambda draft, ranks: _build(config, draft, ranks))


def _build(config: PretrainVideosConfig, draft: Draft, ranks: "Ranks") -> None:
    import torch

    from models.worlds import Foresees
    from pipelines.episodes.trajectories import OF_VIDEOS, Trajectories
    from pipelines.episodes.videos.video_set import VIDEOS
    from pipelines.training import foreseeing
    from pipelines.training.device import pick
    from pipelines.training.drawing import Drawing
    from pipelines.training.fit import Lesson, fit
    from pipelines.training.inputs import held_out_from

    assert config.videos is not None, "check_frozen asks for them"
    device = pick(config.loop.precision, config.loop.device)
    torch.manual_seed(ranks.seed(config.seed))
    agent = family_of(config.world).build(config.world, config.seed)
    for network in agent.networks.values():
        network.to(torch.device(device.name))
    data = Trajectories(draft.parents[config.videos].source(VIDEOS))
    kept = held_out_from(OF_VIDEOS, data.num_episodes, config.loop.holdout_episodes)
    rows = int(data.episode_starts[kept])
    fits = rows * int(data.frames(0, 1).nbytes) <= config.loop.preload_bytes
    lesson = Lesson(
        title="Pretrain on videos",
        schedule=config.phases,
        loop=config.loop,
        games=(),
        sources=(),
        measured=(),
        unseen={},
        sight_frames=config.sight_frames,
        seed=config.seed,
        plays=False,
        drawing=Drawing(data, config.seed, kept=kept, memory=data.frames(0, rows) if fits else None),
    )
    fit(agent, lesson, draft, device, ranks)
    if not ranks.first:
        return
    draft.counts |= {"videos": kept, "frames": rows, "held_out_videos": data.num_episodes - kept}
    assert isinstance(agent, Foresees), "a family that watches videos foresees them"
    most, folder = config.sight_frames, draft.folder
    found = foreseeing.measure(agent, data, kept, config.foreseen, most, device, folder)
    told = f"no held-out video has {config.foreseen} frames" if found is None else str(found)
    draft.check("sees", found is not None and found.beats_baselines, told)
    draft.metrics["foreseen"] = {} if found is None else found.to_metrics()
