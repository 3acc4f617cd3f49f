"""Stage `world_action_model`: JOWA's stage 2, world model and Q-function on tokens; no frame is read for training.

Run: `worldline train EXPERIMENT`.
"""

from dataclasses import dataclass, field

import torch
from torch import nn

from models.api import Losses
from models.jowa.model import Jowa
from models.jowa.objective import world_action_loss, world_loss
from models.jowa.world import JowaWorld
from models.losses.rem import mixture_weights
from pipelines.configs.learn import PhaseConfig, TrainConfig
from pipelines.errors import UsageError
from pipelines.plots import curves
from pipelines.replay.loader import SegmentLoader, SegmentSource
from pipelines.store.draft import Draft
from pipelines.store.report import Report
from pipelines.store.store import Store
from pipelines.training import checkpoint, metrics
from pipelines.training.batches import legal_actions, sources, to_batch
from pipelines.training.device import Device, pick
from pipelines.training.examine import examine
from pipelines.training.feed import Feed
from pipelines.training.loop import train


def run(config: TrainConfig, store: Store) -> Report:
    """Train stage 2 of a recipe, or find its artefact. A killed run resumes from its last saved state."""
    return store.produce(config.spec(), lambda draft: _build(config, draft))


def _build(config: TrainConfig, draft: Draft) -> None:
    if config.pretrained is None:
        raise UsageError("The world-action model starts from a pretrained artefact: name it")
    device = pick(config.loop.precision)
    torch.manual_seed(config.seed)
    pretrained = draft.parents[config.pretrained]
    model = checkpoint.load_model(pretrained.path(checkpoint.MODEL), device)
    data = sources(
        [draft.parents[ref] for ref in config.trajectories],
        [draft.parents[ref] for ref in config.segments],
        config.loop.holdout_episodes,
        [draft.parents[ref] for ref in config.tokens],
        draft.scratch,
    )
    task = WorldActionTraining(config, data, model, device)
    train(task, config.phases, config.loop, draft.path("metrics.jsonl"), draft.scratch, "Train")
    checkpoint.save(draft.path(checkpoint.MODEL), task.model, task.model.config)
    rows = metrics.read(draft.path("metrics.jsonl"))
    curves.draw(rows, draft.path("curves.png"))
    draft.counts |= {"steps": sum(phase.steps for phase in config.phases), "games": len(data)}
    draft.metrics |= {"losses": metrics.final(rows), "device": str(device)}
    tokenizer = checkpoint.load_tokenizer(pretrained.path(checkpoint.TOKENIZER), device)
    world = JowaWorld(task.model.eval())
    examine(draft, tokenizer, world, data, config.loop.holdout_episodes, config.sight_frames, device)


@dataclass
class WorldActionTraining:
    """The task of stage 2 for the training loop."""

    config: TrainConfig
    sources: list[SegmentSource]
    model: Jowa
    device: Device
    modules: dict[str, nn.Module] = field(init=False)

    def __post_init__(self) -> None:
        checkpoint.trainable(self.model)
        self.modules = {"model": self.model}
        self._legal_GA = legal_actions(self.config.games).to(self.device.name)
        self._feeds: dict[PhaseConfig, Feed] = {}

    def losses(self, phase: PhaseConfig, step: int) -> dict[str, Losses]:
        """World-action loss, or the world model's alone, on one batch of token segments."""
        batch = to_batch(self._feed(phase).batch(step)["segments"])
        with self.device.autocast():
            if "world_action" in phase.objectives:
                weights_Q = (
                    self._mixture_weights(step).to(self.device.name) if self.model.config.random_mixture else None
                )
                return {"world_action": world_action_loss(self.model, batch, self._legal_GA, weights_Q)}
            return {"world": world_loss(self.model, batch)}

    def after_step(self, phase: PhaseConfig, step: int) -> None:
        """Copy the Q head into the target head every `target_every` steps."""
        if (step + 1) % phase.target_every == 0:
            self.model.update_target()

    def _mixture_weights(self, step: int) -> torch.Tensor:
        """This step's random mixture of the Q heads: it depends on the seed and the step alone."""
        generator = torch.Generator().manual_seed(self.config.seed * 1_000_003 + step)
        return mixture_weights(self.model.config.num_q, generator)

    def _feed(self, phase: PhaseConfig) -> Feed:
        """The batches of the phase; the feed of the phase before is let go with its workers."""
        if phase not in self._feeds:
            steps = self.model.config.max_steps
            loader = SegmentLoader(self.sources, phase.segments, self.config.seed, steps, with_frames=False)
            self._feeds = {phase: Feed({"segments": loader}, self.device, self.config.loop.workers)}
        return self._feeds[phase]
