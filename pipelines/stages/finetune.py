"""Stage `finetuned`: a checkpoint learns on from the best few episodes of one game, tokenizer and all.

With `imagine`, part of every batch are segments that the model itself has continued (arXiv 2410.00564, fine-tuning).
On many ranks each reads and imagines the whole batch, which is small, and learns from its own rows of it.
Run: `worldline finetune EXPERIMENT --game Pong --episodes 4`. A killed run resumes from its last saved state.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path

import torch
from torch import Tensor, nn

from models.api import Batch, Losses, mixed
from models.jowa.model import Jowa
from models.tokenizers.codebook import EMA
from models.tokenizers.vq import Tokenizer
from pipelines.batches.batch import rank_rows
from pipelines.batches.loader import SegmentLoader, SegmentSource
from pipelines.batches.segments import Segmentation
from pipelines.episodes.reader import BestEpisodes, best_episodes
from pipelines.episodes.trajectories import FILE_NAME, Trajectories
from pipelines.errors import UsageError
from pipelines.store.artefact import Artefact, Draft, Report
from pipelines.store.store import Store
from pipelines.training import checkpoints as checkpoint
from pipelines.training.checkpoints import Keeper
from pipelines.training.config import FinetuneConfig, PhaseConfig, check_whole_batches
from pipelines.training.device import Device, compile_for, pick
from pipelines.training.diagnostics.greedy_play import greedy_returns
from pipelines.training.distributed.produce import produce
from pipelines.training.distributed.ranks import ALONE, Ranks
from pipelines.training.distributed.shard import Share, rows_of
from pipelines.training.dreaming import Dreaming
from pipelines.training.inputs import held_out_from, legal_actions, to_batch
from pipelines.training.loop import train
from pipelines.training.prefetch import Feed
from pipelines.training.results import record
from pipelines.training.tokenizer_objective import TokenizerObjective
from pipelines.training.world_objective import WorldObjective


def run(config: FinetuneConfig, store: Store) -> Report:
    """Fine-tune on one game, or find the artefact; with torchrun on all its ranks. A killed run resumes."""
    return produce(store, config.spec(), lambda draft, ranks: _build(config, draft, ranks))


def _build(config: FinetuneConfig, draft: Draft, ranks: Ranks) -> None:
    if config.checkpoint is None or config.trajectories is None:
        raise UsageError(f"Fine-tuning on {config.game} needs a checkpoint and trajectories: name both artefacts")
    device = pick(config.loop.precision, config.loop.device)
    torch.manual_seed(ranks.seed(config.seed))
    start = draft.parents[config.checkpoint]
    holder = draft.parents[config.pretrained or config.checkpoint]
    model = checkpoint.load_model(start.path(checkpoint.MODEL), device)
    tokenizer = checkpoint.load_tokenizer(holder.path(checkpoint.TOKENIZER), device)
    every, experts = _sources(config, draft.parents[config.trajectories], model.config.max_steps)
    task = Finetuning(config, experts, tokenizer, model, device, ranks)
    compile_for(device, model, config.loop.compile)

    def plays() -> dict[str, float]:
        return greedy_returns(model, tokenizer, (config.game,), config.loop, device, ranks)

    keeper = Keeper(draft.scratch, config.loop, task.save, plays, ranks)
    title = f"Fine-tune {config.game}"
    train(task, config.phases, config.loop, draft.path("metrics.jsonl"), draft.scratch, title, ranks, keeper)
    if not ranks.first:
        return
    record(draft, task, tokenizer, config, [every], device)
    draft.counts |= {
        "episodes": experts.trajectories.num_episodes,
        "frames": len(experts.trajectories),
        "segments": len(experts.segments),
        "imagined": task.imagined,
    }
    expert_return = float(experts.trajectories.rewards.sum()) / experts.trajectories.num_episodes
    draft.metrics["expert_clipped_return"] = expert_return


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


@dataclass(frozen=True)
class Drawn:
    """One step's single frames (`FrameBatch`'s fields) and segments, real ones and imagined."""

    frames: Mapping[str, Tensor]
    segments: Batch


@dataclass
class Finetuning:
    """The task of fine-tuning for the training loop."""

    config: FinetuneConfig
    experts: SegmentSource
    tokenizer: Tokenizer
    model: Jowa
    device: Device
    ranks: Ranks = ALONE
    modules: dict[str, nn.Module] = field(init=False)

    def __post_init__(self) -> None:
        checkpoint.trainable(self.model)
        self.tokenizer.requires_grad_(True)
        if isinstance(self.tokenizer.embedding, EMA):
            check_whole_batches(self.config.phases)
            self.tokenizer.embedding.gather = self.ranks.gather
        penalty = self.config.penalty or self.model.config.penalty
        self.model.config = replace(self.model.config, world_weight=self.config.world_weight, penalty=penalty)
        self.modules = {"tokenizer": self.tokenizer, "model": self.model}
        self._legal_GA = legal_actions((self.config.game,)).to(self.device.name)
        self._tokenizer_losses = TokenizerObjective(self.config, [self.experts], self.device)
        self._objective = WorldObjective(self.model, self._legal_GA, self.config.seed)
        self._feeds: dict[PhaseConfig, Feed] = {}
        self._drawn: tuple[int, Drawn] | None = None
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
        if part == 0:
            self._drawn = step, self._draw(phase, step)
        assert self._drawn is not None and self._drawn[0] == step, "parts are asked for in order"
        drawn, share = self._drawn[1], Share(self.ranks, part, phase.accumulate)
        found: dict[str, Losses] = {}
        if "tokenizer" in phase.objectives:
            found["tokenizer"] = self._tokenizer_losses(self.tokenizer, drawn.frames, step, share)
        batch, counts = share.counted(drawn.segments, self.model.config.tokens_per_frame)
        assert batch.frames_uint8_BTHW is not None, "this loader reads frames"
        with self.device.autocast():
            batch = replace(batch, tokens_BTK=self.tokenizer.encode_tokens(batch.frames_uint8_BTHW))
            return found | self._objective(phase, batch, step, counts)

    def tokens(self, phase: PhaseConfig) -> int:
        """Tokens that the transformer sees in one step."""
        return phase.segments * self.model.config.max_tokens

    def after_step(self, phase: PhaseConfig, step: int) -> None:
        """Let the target head follow."""
        self._objective.after_step(phase, step)

    def save(self, folder: Path) -> None:
        """Both networks."""
        checkpoint.save(folder / checkpoint.TOKENIZER, self.tokenizer, self.tokenizer.config)
        checkpoint.save(folder / checkpoint.MODEL, self.model, self.model.config)

    def _draw(self, phase: PhaseConfig, step: int) -> "Drawn":
        """The step's batch, and this rank's rows of it."""
        real = to_batch(self._feed(phase).batch(step)["segments"])
        frames, segments = self._frames(real, phase.frames, step), self._with_dreams(real, step)
        rank, world = self.ranks.rank, self.ranks.world
        mine_n = rank_rows(len(frames["games_n"]), rank, world)
        mine_B = rank_rows(len(segments.games_B), rank, world)
        return Drawn({name: tensor[mine_n] for name, tensor in frames.items()}, rows_of(segments, mine_B))

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
