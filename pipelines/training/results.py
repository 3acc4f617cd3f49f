"""What every training stage leaves: networks, learning curves, sight per game, the `sees` check, sheets."""

from collections.abc import Sequence
from pathlib import Path
from typing import Protocol

from models.api import WorldModel
from models.jowa.model import Jowa
from models.jowa.world import JowaWorld
from models.tokenizers.vq import Tokenizer
from pipelines.batches.loader import SegmentSource
from pipelines.plots import curves
from pipelines.progress import track
from pipelines.store.artefact import Draft
from pipelines.training import metrics
from pipelines.training.config import FinetuneConfig, TrainingConfig
from pipelines.training.device import Device
from pipelines.training.diagnostics.contact_sheet import draw_sheet
from pipelines.training.diagnostics.reconstruction import held_out_pairs, measure, summary

CONTEXT = 4  # real steps before the predicted frame

SHEET_STEPS = 8


class Trained(Protocol):
    """The task of a training that is over."""

    model: Jowa

    def save(self, folder: Path) -> None: ...


def record(
    draft: Draft,
    task: Trained,
    tokenizer: Tokenizer,
    config: TrainingConfig | FinetuneConfig,
    sources: Sequence[SegmentSource],
    device: Device,
) -> None:
    """Fill the draft, which has metrics.jsonl already. Both networks are in eval mode from then on."""
    task.save(draft.folder)
    rows = metrics.read(draft.path("metrics.jsonl"))
    curves.draw(rows, draft.path("curves.png"))
    draft.counts["steps"] = sum(phase.steps for phase in config.phases)
    draft.metrics |= {"losses": metrics.final(rows), "device": str(device)}
    world = JowaWorld(task.model.eval())
    examine(draft, tokenizer.eval(), world, sources, config.loop.holdout_episodes, config.sight_frames, device)


def examine(
    draft: Draft,
    tokenizer: Tokenizer,
    world: WorldModel,
    sources: Sequence[SegmentSource],
    holdout: int,
    pairs: int,
    device: Device,
) -> None:
    """Add `sight` metrics, the `sees` check and one `sheet_<Game>.png` a game to the draft."""
    figures = {}
    with track("Look at held-out frames", total=len(sources), unit="games") as advance:
        for source in sources:
            game = source.trajectories.game
            held_out = held_out_pairs(source, holdout, pairs, CONTEXT, seed=0)
            figures[game] = measure(tokenizer, world, source, held_out, device)
            draw_sheet(draft.path(f"sheet_{game}.png"), tokenizer, world, source, holdout, SHEET_STEPS, device)
            advance()
    passed, detail = summary(figures)
    draft.check("sees", passed, detail)
    draft.metrics["sight"] = {game: sight.to_metrics() for game, sight in figures.items()}
