"""A toy game whose every figure can be computed by hand, with a tokenizer and a world model that err by fixed amounts.

Step t of an episode shows 2t on the left half of the screen and 50 on the right.
"""

from collections.abc import Mapping

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from models.api import Context, Imagined, Limits
from models.jowa.config import JowaAgentConfig
from pipelines.environments.atari.games import ACTIONS, minimal_actions
from pipelines.episodes.trajectories import FILE_NAME, TrajectoryWriter
from pipelines.stages import segment
from pipelines.stages.segment import SegmentConfig
from pipelines.store.artefact import Artefact, Draft
from pipelines.store.store import Store
from tests.fakes import spec

GAME = "Freeway"
BIAS = 3  # grey levels that the tokenizer draws too bright
HALF = 42


def frame(step: int) -> NDArray[np.uint8]:
    picture = np.full((84, 84), 50, np.uint8)
    picture[:, :HALF] = 2 * step
    return picture


def make_game(store: Store, *lengths: int) -> tuple[Artefact, Artefact]:
    """Trajectories and segments of episodes of these lengths; action of step t is t modulo 3."""
    steps = np.concatenate([np.arange(length) for length in lengths])

    def build(draft: Draft) -> None:
        names = [ACTIONS[action] for action in minimal_actions(GAME)]
        with TrajectoryWriter(draft.path(FILE_NAME), GAME, names, lengths) as writer:
            writer.write("observations", 0, np.stack([frame(step) for step in steps]))
            writer.write("actions", 0, (steps % 3).astype(np.uint8))

    data = store.produce(spec("trajectories", GAME, lengths=list(lengths)), build).artefact
    return data, segment.run(SegmentConfig(game=GAME, trajectories=data.ref), store).artefact


class ToyAgent:
    """One token a frame, the brightness of its left half; draws that plus BIAS, and a black right half."""

    vocabulary = 256
    networks: Mapping[str, nn.Module] = {}
    limits = Limits(games=60, steps=8)
    tokens_per_frame = 1
    config = JowaAgentConfig()  # of a family without an actor

    def __init__(self, rise: int = 0) -> None:
        self.rise = rise

    def encode(self, frames: Tensor) -> Tensor:
        return frames[..., 0, 0, :1].long()

    def decode(self, tokens: Tensor) -> Tensor:
        pictures = torch.zeros(*tokens.shape[:-1], 1, 84, 84)
        pictures[..., :HALF] = ((tokens.float() + BIAS) / 255)[..., None, None]
        return pictures

    def world(self) -> "ToyWorld":
        return ToyWorld(self.rise)

    def dream(self, seed: int = 0, sample: bool | None = None) -> "ToyWorld":
        return ToyWorld(self.rise)


class ToyWorld:
    """Predicts that the brightness rises by `rise`, whatever is done; remembers what it was told."""

    def __init__(self, rise: int) -> None:
        self.rise = rise
        self.contexts: list[Context] = []
        self.actions: list[Tensor] = []

    def reset(self, context: Context) -> Imagined:
        self.contexts.append(context)
        self.newest_NK = context.tokens_NCK[:, -1]
        return self._here()

    def step(self, actions_N: Tensor, parents_M: Tensor | None = None) -> Imagined:
        assert parents_M is None, "sight looks straight ahead"
        self.actions.append(actions_N)
        self.newest_NK = self.newest_NK + self.rise
        return self._here()

    def _here(self) -> Imagined:
        rows = len(self.newest_NK)
        return Imagined(torch.zeros(rows, 18), torch.zeros(rows), torch.zeros(rows, dtype=torch.bool), self.newest_NK)
