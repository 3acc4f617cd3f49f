"""Reconstruction sheets: what the agent sees of a held-out stretch of play, as rows of frames (JOWA, appendix).

Rows: original, the agent's reconstruction, one-step-ahead prediction from real context, and free running from the
first half of the steps.
"""

from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from models.api import Agent, Context, WorldModel
from pipelines.batches.loader import SegmentSource
from pipelines.plots import sheet
from pipelines.training.device import Device
from pipelines.training.diagnostics.reconstruction import draw, held_out_pairs, reconstruct


def draw_sheet(
    path: Path, agent: Agent, world: WorldModel, source: SegmentSource, holdout: int, steps: int, device: Device
) -> None:
    """Write one PNG for a game: `steps` frames in each of four rows."""
    window = held_out_pairs(source, holdout, 1, steps - 1, seed=0)
    frames_THW = np.concatenate([window.context_PCHW[0], window.next_PHW])
    observed_TK, pictures_THW = reconstruct(agent, frames_THW, device)
    actions_T = torch.as_tensor(window.actions_PC[0]).to(device.name)
    games_1 = torch.full((1,), source.game, device=device.name)
    given = steps // 2

    def imagined(first: int, until: int) -> list[torch.Tensor]:
        """Observations (1, K) of steps first.. until-1, imagined from the real steps before `first`."""
        world.reset(Context(observed_TK[None, :first], actions_T[None, : first - 1], games_1))
        return [world.step(actions_T[step - 1 : step]).tokens_NK for step in range(first, until)]

    with torch.no_grad(), device.autocast():
        ahead = [imagined(step, step + 1)[0] for step in range(1, steps)]
        free = imagined(given, steps)
        blank = torch.zeros_like(observed_TK[:1])
        ahead_THW = draw(agent, torch.cat([blank, *ahead]))
        free_THW = draw(agent, torch.cat([observed_TK[:given], *free]))
    ahead_THW[0] = 0  # nothing precedes the first frame
    free_THW[:given] = 0
    rows = {
        "original": frames_THW,
        "reconstruction": _bytes(pictures_THW),
        "one step ahead": _bytes(ahead_THW),
        f"free running from {given} steps": _bytes(free_THW),
    }
    sheet.draw(rows, path, f"{source.trajectories.game}, held-out play")


def _bytes(frames: NDArray[np.float32]) -> NDArray[np.uint8]:
    return np.clip(np.round(frames), 0, 255).astype(np.uint8)
