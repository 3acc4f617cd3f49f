"""Stage `tokens`: every frame of a game encoded once with the frozen tokenizer, uint16.

Frames stream through in blocks; memory stays bounded whatever the game's size. Run: `worldline tokenize EXPERIMENT`.
"""

from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from pipelines.batches.tokens import NAME, TokenWriter
from pipelines.episodes.trajectories import FILE_NAME, Trajectories
from pipelines.errors import UsageError
from pipelines.progress import track
from pipelines.store.artefact import Draft, Report
from pipelines.store.ref import Ref
from pipelines.store.stage_config import StageConfig
from pipelines.store.store import Store
from pipelines.training.config import check_precision


@dataclass(frozen=True)
class TokenizeConfig(StageConfig):
    """Encode every frame of a game once with the frozen tokenizer."""

    STAGE: ClassVar[str] = "tokens"
    CODE: ClassVar[str] = "3"

    game: str = ""
    pretrained: Ref | None = None
    trajectories: Ref | None = None
    batch_frames: int = 256
    precision: str = "auto"

    def __post_init__(self) -> None:
        check_precision(self.precision)
        if self.batch_frames < 1:
            raise UsageError(f"Encoding {self.batch_frames} frames at once is impossible: batch_frames is at least 1")

    @property
    def subject(self) -> str:
        return self.game


def run(config: TokenizeConfig, store: Store) -> Report:
    """Encode one game, or find its tokens."""
    return store.produce(config.spec(), lambda draft: _build(config, draft))


def _build(config: TokenizeConfig, draft: Draft) -> None:
    import torch

    from pipelines.training.checkpoints import TOKENIZER, load_tokenizer
    from pipelines.training.device import pick

    if config.pretrained is None or config.trajectories is None:
        raise UsageError(f"Tokens of {config.game} need a tokenizer and trajectories: name both artefacts")
    device = pick(config.precision)
    tokenizer = load_tokenizer(draft.parents[config.pretrained].path(TOKENIZER), device)
    data = Trajectories(draft.parents[config.trajectories].path(FILE_NAME))
    sizes = tokenizer.config
    if sizes.vocab_size > np.iinfo(np.uint16).max + 1:
        raise UsageError(f"A vocabulary of {sizes.vocab_size} codes does not fit uint16: use at most 65,536")
    writer = TokenWriter(draft.path(NAME), len(data), sizes.tokens_per_frame)
    seen = torch.zeros(sizes.vocab_size, dtype=torch.bool)
    with track(f"Tokenize {config.game}", total=len(data), unit="frames") as advance, device.autocast():
        for start in range(0, len(data), config.batch_frames):
            frames = torch.as_tensor(data.frames(start, start + config.batch_frames))
            tokens = tokenizer.encode_tokens(frames.to(device.name)).cpu()
            seen[tokens.unique()] = True
            writer.append(tokens.numpy().astype(np.uint16))
            advance(len(frames))
    writer.close()
    draft.counts |= {"frames": len(data), "tokens": len(data) * sizes.tokens_per_frame, "codes_used": int(seen.sum())}
    draft.metrics["device"] = str(device)
