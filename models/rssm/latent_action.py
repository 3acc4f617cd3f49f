"""Latent actions of videos, and of an environment's actions (PreLAR).

An inverse-dynamics network tells from two frames what led from one to the other; behind it, once a robot's actions are
known, an action encoder takes its place. Source: PreLAR (ECCV 2024), section 3, and its code.

Shapes: B sequences, T steps, C channels of R x R pixels, A numbers of an action, L of a latent action.
"""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from models.rssm.chance import Chance, Gaussian, Numbers, OneHot
from models.rssm.config import ActionEncoderConfig, FramesConfig, LatentActionConfig
from models.rssm.convolutions import Trunk

CHANNELS = {"concat": 6, "diff": 3, "catdiff": 9}
PRIOR_STD, ORIGINAL_PRIOR_STD = 1.0, float(2 * torch.sigmoid(torch.tensor(0.5, dtype=torch.float64)))


def chance_of(config: LatentActionConfig | ActionEncoderConfig) -> Chance | None:
    """What a latent action is drawn from; None: it is plain numbers."""
    if config.kind == "stochastic":
        return Gaussian(config.width)
    return OneHot(config.width, config.discrete) if config.kind == "discrete" else None


class LatentAction(nn.Module):
    """Latent actions between the frames of videos."""

    def __init__(self, config: LatentActionConfig, frames: FramesConfig) -> None:
        super().__init__()
        sizes = FramesConfig("resnet", frames.resolution, config.channels, frames.stages, frames.layers)
        self.config, self.kind = config, chance_of(config)
        self.trunk = Trunk(sizes, CHANNELS[config.sees])
        self.hidden = nn.Linear(sizes.embedded, config.hidden)
        self.out = nn.Linear(config.hidden, config.width if self.kind is None else self.kind.read_width)

    def numbers(self, frames_BTCRR: Tensor) -> Tensor:
        """What the network says of each pair of neighbours: (B, T - 1, O). Raises ValueError for single frames."""
        if frames_BTCRR.shape[1] < 2:
            raise ValueError("A latent action lies between two frames: give segments of two steps or more")
        before, after = frames_BTCRR[:, :-1], frames_BTCRR[:, 1:]
        shown = {"concat": (before, after), "diff": (after - before,), "catdiff": (before, after, after - before)}
        pairs = torch.cat(shown[self.config.sees], dim=2)
        read = self.trunk(pairs.flatten(0, 1))
        return self.out(F.elu(self.hidden(read))).unflatten(0, pairs.shape[:2])

    def forward(self, frames_BTCRR: Tensor, draws: Numbers | None) -> tuple[Tensor, Tensor | None]:
        """Latent actions (B, T, L), of which the first is zeros, since nothing led to the first frame; and the
        statistics (B, T - 1, ...) that the others were drawn from. draws: None takes the likeliest.
        """
        numbers = self.numbers(frames_BTCRR)
        if self.kind is None:
            return F.pad(numbers.float(), (0, 0, 1, 0)), None
        stats = self.kind.read(numbers)
        drawn = self.kind.mode(stats) if draws is None else self.kind.draw(stats, draws, "latent_action")
        return F.pad(drawn, (0, 0, 1, 0)), stats


class ActionEncoder(nn.Module):
    """Latent actions of an environment's actions, of which no divergence is lost."""

    def __init__(self, config: ActionEncoderConfig, actions: int) -> None:
        super().__init__()
        self.config, self.kind = config, chance_of(config)
        self.hidden = nn.Linear(actions, config.hidden)
        self.out = nn.Linear(config.hidden, config.width if self.kind is None else self.kind.read_width)

    def numbers(self, actions: Tensor) -> Tensor:
        """What the network says of actions: (..., O)."""
        return self.out(F.elu(self.hidden(actions)))

    def forward(self, actions: Tensor, draws: Numbers | None) -> Tensor:
        """(..., A) -> (..., L). draws: None takes the likeliest."""
        numbers = self.numbers(actions)
        if self.kind is None:
            return numbers.float()
        stats = self.kind.read(numbers)
        return self.kind.mode(stats) if draws is None else self.kind.draw(stats, draws, "encoded_action")


def latent_kl(kind: Chance, stats: Tensor, std: float = PRIOR_STD) -> Tensor:
    """KL of latent actions from what is standard: Gaussians of mean 0 and that std, or equal chances. (B, T - 1)."""
    return kind.from_standard(stats, std)
