"""What a training leaves: the checkpoint, learning curves, reconstruction quality per game, contact sheets."""

from collections.abc import Sequence

from models.api import Agent
from pipelines.batches.loader import SegmentSource
from pipelines.plots import curves
from pipelines.progress import track
from pipelines.store.artefact import Draft
from pipelines.training import metrics
from pipelines.training.config import LoopConfig
from pipelines.training.device import Device
from pipelines.training.diagnostics.contact_sheet import draw_sheet
from pipelines.training.diagnostics.reconstruction import held_out_pairs, measure, summary
from pipelines.training.schedule import Schedule, total_steps
from pipelines.training.task import Task

CONTEXT = 4  # real steps before the predicted frame
SHEET_STEPS = 8


def record(
    draft: Draft,
    task: Task,
    schedule: Schedule,
    loop: LoopConfig,
    sight_frames: int,
    sources: Sequence[SegmentSource],
    device: Device,
) -> None:
    """Fill the draft, which has metrics.jsonl already. The agent's networks are in eval mode from then on."""
    task.save(draft.folder)
    rows = metrics.read(draft.path("metrics.jsonl"))
    curves.draw(rows, draft.path("curves.png"))
    draft.counts["steps"] = total_steps(schedule)
    draft.metrics |= {"losses": metrics.final(rows), **device.metrics()}
    for network in task.agent.networks.values():
        network.eval()
    examine(draft, task.agent, sources, loop.holdout_episodes, sight_frames, device)


def examine(
    draft: Draft, agent: Agent, sources: Sequence[SegmentSource], holdout: int, pairs: int, device: Device
) -> None:
    """Add `sight` metrics, the `sees` check and one `sheet_<Game>.png` a game to the draft."""
    figures, world = {}, agent.world()
    with track("Look at held-out frames", total=len(sources), unit="games") as advance:
        for source in sources:
            game = source.trajectories.game
            held_out = held_out_pairs(source, holdout, pairs, CONTEXT, seed=0)
            figures[game] = measure(agent, world, source, held_out, device)
            draw_sheet(draft.path(f"sheet_{game}.png"), agent, world, source, holdout, SHEET_STEPS, device)
            advance()
    passed, detail = summary(figures)
    draft.check("sees", passed, detail)
    draft.metrics["sight"] = {game: quality.to_metrics() for game, quality in figures.items()}
