"""What the tokenizer is trained on, wherever it learns: reconstruction, commitment, and LPIPS where it is asked for."""

from collections.abc import Mapping, Sequence
from typing import Protocol

import torch
from torch import Tensor

from models.api import Losses
from models.losses.vq import commitment, motion_weight, reconstruction_l1
from models.tokenizers.augment import random_shift
from models.tokenizers.vq import Tokenizer
from pipelines.batches.loader import SegmentSource
from pipelines.training.device import Device
from pipelines.training.diagnostics.reconstruction import mean_frame
from pipelines.training.distributed.shard import ALL, Share
from pipelines.training.weight_files import load_lpips


class TokenizerSettings(Protocol):
    """The part of a stage's config that says how the tokenizer learns."""

    @property
    def commitment(self) -> float: ...
    @property
    def motion_gain(self) -> float: ...
    @property
    def random_shift(self) -> int: ...
    @property
    def lpips_sha256(self) -> str: ...
    @property
    def lpips_file(self) -> str: ...
    @property
    def lpips_weight(self) -> float: ...
    @property
    def seed(self) -> int: ...


class TokenizerObjective:
    """`objective(tokenizer, frames, step)` -> Losses. `sources` are the games whose backgrounds count less."""

    def __init__(self, settings: TokenizerSettings, sources: Sequence[SegmentSource], device: Device) -> None:
        self._settings, self._device = settings, device
        self._lpips = load_lpips(settings.lpips_file, settings.lpips_sha256, device)
        target = torch.device(device.name)
        self._backgrounds = {source.game: torch.as_tensor(mean_frame(source)).to(target) / 255 for source in sources}

    def __call__(self, tokenizer: Tokenizer, frames: Mapping[str, Tensor], step: int, share: Share = ALL) -> Losses:
        """The loss on frames_nHW (uint8) of games_n, which are this rank's, or its share of the whole batch's loss."""
        settings = self._settings
        pixels = frames["frames_nHW"][:, None]
        rows = share.part_of(len(pixels))
        count = share.count(len(pixels), pixels.device)
        if settings.random_shift:
            generator = torch.Generator().manual_seed(settings.seed * 1_000_003 + step)
            pixels = random_shift(pixels, settings.random_shift, generator, share.first_of(count), count)
        x = pixels[rows].float() / 255
        with self._device.autocast():
            out = tokenizer(x)
        weight: Tensor | None = None
        mean: Tensor | None = None
        if settings.motion_gain:
            background = torch.stack([self._backgrounds[game] for game in frames["games_n"].tolist()])[:, None]
            weight = motion_weight(pixels.float() / 255, background, settings.motion_gain)
            mean = share.mean(weight, count)
            weight = weight[rows]
        reconstruction = reconstruction_l1(x, out.frames, weight, mean)
        committed = commitment(out.encoded.z, out.encoded.z_quantized)
        total = reconstruction + settings.commitment * committed
        terms = {"reconstruction": reconstruction.detach(), "commitment": committed.detach()}
        if self._lpips is not None:
            perceptual = self._lpips(x, out.frames)
            total = total + settings.lpips_weight * perceptual
            terms["lpips"] = perceptual.detach()
        part = len(x) / count  # all terms are means over frames of one size
        return Losses(total * part, {name: term * part for name, term in terms.items()})
