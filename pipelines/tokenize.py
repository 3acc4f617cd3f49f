"""Stage `tokens`: every frame of a game encoded once with the frozen tokenizer, uint16.

Frames stream through in blocks; memory stays bounded whatever the game's size. Run: `worldline tokenize EXPERIMENT`.
"""

import numpy as np
import torch

from pipelines.configs.learn import TokenizeConfig
from pipelines.errors import UsageError
from pipelines.progress import track
from pipelines.replay.tokens import NAME, TokenWriter
from pipelines.replay.trajectories import FILE_NAME, Trajectories
from pipelines.store.draft import Draft
from pipelines.store.report import Report
from pipelines.store.store import Store
from pipelines.training.checkpoint import TOKENIZER, load_tokenizer
from pipelines.training.device import pick


def run(config: TokenizeConfig, store: Store) -> Report:
    """Encode one game, or find its tokens."""
    return store.produce(config.spec(), lambda draft: _build(config, draft))


def _build(config: TokenizeConfig, draft: Draft) -> None:
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
