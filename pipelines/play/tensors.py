"""Between pictures and the agent's tokens, and dreams as steps of one row: what modes need torch for.

Letters: C steps of context, H, W pixels, K tokens a frame, A actions of the environment.
"""

from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from models.api import Context, Dream, Imagined
from pipelines.environments.registry import game_id
from pipelines.evaluation.players import channels_first
from pipelines.play.source import Beginning, PlaySource


class Eyes:
    """The agent's tokenizer, for one row."""

    def __init__(self, source: PlaySource) -> None:
        self._agent, self._source = source.agent, source
        self.device = next(next(iter(source.agent.networks.values())).parameters()).device

    def tokens(self, frames: NDArray[np.uint8]) -> Tensor:
        """Tokens (C, K) of frames (C, H, W) or (C, H, W, 3)."""
        with torch.inference_mode(), self._source.piece("encode"):
            return self._agent.encode(channels_first(frames).to(self.device))

    def picture(self, tokens_K: Tensor) -> NDArray[np.uint8]:
        """A frame's picture (H, W) or (H, W, 3)."""
        with torch.inference_mode(), self._source.piece("decode"):
            frame_CHW = self._agent.decode(tokens_K[None])[0].float()
        bytes_HWC = (frame_CHW * 255).round().clamp(0, 255).to(torch.uint8).movedim(0, -1).cpu().numpy()
        return bytes_HWC[..., 0] if bytes_HWC.shape[-1] == 1 else bytes_HWC


class DreamRow:
    """A dream of one row. `begin` and `step` return where it stands; all calls run as the source's pieces do."""

    def __init__(self, source: PlaySource, eyes: Eyes, seed: int) -> None:
        self._source, self._eyes = source, eyes
        self.dream: Dream = source.agent.dream(seed, source.sample)

    def begin(self, beginning: Beginning) -> Imagined:
        """Stand at the newest step of a beginning."""
        device = self._eyes.device
        tokens_1CK = self._eyes.tokens(beginning.frames)[None]
        actions_1C = torch.as_tensor(beginning.actions, device=device)[None]  # of numbers (1, C, A)
        games_1 = torch.tensor([game_id(self._source.game)], device=device)
        with torch.inference_mode(), self._source.piece("dream"):
            return self.dream.reset(Context(tokens_1CK, actions_1C, games_1))

    def step(self, action: NDArray[Any]) -> Imagined:
        """One step further, by an action (1,) or (1, A) as the environment is given it."""
        with torch.inference_mode(), self._source.piece("dream"):
            return self.dream.step(torch.as_tensor(action, device=self._eyes.device))

    def facts(self) -> dict[str, str]:
        """What it remembers, for a header."""
        found = self.dream.remembered
        steps = f"{found.steps} of {found.most} steps" if found.most else f"{found.steps} steps, without bound"
        return {"memory": steps, "forgot": found.forgot, "passes": str(found.passes)}
