"""Films of what a world expects: some steps are seen, the rest is imagined after the actions that were really done.

A world of videos is given its latent actions, which it tells from the whole video: what it imagines is then how a frame
follows from the one before and a sketch of what changed, no forecast. Source: arXiv 2010.02193, figure 4.

Shapes: B segments, T steps, C channels of R x R pixels.
"""

import torch
from torch import Tensor

from models.dreamer.world_model import FIRST_POSTERIOR, Segments, WorldModel, centred
from models.rssm.chance import Draws

SEEN = 5


@torch.no_grad()
def predicted(world: WorldModel, segments: Segments, draws: Draws, seen: int = SEEN) -> Tensor:
    """Frames (B, T, C, R, R), of which the first `seen` are drawn from what was seen of them; about 0 to 1.

    A lower model sees all frames; no action reaches it. Raises ValueError where nothing is left to imagine.
    """
    steps = segments.first_BT.shape[1]
    if not 0 < seen < steps:
        raise ValueError(f"A film of {steps} steps of which {seen} are seen: give at least one of both kinds")
    frames_BTCRR = centred(segments.frames_BTCRR)
    embedded_BTE, context = world.embed(frames_BTCRR, draws)
    actions_BTA, _ = world.read_actions(frames_BTCRR, segments.actions_BTA, draws)
    if world.first is not None:
        below, _ = world.first.observe(embedded_BTE, None, segments.first_BT, draws, what=FIRST_POSTERIOR)
        embedded_BTE = world.above(below.feature, embedded_BTE)
    shown, later = (None if actions_BTA is None else actions_BTA[:, part] for part in (slice(seen), slice(seen, None)))
    posterior, _ = world.rssm.observe(embedded_BTE[:, :seen], shown, segments.first_BT[:, :seen], draws)
    drawn = world.draw(posterior.feature, context, draws)
    imagined = world.rssm.imagine(later, steps - seen, posterior.at((slice(None), -1)), draws)
    return torch.cat([drawn, world.draw(imagined.feature, context, draws)], dim=1) + 0.5


def side_by_side(truth_BTCRR: Tensor, drawn_BTCRR: Tensor) -> Tensor:
    """A film (T, C, 3 R, B * R): truth, what was drawn and their difference below one another, segments beside each
    other; all about 0 to 1, where a difference of 0 is grey.
    """
    error = (drawn_BTCRR - truth_BTCRR + 1) / 2
    return torch.cat(list(torch.cat([truth_BTCRR, drawn_BTCRR, error], dim=3)), dim=-1)
