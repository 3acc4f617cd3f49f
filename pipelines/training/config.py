"""Settings of a training run that do not depend on the family: the loop's, and how segments are imagined. No torch."""

from dataclasses import dataclass
from typing import Literal

from models.limits import Count, Natural, Weight
from pipelines.evaluation.player_settings import Precision
from pipelines.store.stage_config import manner, option, require


@dataclass(frozen=True)
class LoopConfig:
    """What every training run shares, whatever it optimises."""

    precision: Precision = "auto"  # bf16 where the processor multiplies it faster than float32
    log_every: Count = 10  # steps between rows of metrics.jsonl
    save_seconds: Weight = 60.0  # between resumable states; a kill loses at most this much work
    preload_bytes: Natural = 2 << 30  # frames are kept in memory when all games together fit into this
    holdout_episodes: Natural = 1  # last episodes of each game, kept from training to measure on
    workers: Natural = manner(0)  # processes that read ahead; batches are the same for any number
    device: Literal["auto", "cpu", "cuda"] = manner("auto")  # cuda insists on a GPU
    compile: Literal["auto", "on", "off"] = manner("auto")  # torch.compile of the transformer; auto: on a GPU
    shard: bool = manner(False)  # optimisers' states shared out over the ranks, for models that outgrow one GPU
    checkpoint_every: Natural = option(0)  # steps between kept checkpoints; 0 keeps none
    evaluate_every: Natural = option(0)  # steps between greedy plays of a kept checkpoint; 0 plays none
    evaluate_episodes: Count = option(16)  # of each game, all at once
    evaluate_steps: Natural = option(0)  # agent steps at which they are cut; 0 plays to the end
    keep_last: Count = option(5)
    keep_best: Natural = option(5)  # by mean return; of those that were played
    wandb: str = manner("")  # project of Weights & Biases to log to as well

    def __post_init__(self) -> None:
        require(self, "loop")


@dataclass(frozen=True)
class ImagineConfig:
    """How real segments are continued by the model itself (arXiv 2410.00564, imagined data)."""

    after: Natural = 20_000  # steps on real segments alone
    segments: Count = 16  # of each batch from then on, in place of as many real ones
    every: Count = 10  # steps between searches, each from as many real segments
    capacity: Count = 1_024  # newest imagined segments kept; 58 kB each
    width: Count = 2  # of the beam search
    horizon: Count = 2  # imagined steps at a segment's end

    def __post_init__(self) -> None:
        require(self, "imagine")
