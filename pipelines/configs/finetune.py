"""Config of the stage `finetuned`: a checkpoint that goes on learning from a few good episodes of one game."""

from dataclasses import dataclass, field
from typing import ClassVar, Literal

from pipelines.configs.base import StageConfig, manner, option
from pipelines.configs.learn import OBJECTIVES, LoopConfig, PhaseConfig, check_phases, check_sight_frames
from pipelines.errors import UsageError
from pipelines.store.ref import Ref


@dataclass(frozen=True)
class ImagineConfig:
    """How real segments are continued by the model itself (arXiv 2410.00564, imagined data)."""

    after: int = 20_000  # steps on real segments alone
    segments: int = 16  # of each batch from then on, in place of as many real ones
    every: int = 10  # steps between searches, each from as many real segments
    capacity: int = 1_024  # newest imagined segments kept; 58 kB each
    width: int = 2  # of the beam search
    horizon: int = 2  # imagined steps at a segment's end

    def __post_init__(self) -> None:
        if min(self.segments, self.every, self.capacity, self.width, self.horizon) < 1 or self.after < 0:
            raise UsageError(
                f"Imagination with segments {self.segments}, every {self.every}, capacity {self.capacity}, width "
                f"{self.width}, horizon {self.horizon}, after {self.after} is impossible: after must be at least 0, "
                "the others 1"
            )


@dataclass(frozen=True)
class FinetuneConfig(StageConfig):
    """Tokenizer, world model and Q head learn on together. The numbers are the paper's."""

    STAGE: ClassVar[str] = "finetuned"
    CODE: ClassVar[str] = "3"
    CHECKS: ClassVar[tuple[str, ...]] = ("sees",)

    game: str
    episodes: int = 4  # those of the highest return among the game's trajectories
    stride: int = 1
    phases: tuple[PhaseConfig, ...] = (
        PhaseConfig("expert", ("tokenizer", "world_action"), steps=50_000, segments=32, frames=128, lr_model=5e-5),
    )
    world_weight: float = 0.5  # of the world model's terms beside TD and its penalty
    penalty: Literal["", "cql", "combo"] = option("")  # from here on; none goes on with the checkpoint's own
    imagine: ImagineConfig | None = None
    # What the tokenizer was trained with goes on.
    commitment: float = 1.0
    motion_gain: float = 0.0
    random_shift: int = 0
    lpips_sha256: str = ""
    lpips_file: str = manner("")
    lpips_weight: float = 1.0
    loop: LoopConfig = field(default_factory=LoopConfig)
    sight_frames: int = 256
    seed: int = 0
    checkpoint: Ref | None = None  # a world_action_model, or what was imported
    pretrained: Ref | None = None  # its tokenizer, where the checkpoint does not hold that itself
    trajectories: Ref | None = None

    def __post_init__(self) -> None:
        check_sight_frames(self.sight_frames)
        check_phases(self.phases, OBJECTIVES)
        if self.episodes < 1 or self.stride < 1 or self.world_weight < 0:
            raise UsageError(
                f"Fine-tuning on {self.episodes} episodes with stride {self.stride} and world_weight "
                f"{self.world_weight} is impossible: episodes and stride must be at least 1, world_weight 0"
            )

    @property
    def subject(self) -> str:
        return self.game
