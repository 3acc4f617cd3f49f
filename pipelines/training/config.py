"""What training is told: phases, the loop's settings, and the configs of the training stages. Imports no torch."""

from dataclasses import dataclass, field
from typing import ClassVar, Literal

from models.jowa.config import JowaConfig
from models.tokenizers.config import TokenizerConfig
from pipelines.errors import UsageError
from pipelines.store.ref import Ref
from pipelines.store.stage_config import StageConfig, manner, option

OBJECTIVES = ("tokenizer", "world", "world_action")

PRECISIONS = ("auto", "float32", "bf16")

DEVICES = ("auto", "cpu", "cuda")

COMPILES = ("auto", "on", "off")


@dataclass(frozen=True)
class PhaseConfig:
    """A stretch of training with fresh optimisers: what is optimised, for how long, on how much.

    `objectives` names the losses that are stepped together; `frames` is the tokenizer's batch, `segments` the
    transformer's; both are taken in `accumulate` parts, one after the other, where memory is short. Learning rates rise
    linearly over `warmup` steps and, if `decay`, fall to a tenth by a cosine.
    """

    name: str
    objectives: tuple[str, ...]
    steps: int
    segments: int = 512
    frames: int = 2048
    lr_tokenizer: float = 1e-4
    lr_model: float = 1e-4
    weight_decay: float = 0.01
    clip: float = 1.0
    warmup: int = 0
    decay: bool = False
    target_every: int = 1000
    accumulate: int = option(1)

    def __post_init__(self) -> None:
        wrong = [name for name in self.objectives if name not in OBJECTIVES]
        if wrong or not self.objectives:
            raise UsageError(f"Phase '{self.name}' has objectives {self.objectives}: choose from {OBJECTIVES}")
        if {"world", "world_action"} <= set(self.objectives):
            raise UsageError(f"Phase '{self.name}': 'world_action' contains 'world', name one of them")
        if min(self.steps, self.segments, self.frames, self.target_every, self.accumulate) < 1:
            raise UsageError(
                f"Phase '{self.name}' has {self.steps} steps, {self.segments} segments, {self.frames} frames, "
                f"target_every {self.target_every}, accumulate {self.accumulate}: each must be at least 1"
            )
        if self.accumulate > self.rows:
            raise UsageError(
                f"Phase '{self.name}' takes batches of {self.rows} in {self.accumulate} parts: lower its accumulate"
            )
        if min(self.lr_tokenizer, self.lr_model, self.clip) <= 0 or min(self.weight_decay, self.warmup) < 0:
            raise UsageError(
                f"Phase '{self.name}' has lr_tokenizer {self.lr_tokenizer}, lr_model {self.lr_model}, clip {self.clip} "
                f"(each must be above 0), weight_decay {self.weight_decay}, warmup {self.warmup} (at least 0)"
            )

    @property
    def rows(self) -> int:
        """The smallest batch that it takes: no more ranks and parts can share a step."""
        sizes = {"tokenizer": self.frames, "world": self.segments, "world_action": self.segments}
        return min(sizes[name] for name in self.objectives)


@dataclass(frozen=True)
class LoopConfig:
    """What every training run shares, whatever it optimises."""

    precision: str = "auto"  # bf16 where the processor multiplies it faster than float32
    log_every: int = 10  # steps between rows of metrics.jsonl
    save_seconds: float = 60.0  # between resumable states; a kill loses at most this much work
    preload_bytes: int = 2 << 30  # frames are kept in memory when all games together fit into this
    holdout_episodes: int = 1  # last episodes of each game, kept from training to measure on
    workers: int = manner(0)  # processes that read ahead; batches are the same for any number
    device: str = manner("auto")  # cuda insists on a GPU
    compile: str = manner("auto")  # torch.compile of the transformer: auto is on where a GPU is
    shard: bool = manner(False)  # optimisers' states shared out over the ranks, for models that outgrow one GPU
    checkpoint_every: int = option(0)  # steps between kept checkpoints; 0 keeps none
    evaluate_every: int = option(0)  # steps between greedy plays of a kept checkpoint; 0 plays none
    evaluate_episodes: int = option(16)  # of each game, all at once
    evaluate_steps: int = option(0)  # agent steps at which they are cut; 0 plays to the end
    keep_last: int = option(5)
    keep_best: int = option(5)  # by mean return; of those that were played
    wandb: str = manner("")  # project of Weights & Biases to log to as well

    def __post_init__(self) -> None:
        check_precision(self.precision)
        for name, value, known in (("device", self.device, DEVICES), ("compile", self.compile, COMPILES)):
            if value not in known:
                raise UsageError(f"loop.{name} '{value}' is unknown: choose from {', '.join(known)}")
        least = dict.fromkeys(("save_seconds", "preload_bytes", "holdout_episodes", "workers"), 0)
        least |= dict.fromkeys(("checkpoint_every", "evaluate_every", "evaluate_steps", "keep_best"), 0)
        least |= {"log_every": 1, "evaluate_episodes": 1, "keep_last": 1}
        wrong = {name: least[name] for name in least if getattr(self, name) < least[name]}
        if wrong:
            raise UsageError(
                "A loop with "
                + ", ".join(f"{name} {getattr(self, name)} (at least {low})" for name, low in wrong.items())
                + " is impossible"
            )


@dataclass(frozen=True)
class TrainingConfig(StageConfig):
    """What both training stages share. `name` is the recipe's, and the artefact's folder."""

    CHECKS: ClassVar[tuple[str, ...]] = ("sees",)
    TRAINS: ClassVar[tuple[str, ...]] = OBJECTIVES

    name: str = ""
    games: tuple[str, ...] = ()
    phases: tuple[PhaseConfig, ...] = ()
    loop: LoopConfig = field(default_factory=LoopConfig)
    sight_frames: int = 256  # held-out frame pairs per game on which sight is measured
    seed: int = 0

    def __post_init__(self) -> None:
        check_sight_frames(self.sight_frames)
        check_phases(self.phases, self.TRAINS)

    @property
    def subject(self) -> str:
        return self.name


@dataclass(frozen=True)
class PretrainConfig(TrainingConfig):
    """Stage 1: tokenizer and world model on frames."""

    STAGE: ClassVar[str] = "pretrained"
    CODE: ClassVar[str] = "3"
    TRAINS: ClassVar[tuple[str, ...]] = ("tokenizer", "world")

    trajectories: tuple[Ref, ...] = ()
    segments: tuple[Ref, ...] = ()
    tokenizer: TokenizerConfig = field(default_factory=TokenizerConfig)
    model: JowaConfig = field(default_factory=JowaConfig)
    commitment: float = 1.0
    motion_gain: float = 0.0  # extra weight of pixels off the game's background; 0 is the original's objective
    random_shift: int = 0  # pixels of augmentation for the tokenizer's frames
    lpips_sha256: str = option("")  # of a file with LPIPS weights; none leaves the perceptual term out
    lpips_file: str = manner("")  # where that file lies
    lpips_weight: float = option(1.0)

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.tokenizer.quantizer == "ema":
            check_whole_batches(self.phases)


@dataclass(frozen=True)
class TrainConfig(TrainingConfig):
    """Stage 2: the world-action model on tokens; frames are not touched again."""

    STAGE: ClassVar[str] = "world_action_model"
    CODE: ClassVar[str] = "3"
    TRAINS: ClassVar[tuple[str, ...]] = ("world", "world_action")

    pretrained: Ref | None = None
    tokens: tuple[Ref, ...] = ()
    segments: tuple[Ref, ...] = ()
    trajectories: tuple[Ref, ...] = ()  # only to measure the next-frame error on held-out frames


def check_phases(phases: tuple[PhaseConfig, ...], known: tuple[str, ...]) -> None:
    """Raises UsageError for an objective that is none of `known`, the stage's, and for two phases of one name."""
    for phase in phases:
        if wrong := [name for name in phase.objectives if name not in known]:
            raise UsageError(
                f"Phase '{phase.name}' has objective '{wrong[0]}', which its stage does not train: choose from "
                f"{', '.join(known)}"
            )
    names = [phase.name for phase in phases]
    if len(set(names)) < len(names):
        raise UsageError(f"Phases {', '.join(names)} share a name: give each one of its own")


def check_whole_batches(phases: tuple[PhaseConfig, ...]) -> None:
    """Raises UsageError for phases that take a tokenizer with an EMA codebook through their batches in parts."""
    for phase in phases:
        if phase.accumulate > 1 and "tokenizer" in phase.objectives:
            raise UsageError(
                f"Phase '{phase.name}' has accumulate {phase.accumulate}, but an EMA codebook follows whole batches: "
                "set it to 1 and take more ranks, or quantizer=straight_through"
            )


def check_precision(name: str) -> None:
    """Raises UsageError for a precision that is none of PRECISIONS."""
    if name not in PRECISIONS:
        raise UsageError(f"Precision '{name}' is unknown: choose from {', '.join(PRECISIONS)}")


def check_sight_frames(count: int) -> None:
    """Raises UsageError when sight would be measured on nothing."""
    if count < 1:
        raise UsageError(f"Measuring sight on {count} frames is impossible: sight_frames must be at least 1")


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
