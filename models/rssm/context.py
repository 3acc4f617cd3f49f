"""Frames read and drawn in the context of one frame of their sequence (ContextWM).

That frame has a trunk of its own, and what its stages saw is looked at by the decoder: the state-space model needs to
carry only what moves. Each drawn frame sees a random part of its places, learning and playing alike; who draws twice
with the same draws gets the same picture. Source: Wu et al., arXiv 2305.18499, section 4 and its code.

Shapes: B sequences, T steps, n = B * T frames; P places (R x R) of W channels, K of them seen; h heads.
"""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from models.rssm.chance import Draws
from models.rssm.config import FramesConfig
from models.rssm.convolutions import ResnetDecoder, Stage, Trunk, doubled

AREA, RATIO = (0.02, 0.33), (0.3, 3.3)  # of a rectangle left blank: shares of the frame; height by width


class ContextEncoder(nn.Module):
    """Two trunks of equal size, of frames and of the context."""

    def __init__(self, config: FramesConfig) -> None:
        super().__init__()
        self.config = config
        self.frames, self.context = Trunk(config), Trunk(config)

    def forward(self, frames: Tensor) -> Tensor:
        """(n, 3, R, R) -> (n, E): frames alone."""
        return self.frames(frames)

    def see(self, frames_BTCRR: Tensor, draws: Draws) -> dict[int, Tensor]:
        """What one frame of each sequence shows; which, `draws` says where the config leaves it open."""
        rows, steps = frames_BTCRR.shape[:2]
        at = torch.full((rows,), 0 if self.config.context_frame == "first" else steps - 1)
        if self.config.context_frame == "random":
            at = draws.steps("context", rows, steps)
        shown = frames_BTCRR[torch.arange(rows, device=frames_BTCRR.device), at.to(frames_BTCRR.device)]
        if self.training and self.config.blanked:
            shown = blanked(shown, self.config.blanked, draws)
        return {each.shape[-1]: each for each in self.context.read(shown)[1]}


def blanked(frames_BCRR: Tensor, chance: float, draws: Draws) -> Tensor:
    """Centred frames, of each of which a rectangle is 0 with this chance, their grey in the middle.

    It is of 2 to 33 % of the frame and up to 3.3 times as long as wide, anywhere in it (arXiv 1708.04896).
    """
    side = frames_BCRR.shape[-1]
    told = draws.uniform("blanked", frames_BCRR.new_empty((len(frames_BCRR), 6), dtype=torch.float32))
    chosen_B, area_B, upright_B, ratio_B, x_B, y_B = told.unbind(1)
    area_B = side * side * (AREA[0] + (AREA[1] - AREA[0]) * area_B)
    ratio_B = torch.where(upright_B < 0.5, 1 + (RATIO[1] - 1) * ratio_B, RATIO[0] + (1 - RATIO[0]) * ratio_B)
    heights_B, widths_B = ((area_B * each).sqrt().round().clamp(1, side) for each in (ratio_B, 1 / ratio_B))
    places_R = torch.arange(side, device=frames_BCRR.device)

    def within(start_B: Tensor, length_B: Tensor) -> Tensor:
        first_B = (start_B * (side - length_B + 1)).floor()
        return (places_R >= first_B[:, None]) & (places_R < (first_B + length_B)[:, None])

    inside_BRR = within(y_B, heights_B)[:, :, None] & within(x_B, widths_B)[:, None, :]
    return frames_BCRR.masked_fill((inside_BRR & (chosen_B < chance)[:, None, None])[:, None], 0.0)


class Glance(nn.Module):
    """Drawn places look at those of the context, some of which are hidden from each frame."""

    def __init__(self, config: FramesConfig, width: int, side: int) -> None:
        super().__init__()
        self.config, places = config, side * side
        self.kept = int(places * (1 - config.hidden_places))
        self.attention = nn.MultiheadAttention(width, config.heads, batch_first=True)  # its weights; see `forward`
        self.norm = nn.BatchNorm2d(width)
        self.drawn_at = nn.Parameter(torch.zeros(places, width))
        self.context_at = nn.Parameter(torch.zeros(places, width))

    def forward(self, x: Tensor, context: Tensor, draws: Draws) -> Tensor:
        """What is drawn (n, W, R, R) with what was seen in the context (B, W, R, R)."""
        found = self.look(x, context, draws)
        found = F.dropout(found, self.config.dropout, self.training)
        return F.relu(x + self.norm(found.transpose(1, 2).unflatten(2, x.shape[2:])))

    def look(self, x: Tensor, context: Tensor, draws: Draws) -> Tensor:
        """What each place found, (n, P, W). Keys and values are computed once a sequence and chosen for each frame."""
        attention, heads = self.attention, self.config.heads
        frames, width, side = x.shape[0], x.shape[1], x.shape[2]
        rows, places = len(context), side * side
        kept_nK = draws.some(f"places{places}", frames, places, self.kept).to(x.device)
        drawn_nPW = x.flatten(2).transpose(1, 2) + self.drawn_at
        shown_BPW = context.flatten(2).transpose(1, 2) + self.context_at
        of_drawn, of_shown = attention.in_proj_weight.split([width, 2 * width])
        bias_drawn, bias_shown = attention.in_proj_bias.split([width, 2 * width])
        queries = F.linear(drawn_nPW, of_drawn, bias_drawn).unflatten(2, (heads, -1)).transpose(1, 2)
        shown_BPV = F.linear(shown_BPW, of_shown, bias_shown)
        row_n = torch.arange(rows, device=x.device).repeat_interleave(frames // rows)
        chosen_nKV = shown_BPV[row_n[:, None], kept_nK].unflatten(2, (2, heads, -1))
        keys, values = chosen_nKV.permute(2, 0, 3, 1, 4)
        dropout = self.config.dropout if self.training else 0.0
        found = F.scaled_dot_product_attention(queries, keys, values, dropout_p=dropout)
        return attention.out_proj(found.transpose(1, 2).flatten(2))


class ContextStage(Stage):
    """A stage whose first layer reads what a glance at the context made of its input, which goes past it as it was."""

    def __init__(self, config: FramesConfig, seen: int, width: int, side: int) -> None:
        super().__init__(seen, width, config.layers, changes_last=True)
        self.glance = Glance(config, seen, side)

    def draw(self, x: Tensor, context: Tensor, draws: Draws) -> Tensor:
        """(n, W, R, R) with the context (B, W, R, R) -> (n, V, R, R)."""
        first, *others = self.layers
        x = first(x, self.glance(x, context, draws))
        for layer in others:
            x = layer(x)
        return x


class ContextDecoder(ResnetDecoder):
    """Its last stage, of the most places, sees no context."""

    def __init__(self, config: FramesConfig, feature: int) -> None:
        super().__init__(config, feature)
        widths = (*reversed(config.widths), config.channels // 2)
        for place in range(config.stages - 1):
            side = config.least_side << (place + 1)
            self.stages[place] = ContextStage(config, widths[place], widths[place + 1], side)

    def draw(self, features: Tensor, context: dict[int, Tensor], draws: Draws) -> Tensor:
        """(n, Z) of B sequences side by side, with their context -> (n, 3, R, R)."""
        x = self.begin(features)
        for stage in self.stages:
            x = doubled(x)
            x = stage.draw(x, context[x.shape[-1]], draws) if isinstance(stage, ContextStage) else stage(x)
        return self.outward(x)

    @property
    def positions(self) -> list[nn.Parameter]:
        """Where places are, in drawn frames and in the context."""
        glances = [stage.glance for stage in self.stages if isinstance(stage, ContextStage)]
        return [each for glance in glances for each in (glance.context_at, glance.drawn_at)]
