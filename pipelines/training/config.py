"""Settings of a training run that do not depend on the family: the loop's, and how segments are imagined. No torch."""

from dataclasses import dataclass

from pipelines.errors import UsageError
from pipelines.evaluation.player_settings import check_precision
from pipelines.store.stage_config import manner, option

DEVICES = ("auto", "cpu", "cuda")
COMPILES = ("auto", "on", "off")


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


def check_sight_frames(count: int) -> None:
    """Raises UsageError when sight would be measured on nothing."""
    if count < 1:
        raise UsageError(f"Measuring sight on {count} frames is impossible: sight_frames must be at least 1")
