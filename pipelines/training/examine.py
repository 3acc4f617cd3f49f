"""What every training stage records of its result: sight per game, the `sees` check, reconstruction sheets."""

from models.api import WorldModel
from models.tokenizers.vq import Tokenizer
from pipelines.progress import track
from pipelines.replay.loader import SegmentSource
from pipelines.store.draft import Draft
from pipelines.training.device import Device
from pipelines.training.sheets import draw_sheet
from pipelines.training.sight import held_out_pairs, measure, summary

CONTEXT = 4  # real steps before the predicted frame
SHEET_STEPS = 8


def examine(
    draft: Draft,
    tokenizer: Tokenizer,
    world: WorldModel,
    sources: list[SegmentSource],
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
