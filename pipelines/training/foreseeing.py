"""What a world of videos foresees: it is shown the first frames of held-out videos and draws the rest by itself.

Errors are measured where pixels differ from the last frame that was shown, next to two baselines: a copy of that frame,
and the mean frame of the videos that were learned from. They are mean absolute differences on the 0..255 scale. Beside
them lies a film of a few videos: truth, what was drawn, and the difference, below one another.

Letters: B videos, T steps, C channels, H and W pixels; frames as stored have their colours last.
"""

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from models.worlds import Foresees
from pipelines.episodes.trajectories import TrajectoryReader
from pipelines.evaluation.film import write_animation
from pipelines.training.device import Device
from pipelines.training.inputs import MEAN_FRAME_SAMPLES, channels_first

SEEN = 5  # frames that are shown
FILMED = 6  # videos in the film
FILM, RATE, SCALE = "foreseen.gif", 5, 2
AT_ONCE = 16  # videos
SEED = 0


@dataclass(frozen=True)
class Foresight:
    """Errors of drawing what was shown and of foreseeing what was not, each beside its baselines."""

    videos: int
    held_out: bool  # False: they were learned from, as there were no others
    seen_steps: int
    foreseen_steps: int
    seen_error: float
    mean_frame_error: float  # of all steps
    foreseen_error: float
    copy_last_error: float  # of the foreseen steps

    @property
    def beats_baselines(self) -> bool:
        """Whether what was shown is drawn better than by the mean frame, and what was not better than by a copy."""
        return self.seen_error < self.mean_frame_error and self.foreseen_error < self.copy_last_error

    def __str__(self) -> str:
        of = "held-out videos" if self.held_out else "videos that were learned from"
        return (
            f"{self.videos} {of}: {self.seen_steps} steps that were shown {self.seen_error:.1f} against mean frame "
            f"{self.mean_frame_error:.1f}, {self.foreseen_steps} that were not {self.foreseen_error:.1f} against copy "
            f"{self.copy_last_error:.1f}"
        )

    def to_metrics(self) -> dict[str, float]:
        """Rounded, for the manifest."""
        return {name: round(value, 4) for name, value in asdict(self).items()}


def windows(data: TrajectoryReader, videos: Sequence[int], steps: int, most: int) -> NDArray[np.uint8]:
    """(B, T, H, W, C): the beginnings of at most `most` of these videos, of those that have so many steps."""
    starts = data.episode_starts
    long = [video for video in videos if starts[video + 1] - starts[video] >= steps][:most]
    found = np.zeros((len(long), steps, *data.frame_shape), np.uint8)
    for into, video in zip(found, long, strict=True):
        into[:] = data.frames(int(starts[video]), int(starts[video]) + steps)
    return found


def foresee(agent: Foresees, frames_BTHWC: NDArray[np.uint8], device: Device) -> NDArray[np.float32]:
    """Frames like those given, on the 0..255 scale: the first SEEN as they were seen, then what is foreseen."""
    found = []
    with torch.no_grad(), device.autocast():
        for part in np.array_split(frames_BTHWC, -(-len(frames_BTHWC) // AT_ONCE)):
            drawn = agent.foresee(channels_first(torch.as_tensor(part), 4).to(device.name), SEEN)
            found.append(drawn.float().movedim(-3, -1).cpu().numpy() * 255)
    return np.concatenate(found)


def measure(
    agent: Foresees, data: TrajectoryReader, kept: int, steps: int, most: int, device: Device, folder: Path
) -> Foresight | None:
    """Errors on the videos from `kept` on (on all where there is none), at most so many, and their film in `folder`.

    None where all are short.
    """
    looked_at = range(kept, data.num_episodes) or range(data.num_episodes)
    frames_BTHWC = windows(data, looked_at, steps, most)
    if not len(frames_BTHWC) or steps <= SEEN:
        return None
    drawn_BTHWC = foresee(agent, frames_BTHWC, device)
    draw_film(frames_BTHWC[:FILMED], drawn_BTHWC[:FILMED], folder / FILM)
    rows = np.unique(np.linspace(0, data.episode_starts[kept] - 1, MEAN_FRAME_SAMPLES).astype(np.int64))
    mean_HWC = np.stack([data.frames(row, row + 1)[0] for row in rows.tolist()]).mean(0).astype(np.float32)
    last_B1HWC = frames_BTHWC[:, SEEN - 1 : SEEN].astype(np.float32)
    truth = frames_BTHWC.astype(np.float32)
    moved = (truth != last_B1HWC)[:, SEEN:]

    def error(other: NDArray[np.float32], part: slice, where: NDArray[np.bool_] | None = None) -> float:
        wrong = np.abs(np.broadcast_to(other, truth.shape) - truth)[:, part]
        return float(wrong.mean() if where is None else wrong[where].mean() if where.any() else 0.0)

    later = slice(SEEN, None)
    return Foresight(
        videos=len(truth),
        held_out=kept < data.num_episodes,
        seen_steps=SEEN,
        foreseen_steps=steps - SEEN,
        seen_error=error(drawn_BTHWC, slice(SEEN)),
        mean_frame_error=error(mean_HWC, slice(SEEN)),
        foreseen_error=error(drawn_BTHWC, later, moved),
        copy_last_error=error(last_B1HWC, later, moved),
    )


def draw_film(frames_BTHWC: NDArray[np.uint8], drawn_BTHWC: NDArray[np.float32], path: Path) -> None:
    """Truth, what was drawn and the difference (grey where there is none) below one another, videos side by side."""
    drawn = np.clip(np.round(drawn_BTHWC), 0, 255)
    wrong = np.clip((drawn - frames_BTHWC) / 2 + 128, 0, 255)
    pages_TBHWC = np.concatenate([frames_BTHWC, drawn, wrong], axis=2).astype(np.uint8).swapaxes(0, 1)
    write_animation((np.concatenate(list(page), axis=1) for page in pages_TBHWC), path, RATE, SCALE)
