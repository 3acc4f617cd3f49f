"""Drafted frames are read by a causal transformer with keys and values, whatever its family: see `drafts.py`.

Families that predict a frame in one pass (REM and Simulus with prediction tokens, IRIS's frame circuit) have nothing to
gain; circuits and retention keep a state in place of keys, which cannot be put back to any place. Delta-IRIS
takes 4 passes a frame, of which drafts would spare two or three by passes that cost two or three times as much.

Shapes: M growing spans (rows) of S places each, T listed tokens, D width, V vocabulary.
"""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from models.blocks.drafts import Drafts, Pace
from models.blocks.listed_tokens import ListedTokens
from models.blocks.transformer import Cache, KVCache

Choose = Callable[[Tensor, Tensor, Tensor], Tensor]
"""choose(logits (T, V), rows (T,), places (T,)) -> tokens (T,) behind these places; no matter which behind the last"""


@dataclass(frozen=True)
class Network:
    """What reads tokens: codes (T,) -> embeddings (T, D), blocks that read (1, T, D) with a cache, and what they say
    comes next: (T, D) -> logits (T, V).
    """

    codes: Callable[[Tensor], Tensor]
    blocks: Callable[[Tensor, Cache], Tensor]
    says: Callable[[Tensor], Tensor]


def verify(
    drafts: Drafts, pace: Pace, network: Network, cache: KVCache, x_MSD: Tensor, choose: Choose
) -> tuple[Tensor, int]:
    """Read drafted tokens as long as that pays; returns hidden states (M, S, D) and how many passes it took.

    Spans grow in the cache, none of whose tokens was read; `drafts.read` places of each are then. x_MSD: all that is
    embedded but the codes. Hidden states behind those places may be of tokens that were wrong.
    """
    rows, places, _ = x_MSD.shape
    each, listed, passes = rows // cache.rows, ListedTokens(cache), 0
    hidden_MSD = torch.zeros_like(x_MSD)
    while drafts.unfinished and not pace.prefers_one_by_one(drafts):
        rows_T, places_T = drafts.ask(pace.each(drafts.unfinished, places))
        asked = np.stack([rows_T, places_T, drafts.tokens_MS[rows_T, places_T]])
        on_rows_T, on_places_T, codes_T = torch.from_numpy(asked).to(x_MSD.device)
        x_TD = network.codes(codes_T)
        if not passes:  # what is given stands at the first place, and holds no code
            x_TD = x_TD * (on_places_T > 0)[:, None]
        listed.at(*np.divmod(rows_T, each), places_T)
        hidden_TD = network.blocks((x_TD + x_MSD[on_rows_T, on_places_T])[None], listed)[0]
        hidden_MSD[on_rows_T, on_places_T] = hidden_TD.to(hidden_MSD.dtype)
        chosen_T = choose(network.says(hidden_TD), on_rows_T, on_places_T)
        told = drafts.tell(rows_T, places_T, chosen_T.cpu().numpy())
        passes += 1
        if passes > 1:
            pace.saw(*told)
    return hidden_MSD, passes
