"""The toy family's agent: what it sees is the mean brightness of cells, what it predicts are the next cells.

Shapes: N rows, B segments, T steps, C channels, H x W pixels, K cells of all channels, A actions.
"""

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.optim import Optimizer

from models.api import (
    Acting,
    ActionValues,
    Batch,
    Context,
    Imagined,
    Learning,
    Limits,
    Losses,
    Moment,
    Remembered,
)
from models.losses.segments import row_means
from models.spaces import Spaces
from tests.models.toy_family.family import TOY, ToyConfig

ACTIONS = 18


class ToyAgent:
    """See `models.api.Agent`."""

    gamma = 0.9
    vocabulary = 0
    limits = Limits(games=60, steps=8)
    spaces: Spaces | None = None

    def __init__(self, config: ToyConfig, seed: int = 0) -> None:
        self.config = config
        self.tokens_per_frame = config.channels * config.grid**2
        with torch.random.fork_rng():
            torch.manual_seed(seed)
            cells = self.tokens_per_frame
            world = nn.Sequential(
                nn.Linear(cells + ACTIONS, config.hidden), nn.ReLU(), nn.Linear(config.hidden, cells + 2)
            )
            self.networks: dict[str, nn.Module] = {"world": world, "actor": nn.Linear(cells, ACTIONS)}

    def reconfigure(self, **changes: Any) -> None:
        if changes:
            raise ValueError(f"A toy has no setting {sorted(changes)}")

    def start(self, learning: Learning, objectives: Sequence[str]) -> None:
        trains = TOY.trains(tuple(objectives))
        for name, network in self.networks.items():
            network.requires_grad_(name in trains)

    def prepare(self, objective: str, batch: Any, moment: Moment) -> Any:
        return batch

    def counts(self, objective: str, batch: Batch) -> Tensor:
        mask_BT = batch.mask_BT[:, 1:] & batch.mask_BT[:, :-1] if objective == "dynamics" else batch.mask_BT
        return mask_BT.sum().double()[None]

    def loss(self, objective: str, batch: Batch, counts: Tensor, moment: Moment) -> Losses:
        assert batch.frames_BTCHW is not None
        cells_BTK = self.encode(batch.frames_BTCHW).float() / 255
        if objective == "imitation":
            logits_BTA = self.networks["actor"](cells_BTK)
            errors_BT = F.cross_entropy(logits_BTA.movedim(-1, 1), batch.actions_BT, reduction="none")
            mask_BT = batch.mask_BT
        else:
            predicted_BTK, rewards_BT, _ = self.predict(cells_BTK[:, :-1], batch.actions_BT[:, :-1])
            errors_BT = (predicted_BTK - cells_BTK[:, 1:]).pow(2).sum(-1)
            errors_BT = errors_BT + (rewards_BT - batch.rewards_BT[:, :-1]).pow(2)
            mask_BT = batch.mask_BT[:, 1:] & batch.mask_BT[:, :-1]
        total = (errors_BT * mask_BT).sum() / counts[0].clamp(min=1).float()
        rows_B = row_means(errors_BT, mask_BT) if objective == "dynamics" else None
        return Losses(total, {objective: total.detach()}, rows_B)

    def predict(self, cells_NK: Tensor, actions_N: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """The next cells (..., K), the reward and the logit of an end (...), of cells in [0, 1]."""
        actions_NA = F.one_hot(actions_N, ACTIONS).float()
        out = self.networks["world"](torch.cat([cells_NK, actions_NA], dim=-1))
        return cells_NK + out[..., :-2], out[..., -2], out[..., -1]

    def optimiser(self, network: str, lr: float, weight_decay: float) -> tuple[type[Optimizer], list[dict[str, Any]]]:
        return torch.optim.Adam, [{"params": list(self.networks[network].parameters()), "lr": lr}]

    def after_step(self, objectives: Sequence[str], step: int, target_every: int) -> None:
        pass

    def work(self, objective: str, rows: int) -> int:
        return rows * self.limits.steps

    def load_original(self, network: str, state_dict: Mapping[str, Tensor]) -> None:
        self.networks[network].load_state_dict(dict(state_dict))

    def original_weights(self, network: str, state_dict: Mapping[str, Tensor]) -> dict[str, Tensor]:
        return dict(state_dict)

    def original_state_dict(self, network: str) -> dict[str, Tensor]:
        return dict(self.networks[network].state_dict())

    def probe(self) -> dict[str, tuple[Tensor, ...]]:
        world_11, actor_11 = torch.ones(1, self.tokens_per_frame + ACTIONS), torch.ones(1, self.tokens_per_frame)
        return {"world": (self.networks["world"](world_11),), "actor": (self.networks["actor"](actor_11),)}

    def encode(self, frames: Tensor) -> Tensor:
        """Cells (..., K), whole numbers 0 to 255, of frames (..., C, H, W) uint8."""
        wanted = (self.config.channels, self.config.height, self.config.width)
        if tuple(frames.shape[-3:]) != wanted:
            raise ValueError(f"Frames {tuple(frames.shape)} do not fit: give {wanted}")
        cells = F.adaptive_avg_pool2d(frames.flatten(0, -4).float(), self.config.grid)
        return cells.round().long().flatten(1).unflatten(0, frames.shape[:-3])

    def decode(self, observations: Tensor) -> Tensor:
        config = self.config
        cells = observations.flatten(0, -2).unflatten(-1, (config.channels, config.grid, config.grid)).float() / 255
        frames = F.interpolate(cells, size=(config.height, config.width))
        return frames.unflatten(0, observations.shape[:-1])

    def world(self) -> "ToyWorld":
        return ToyWorld(self)

    def dream(self, seed: int = 0, sample: bool | None = None) -> "ToyWorld":
        return ToyWorld(self)

    def policy(self, acting: Acting) -> "ToyPolicy":
        return ToyPolicy(self, acting)


class ToyWorld:
    """See `models.api.Dream`; it values no actions, and knows nothing but the step in sight."""

    remembered = Remembered(steps=1, most=1, forgot="flush", passes=1)

    def __init__(self, agent: ToyAgent) -> None:
        self._agent = agent

    def reset(self, context: Context) -> Imagined:
        self._cells_NK = context.tokens_NCK[:, -1].float() / 255
        rows = len(self._cells_NK)
        return self._here(torch.zeros(rows), torch.zeros(rows, dtype=torch.bool))

    def step(self, actions_M: Tensor, parents_M: Tensor | None = None) -> Imagined:
        cells_NK, rewards_N, ends_N = self._agent.predict(self._cells_NK, actions_M)
        self._cells_NK = cells_NK.clamp(0, 1)
        return self._here(rewards_N, ends_N > 0)

    def _here(self, rewards_N: Tensor, ends_N: Tensor) -> Imagined:
        values_NA = torch.empty(len(rewards_N), 0)
        return Imagined(values_NA, rewards_N, ends_N, (self._cells_NK * 255).round().long())


class ToyPolicy:
    """See `models.api.Policy`: the likeliest legal action of the newest frame."""

    def __init__(self, agent: ToyAgent, acting: Acting) -> None:
        for network in agent.networks.values():
            network.eval()
        self._agent, self._legal_NA = agent, acting.legal_NA

    def begin(self, rows: Sequence[int], seeds: Sequence[int]) -> None:
        pass

    def recall(self, row: int, frames: Tensor, actions: Tensor) -> None:
        self.recalled = (row, len(frames))

    def act(self, frames: Tensor, rows: Sequence[int]) -> Tensor:
        return self.act_on_tokens(self._agent.encode(frames), rows)

    def act_on_tokens(self, tokens_NK: Tensor, rows: Sequence[int]) -> Tensor:
        logits_NA = self._agent.networks["actor"](tokens_NK.float() / 255)
        self._logits = dict(zip(rows, logits_NA, strict=True))
        return logits_NA.masked_fill(~self._legal_NA[list(rows)], -torch.inf).argmax(-1)

    def values(self, row: int) -> ActionValues:
        return ActionValues(self._logits[row].softmax(-1), "probability")
