"""Stage `pretrained`: tokenizer and world model, learned from frames (JOWA's stage 1).

Measures sight on held-out play: reconstruction and next-frame error on changing pixels, next to baselines.
Run: `worldline pretrain EXPERIMENT`.
"""

from dataclasses import dataclass, field, replace
from pathlib import Path

import torch
from torch import nn

from models.api import Losses
from models.jowa.loss import world_loss
from models.jowa.model import Jowa
from models.tokenizers.codebook import EMA
from models.tokenizers.vq import Tokenizer
from pipelines.batches.batch import BatchSource
from pipelines.batches.loader import FrameLoader, SegmentLoader, SegmentSource
from pipelines.store.artefact import Draft, Report
from pipelines.store.store import Store
from pipelines.training import checkpoints as checkpoint
from pipelines.training.checkpoints import Keeper
from pipelines.training.config import PhaseConfig, PretrainConfig
from pipelines.training.device import Device, compile_for, pick
from pipelines.training.distributed.produce import produce
from pipelines.training.distributed.ranks import ALONE, Ranks
from pipelines.training.distributed.shard import Share
from pipelines.training.inputs import sources, to_batch
from pipelines.training.loop import train
from pipelines.training.prefetch import Feed, Parts
from pipelines.training.results import record
from pipelines.training.tokenizer_objective import TokenizerObjective


def run(config: PretrainConfig, store: Store) -> Report:
    """Train stage 1 of a recipe, or find its artefact; with torchrun on all its ranks. A killed run resumes."""
    return produce(store, config.spec(), lambda draft, ranks: _build(config, draft, ranks))


def _build(config: PretrainConfig, draft: Draft, ranks: Ranks) -> None:
    device = pick(config.loop.precision, config.loop.device)
    torch.manual_seed(ranks.seed(config.seed))
    data = sources(
        [draft.parents[ref] for ref in config.trajectories],
        [draft.parents[ref] for ref in config.segments],
        config.loop.holdout_episodes,
        [],
        draft.scratch,
    )
    task = Pretraining(config, data, device, ranks)
    compile_for(device, task.model, config.loop.compile)
    keeper = Keeper(draft.scratch, config.loop, task.save, ranks=ranks)
    train(task, config.phases, config.loop, draft.path("metrics.jsonl"), draft.scratch, "Pretrain", ranks, keeper)
    if ranks.first:
        record(draft, task, task.tokenizer, config, data, device)
        draft.counts["games"] = len(data)


@dataclass
class Pretraining:
    """The task of stage 1 for the training loop."""

    config: PretrainConfig
    sources: list[SegmentSource]
    device: Device
    ranks: Ranks = ALONE
    tokenizer: Tokenizer = field(init=False)
    model: Jowa = field(init=False)
    modules: dict[str, nn.Module] = field(init=False)

    def __post_init__(self) -> None:
        target = torch.device(self.device.name)
        self.tokenizer = Tokenizer(self.config.tokenizer, seed=self.config.seed).to(target)
        self.model = Jowa(self.config.model, seed=self.config.seed).to(target)
        self.modules = {"tokenizer": self.tokenizer, "model": self.model}
        if isinstance(self.tokenizer.embedding, EMA):
            self.tokenizer.embedding.gather = self.ranks.gather
        self._tokenizer_losses = TokenizerObjective(self.config, self.sources, self.device)
        self._loaders: dict[int, SegmentLoader] = {}
        self._feeds: dict[PhaseConfig, Feed] = {}
        self._fed: tuple[int, Parts] = (-1, {})

    def losses(self, phase: PhaseConfig, step: int, part: int = 0) -> dict[str, Losses]:
        """The tokenizer's loss on single frames, the world model's on segments of the tokens it gives now."""
        found: dict[str, Losses] = {}
        share = Share(self.ranks, part, phase.accumulate)
        if part == 0:
            self._fed = step, self._feed(phase).batch(step)
        at, fed = self._fed
        assert at == step, "parts are asked for in order"
        if "tokenizer" in phase.objectives:
            found["tokenizer"] = self._tokenizer_losses(self.tokenizer, fed["frames"], step, share)
        if "world" in phase.objectives:
            batch, counts = share.counted(to_batch(fed["segments"]), self.model.config.tokens_per_frame)
            assert batch.frames_uint8_BTHW is not None, "this loader reads frames"
            with self.device.autocast():
                tokens = self.tokenizer.encode_tokens(batch.frames_uint8_BTHW)
                found["world"] = world_loss(self.model, replace(batch, tokens_BTK=tokens), counts)
        return found

    def after_step(self, phase: PhaseConfig, step: int) -> None:
        """Nothing follows a step of stage 1: it has no target network."""

    def tokens(self, phase: PhaseConfig) -> int:
        """Those of the tokenizer's frames, and of the transformer's sequences."""
        sizes = self.model.config
        frames = phase.frames * sizes.tokens_per_frame if "tokenizer" in phase.objectives else 0
        return frames + ("world" in phase.objectives) * phase.segments * sizes.max_steps * (sizes.tokens_per_frame + 1)

    def save(self, folder: Path) -> None:
        """Both networks."""
        checkpoint.save(folder / checkpoint.TOKENIZER, self.tokenizer, self.config.tokenizer)
        checkpoint.save(folder / checkpoint.MODEL, self.model, self.config.model)

    def _feed(self, phase: PhaseConfig) -> Feed:
        """The batches that the phase's objectives ask for; the feed of the phase before ends with its workers."""
        if phase not in self._feeds:
            loader = self._loader(phase.segments)
            read: dict[str, BatchSource] = {}
            if "tokenizer" in phase.objectives:
                read["frames"] = FrameLoader(loader, phase.frames)
            if "world" in phase.objectives:
                read["segments"] = loader
            ranks = self.ranks
            feed = Feed(read, self.device, self.config.loop.workers, rank=ranks.rank, world=ranks.world)
            self._feeds = {phase: feed}
        return self._feeds[phase]

    def _loader(self, segments: int) -> SegmentLoader:
        """The loader of the phase's batch size; the one of the phase before is let go with its frames."""
        if segments not in self._loaders:
            preload = self.config.loop.preload_bytes
            steps = self.model.config.max_steps
            loader = SegmentLoader(self.sources, segments, self.config.seed, steps, preload_bytes=preload)
            self._loaders = {segments: loader}
        return self._loaders[segments]
