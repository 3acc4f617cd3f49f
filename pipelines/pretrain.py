"""Stage `pretrained`: tokenizer and world model, learned from frames (JOWA's stage 1).

Measures sight on held-out play: reconstruction and next-frame error on changing pixels, next to baselines.
Run: `worldline pretrain EXPERIMENT`.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace

import torch
from torch import Tensor, nn

from models.api import Losses
from models.jowa.model import Jowa
from models.jowa.objective import world_loss
from models.jowa.world import JowaWorld
from models.losses.vq import commitment, motion_weight, reconstruction_l1
from models.tokenizers.augment import random_shift
from models.tokenizers.vq import Tokenizer
from pipelines.configs.learn import PhaseConfig, PretrainConfig
from pipelines.plots import curves
from pipelines.replay.batch import BatchSource
from pipelines.replay.loader import FrameLoader, SegmentLoader, SegmentSource
from pipelines.store.draft import Draft
from pipelines.store.report import Report
from pipelines.store.store import Store
from pipelines.training import checkpoint, metrics
from pipelines.training.batches import sources, to_batch
from pipelines.training.device import Device, pick
from pipelines.training.examine import examine
from pipelines.training.feed import Feed
from pipelines.training.loop import train
from pipelines.training.perceptual import load_lpips
from pipelines.training.sight import mean_frame


def run(config: PretrainConfig, store: Store) -> Report:
    """Train stage 1 of a recipe, or find its artefact. A killed run resumes from its last saved state."""
    return store.produce(config.spec(), lambda draft: _build(config, draft))


def _build(config: PretrainConfig, draft: Draft) -> None:
    device = pick(config.loop.precision)
    torch.manual_seed(config.seed)
    data = sources(
        [draft.parents[ref] for ref in config.trajectories],
        [draft.parents[ref] for ref in config.segments],
        config.loop.holdout_episodes,
        [],
        draft.scratch,
    )
    task = Pretraining(config, data, device)
    train(task, config.phases, config.loop, draft.path("metrics.jsonl"), draft.scratch, "Pretrain")
    checkpoint.save(draft.path(checkpoint.TOKENIZER), task.tokenizer, config.tokenizer)
    checkpoint.save(draft.path(checkpoint.MODEL), task.model, config.model)
    rows = metrics.read(draft.path("metrics.jsonl"))
    curves.draw(rows, draft.path("curves.png"))
    draft.counts |= {"steps": sum(phase.steps for phase in config.phases), "games": len(data)}
    draft.metrics |= {"losses": metrics.final(rows), "device": str(device)}
    world = JowaWorld(task.model.eval())
    examine(draft, task.tokenizer.eval(), world, data, config.loop.holdout_episodes, config.sight_frames, device)


@dataclass
class Pretraining:
    """The task of stage 1 for the training loop."""

    config: PretrainConfig
    sources: list[SegmentSource]
    device: Device
    tokenizer: Tokenizer = field(init=False)
    model: Jowa = field(init=False)
    modules: dict[str, nn.Module] = field(init=False)

    def __post_init__(self) -> None:
        target = torch.device(self.device.name)
        self.tokenizer = Tokenizer(self.config.tokenizer, seed=self.config.seed).to(target)
        self.model = Jowa(self.config.model, seed=self.config.seed).to(target)
        self.modules = {"tokenizer": self.tokenizer, "model": self.model}
        self._lpips = load_lpips(self.config.lpips_file, self.config.lpips_sha256, self.device)
        self._loaders: dict[int, SegmentLoader] = {}
        self._feeds: dict[PhaseConfig, Feed] = {}
        self._backgrounds = {
            source.game: torch.as_tensor(mean_frame(source)).to(target) / 255 for source in self.sources
        }

    def losses(self, phase: PhaseConfig, step: int) -> dict[str, Losses]:
        """The tokenizer's loss on single frames, the world model's on segments of the tokens it gives now."""
        found: dict[str, Losses] = {}
        fed = self._feed(phase).batch(step)
        if "tokenizer" in phase.objectives:
            found["tokenizer"] = self._tokenizer_losses(fed["frames"], step)
        if "world" in phase.objectives:
            batch = to_batch(fed["segments"])
            assert batch.frames_uint8_BTHW is not None, "this loader reads frames"
            with self.device.autocast():
                tokens = self.tokenizer.encode_tokens(batch.frames_uint8_BTHW)
                found["world"] = world_loss(self.model, replace(batch, tokens_BTK=tokens))
        return found

    def after_step(self, phase: PhaseConfig, step: int) -> None:
        """Nothing follows a step of stage 1: it has no target network."""

    def _tokenizer_losses(self, frames: Mapping[str, Tensor], step: int) -> Losses:
        pixels = frames["frames_nHW"][:, None]
        if self.config.random_shift:
            generator = torch.Generator().manual_seed(self.config.seed * 1_000_003 + step)
            pixels = random_shift(pixels, self.config.random_shift, generator)
        x = pixels.float() / 255
        with self.device.autocast():
            out = self.tokenizer(x)
        weight: Tensor | None = None
        if self.config.motion_gain:
            background = torch.stack([self._backgrounds[game] for game in frames["games_n"].tolist()])[:, None]
            weight = motion_weight(x, background, self.config.motion_gain)
        reconstruction = reconstruction_l1(x, out.frames, weight)
        committed = commitment(out.encoded.z, out.encoded.z_quantized)
        total = reconstruction + self.config.commitment * committed
        terms = {"reconstruction": reconstruction.detach(), "commitment": committed.detach()}
        if self._lpips is not None:
            perceptual = self._lpips(x, out.frames)
            total = total + self.config.lpips_weight * perceptual
            terms["lpips"] = perceptual.detach()
        return Losses(total, terms)

    def _feed(self, phase: PhaseConfig) -> Feed:
        """The batches that the phase's objectives ask for; the feed of the phase before ends with its workers."""
        if phase not in self._feeds:
            loader = self._loader(phase.segments)
            read: dict[str, BatchSource] = {}
            if "tokenizer" in phase.objectives:
                read["frames"] = FrameLoader(loader, phase.frames)
            if "world" in phase.objectives:
                read["segments"] = loader
            self._feeds = {phase: Feed(read, self.device, self.config.loop.workers)}
        return self._feeds[phase]

    def _loader(self, segments: int) -> SegmentLoader:
        """The loader of the phase's batch size; the one of the phase before is let go with its frames."""
        if segments not in self._loaders:
            preload = self.config.loop.preload_bytes
            steps = self.model.config.max_steps
            loader = SegmentLoader(self.sources, segments, self.config.seed, steps, preload_bytes=preload)
            self._loaders = {segments: loader}
        return self._loaders[segments]
