"""Stage `world_action_model`: JOWA's stage 2, world model and Q-function on tokens; no frame is read for training.

Run: `worldline train EXPERIMENT`.
"""

from dataclasses import dataclass, field
from pathlib import Path

import torch
from torch import nn

from models.api import Losses
from models.jowa.model import Jowa
from pipelines.batches.loader import SegmentLoader, SegmentSource
from pipelines.errors import UsageError
from pipelines.store.artefact import Draft, Report
from pipelines.store.store import Store
from pipelines.training import checkpoints as checkpoint
from pipelines.training.checkpoints import Keeper
from pipelines.training.config import PhaseConfig, TrainConfig
from pipelines.training.device import Device, compile_for, pick
from pipelines.training.diagnostics.greedy_play import greedy_returns
from pipelines.training.distributed.produce import produce
from pipelines.training.distributed.ranks import ALONE, Ranks
from pipelines.training.distributed.shard import Share
from pipelines.training.inputs import check_tokens, legal_actions, sources, to_batch
from pipelines.training.loop import train
from pipelines.training.prefetch import Feed, Parts
from pipelines.training.results import record
from pipelines.training.world_objective import WorldObjective


def run(config: TrainConfig, store: Store) -> Report:
    """Train stage 2 of a recipe, or find its artefact; with torchrun on all its ranks. A killed run resumes."""
    return produce(store, config.spec(), lambda draft, ranks: _build(config, draft, ranks))


def _build(config: TrainConfig, draft: Draft, ranks: Ranks) -> None:
    if config.pretrained is None:
        raise UsageError("The world-action model starts from a pretrained artefact: name it")
    device = pick(config.loop.precision, config.loop.device)
    torch.manual_seed(ranks.seed(config.seed))
    pretrained = draft.parents[config.pretrained]
    check_tokens([draft.parents[ref] for ref in config.tokens], pretrained)
    model = checkpoint.load_model(pretrained.path(checkpoint.MODEL), device)
    tokenizer = checkpoint.load_tokenizer(pretrained.path(checkpoint.TOKENIZER), device)
    with ranks.first_alone():  # tokens are unpacked once
        data = sources(
            [draft.parents[ref] for ref in config.trajectories],
            [draft.parents[ref] for ref in config.segments],
            config.loop.holdout_episodes,
            [draft.parents[ref] for ref in config.tokens],
            draft.scratch,
        )
    task = WorldActionTraining(config, data, model, device, ranks)
    compile_for(device, task.model, config.loop.compile)

    def plays() -> dict[str, float]:
        return greedy_returns(model, tokenizer, config.games, config.loop, device, ranks)

    keeper = Keeper(draft.scratch, config.loop, task.save, plays, ranks)
    train(task, config.phases, config.loop, draft.path("metrics.jsonl"), draft.scratch, "Train", ranks, keeper)
    if ranks.first:
        record(draft, task, tokenizer, config, data, device)
        draft.counts["games"] = len(data)


@dataclass
class WorldActionTraining:
    """The task of stage 2 for the training loop."""

    config: TrainConfig
    sources: list[SegmentSource]
    model: Jowa
    device: Device
    ranks: Ranks = ALONE
    modules: dict[str, nn.Module] = field(init=False)

    def __post_init__(self) -> None:
        checkpoint.trainable(self.model)
        self.modules = {"model": self.model}
        legal_GA = legal_actions(self.config.games).to(self.device.name)
        self._objective = WorldObjective(self.model, legal_GA, self.config.seed)
        self._feeds: dict[PhaseConfig, Feed] = {}
        self._fed: tuple[int, Parts] = (-1, {})

    def losses(self, phase: PhaseConfig, step: int, part: int = 0) -> dict[str, Losses]:
        """World-action loss, or the world model's alone, on one batch of token segments."""
        if part == 0:
            self._fed = step, self._feed(phase).batch(step)
        at, fed = self._fed
        assert at == step, "parts are asked for in order"
        share = Share(self.ranks, part, phase.accumulate)
        batch, counts = share.counted(to_batch(fed["segments"]), self.model.config.tokens_per_frame)
        with self.device.autocast():
            return self._objective(phase, batch, step, counts)

    def after_step(self, phase: PhaseConfig, step: int) -> None:
        """Let the target head follow."""
        self._objective.after_step(phase, step)

    def tokens(self, phase: PhaseConfig) -> int:
        """Those of the sequences, actions included."""
        return phase.segments * self.model.config.max_steps * (self.model.config.tokens_per_frame + 1)

    @property
    def waited(self) -> float:
        """Seconds in which this phase's batches were waited for."""
        return sum(feed.waited for feed in self._feeds.values())

    def save(self, folder: Path) -> None:
        """The network."""
        checkpoint.save(folder / checkpoint.MODEL, self.model, self.model.config)

    def _feed(self, phase: PhaseConfig) -> Feed:
        """The batches of the phase; the feed of the phase before is let go with its workers."""
        if phase not in self._feeds:
            steps = self.model.config.max_steps
            loader = SegmentLoader(self.sources, phase.segments, self.config.seed, steps, with_frames=False)
            self._feeds = {
                phase: Feed(
                    {"segments": loader},
                    self.device,
                    self.config.loop.workers,
                    rank=self.ranks.rank,
                    world=self.ranks.world,
                )
            }
        return self._feeds[phase]
