"""Stage `finetuned`: a checkpoint learns on from the best few episodes of one game, tokenizer and all.

With `imagine`, part of every batch are segments that the model itself has continued (arXiv 2410.00564, fine-tuning).
Run: `worldline finetune EXPERIMENT --game Pong --episodes 4`. A killed run resumes from its last saved state.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace

import torch
from torch import Tensor, nn

from models.api import Batch, Losses, mixed
from models.jowa.model import Jowa
from models.jowa.objective import world_action_loss
from models.jowa.world import JowaWorld
from models.losses.rem import mixture_weights
from models.tokenizers.vq import Tokenizer
from pipelines.configs.finetune import FinetuneConfig
from pipelines.configs.learn import PhaseConfig
from pipelines.errors import UsageError
from pipelines.plots import curves
from pipelines.replay.best import BestEpisodes, best_episodes
from pipelines.replay.loader import SegmentLoader, SegmentSource
from pipelines.replay.segments import Segmentation
from pipelines.replay.trajectories import FILE_NAME, Trajectories
from pipelines.store.artefact import Artefact
from pipelines.store.draft import Draft
from pipelines.store.report import Report
from pipelines.store.store import Store
from pipelines.training import checkpoint, metrics
from pipelines.training.batches import held_out_from, legal_actions, to_batch
from pipelines.training.device import Device, pick
from pipelines.training.dreaming import Dreaming
from pipelines.training.examine import examine
from pipelines.training.feed import Feed
from pipelines.training.loop import train
from pipelines.training.ranks import join
from pipelines.training.share import rows_of
from pipelines.training.tokenizer_objective import TokenizerObjective


def run(config: FinetuneConfig, store: Store) -> Report:
    """Fine-tune on one game, or find the artefact."""
    return store.produce(config.spec(), lambda draft: _build(config, draft))


def _build(config: FinetuneConfig, draft: Draft) -> None:
    if config.checkpoint is None or config.trajectories is None:
        raise UsageError(f"Fine-tuning on {config.game} needs a checkpoint and trajectories: name both artefacts")
    if join().world > 1:
        raise UsageError("Fine-tuning takes small batches and one rank: leave out --ranks and torchrun")
    device = pick(config.loop.precision, config.loop.device)
    torch.manual_seed(config.seed)
    start = draft.parents[config.checkpoint]
    holder = draft.parents[config.pretrained or config.checkpoint]
    model = checkpoint.load_model(start.path(checkpoint.MODEL), device)
    tokenizer = checkpoint.load_tokenizer(holder.path(checkpoint.TOKENIZER), device)
    every, experts = _sources(config, draft.parents[config.trajectories], model.config.max_steps)
    task = Finetuning(config, experts, tokenizer, model, device)
    train(task, config.phases, config.loop, draft.path("metrics.jsonl"), draft.scratch, f"Fine-tune {config.game}")
    checkpoint.save(draft.path(checkpoint.TOKENIZER), tokenizer, tokenizer.config)
    checkpoint.save(draft.path(checkpoint.MODEL), model, model.config)
    rows = metrics.read(draft.path("metrics.jsonl"))
    curves.draw(rows, draft.path("curves.png"))
    draft.counts |= {
        "steps": sum(phase.steps for phase in config.phases),
        "episodes": experts.trajectories.num_episodes,
        "frames": len(experts.trajectories),
        "segments": len(experts.segments),
        "imagined": task.imagined,
    }
    expert_return = float(experts.trajectories.rewards.sum()) / experts.trajectories.num_episodes
    draft.metrics |= {"losses": metrics.final(rows), "device": str(device), "expert_clipped_return": expert_return}
    world = JowaWorld(model.eval())
    examine(draft, tokenizer.eval(), world, [every], config.loop.holdout_episodes, config.sight_frames, device)


def _sources(config: FinetuneConfig, trajectories: Artefact, length: int) -> tuple[SegmentSource, SegmentSource]:
    """The game without its held-out episodes, to measure on; and the best of those, to learn from."""
    data = Trajectories(trajectories.path(FILE_NAME))
    kept = held_out_from(data, config.loop.holdout_episodes)
    best = BestEpisodes(data, best_episodes(data, config.episodes, among=kept))
    # A search starts from segments whose newest steps are real, which are those that are padded on the left.
    padding = "right" if config.imagine is None else "left"
    every = Segmentation(data.episode_starts, length, config.stride, padding).first_episodes(kept)
    return (
        SegmentSource(data, every),
        SegmentSource(best, Segmentation(best.episode_starts, length, config.stride, padding)),
    )


@dataclass
class Finetuning:
    """The task of fine-tuning for the training loop."""

    config: FinetuneConfig
    experts: SegmentSource
    tokenizer: Tokenizer
    model: Jowa
    device: Device
    modules: dict[str, nn.Module] = field(init=False)

    def __post_init__(self) -> None:
        checkpoint.trainable(self.model)
        self.tokenizer.requires_grad_(True)
        self.model.config = replace(self.model.config, world_weight=self.config.world_weight)
        self.modules = {"tokenizer": self.tokenizer, "model": self.model}
        self._legal_GA = legal_actions((self.config.game,)).to(self.device.name)
        self._tokenizer_losses = TokenizerObjective(self.config, [self.experts], self.device)
        self._feeds: dict[PhaseConfig, Feed] = {}
        self._dreaming: Dreaming | None = None
        if self.config.imagine is not None:
            self._dreaming = Dreaming(
                self.config.imagine, self.model, self.tokenizer, self._legal_GA, self.device, self.config.seed
            )
            self.modules["dreams"] = self._dreaming

    @property
    def imagined(self) -> int:
        """Segments that the store of imagined ones holds."""
        return 0 if self._dreaming is None else len(self._dreaming)

    def losses(self, phase: PhaseConfig, step: int, part: int = 0) -> dict[str, Losses]:
        """The tokenizer's loss on frames of the step's segments; the world-action loss on tokens it gives them now."""
        real = to_batch(self._feed(phase).batch(step)["segments"])
        found: dict[str, Losses] = {}
        if "tokenizer" in phase.objectives:
            found["tokenizer"] = self._tokenizer_losses(self.tokenizer, self._frames(real, phase.frames, step), step)
        batch = self._with_dreams(real, step)
        assert batch.frames_uint8_BTHW is not None, "this loader reads frames"
        random_mixture = self.model.config.random_mixture
        with self.device.autocast():
            batch = replace(batch, tokens_BTK=self.tokenizer.encode_tokens(batch.frames_uint8_BTHW))
            weights_Q = self._mixture_weights(step).to(self.device.name) if random_mixture else None
            found["world_action"] = world_action_loss(self.model, batch, self._legal_GA, weights_Q)
        return found

    def tokens(self, phase: PhaseConfig) -> int:
        """Tokens that the transformer sees in one step."""
        return phase.segments * self.model.config.max_tokens

    def after_step(self, phase: PhaseConfig, step: int) -> None:
        """Copy the Q head into the target head every `target_every` steps."""
        if (step + 1) % phase.target_every == 0:
            self.model.update_target()

    def _frames(self, batch: Batch, count: int, step: int) -> Mapping[str, Tensor]:
        """`count` of the batch's real frames, drawn by seed and step; all of them where there are fewer."""
        assert batch.frames_uint8_BTHW is not None, "this loader reads frames"
        frames_nHW = batch.frames_uint8_BTHW[batch.mask_BT]
        games_n = batch.games_B[:, None].expand_as(batch.mask_BT)[batch.mask_BT]
        generator = torch.Generator().manual_seed(self.config.seed * 1_000_003 + step)
        chosen = torch.randperm(len(frames_nHW), generator=generator)[:count].to(frames_nHW.device)
        return {"frames_nHW": frames_nHW[chosen], "games_n": games_n[chosen]}

    def _with_dreams(self, real: Batch, step: int) -> Batch:
        """From `after` on the last segments give way to imagined ones, searched for from them every so many steps."""
        imagine = self.config.imagine
        if imagine is None or self._dreaming is None or step < imagine.after:
            return real
        keep = len(real.games_B) - imagine.segments
        if (step - imagine.after) % imagine.every == 0:
            self._dreaming.dream(rows_of(real, slice(keep, None)))
        if not len(self._dreaming):  # no segment could be continued yet
            return real
        return mixed(rows_of(real, slice(keep)), self._dreaming.sample(imagine.segments))

    def _mixture_weights(self, step: int) -> Tensor:
        """This step's random mixture of the Q heads: it depends on the seed and the step alone."""
        generator = torch.Generator().manual_seed(self.config.seed * 1_000_003 + step)
        return mixture_weights(self.model.config.num_q, generator)

    def _feed(self, phase: PhaseConfig) -> Feed:
        """The batches of the phase; the feed of the phase before is let go with its workers."""
        if phase not in self._feeds:
            loader = SegmentLoader(
                [self.experts],
                phase.segments,
                self.config.seed,
                self.model.config.max_steps,
                preload_bytes=self.config.loop.preload_bytes,
            )
            self._feeds = {phase: Feed({"segments": loader}, self.device, self.config.loop.workers)}
        return self._feeds[phase]
