"""Greedy play of the networks that train: what `Keeper` judges checkpoints by. No planner, fixed seeds.

Cost: that of 16 episodes a game, all at once; games are shared out over the ranks.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray

from models.jowa.model import Jowa
from models.jowa.policy import JowaPolicy
from models.tokenizers.vq import Tokenizer
from pipelines.atari.actions import legal_mask
from pipelines.atari.games import game_id
from pipelines.atari.protocols import protocol
from pipelines.atari.rollout import Episode, play
from pipelines.configs.learn import LoopConfig
from pipelines.training.device import Device
from pipelines.training.ranks import Ranks

PROTOCOL = "jowa"
CONTEXT = 4  # newest steps the policy sees
EPSILON = 0.001
SEED = 1_000_003  # not those of the scores


def greedy_returns(
    model: Jowa, tokenizer: Tokenizer, games: tuple[str, ...], loop: LoopConfig, device: Device, ranks: Ranks
) -> dict[str, float]:
    """Mean raw return by game. Leaves the networks' modes and the random numbers as they were."""
    modes = [(module, module.training) for module in (model, tokenizer)]
    means = torch.zeros(len(games), dtype=torch.float64)
    with torch.random.fork_rng():
        for module, _ in modes:
            module.eval()
        for index in range(ranks.rank, len(games), ranks.world):
            means[index] = _mean_return(model, tokenizer, games[index], loop, device)
    for module, training in modes:
        module.train(training)
    return dict(zip(games, ranks.sum_(means).tolist(), strict=True))


def _mean_return(model: Jowa, tokenizer: Tokenizer, game: str, loop: LoopConfig, device: Device) -> float:
    rows = loop.evaluate_episodes
    policy = JowaPolicy(
        model,
        tokenizer,
        torch.full((rows,), game_id(game), device=device.name),
        torch.as_tensor(np.tile(legal_mask(game), (rows, 1))).to(device.name),
        context=CONTEXT,
        epsilon=EPSILON,
        seed=SEED,
    )

    episodes: list[Episode] = []
    play(
        game,
        _Greedy(policy, device),
        protocol(PROTOCOL),
        {number: SEED + number for number in range(rows)},
        episodes.append,
        max_steps=loop.evaluate_steps,
    )
    return float(np.mean([episode.score for episode in episodes]))


@dataclass(frozen=True)
class _Greedy:
    """The policy as the emulator's loop asks it."""

    policy: JowaPolicy
    device: Device

    def begin(self, row: int, seed: int) -> None:
        self.policy.reset([row], [seed])

    def act(self, frames: NDArray[np.uint8], rows: Sequence[int]) -> NDArray[np.integer]:
        with torch.no_grad(), self.device.autocast():
            return self.policy.act(torch.as_tensor(frames).to(self.device.name), rows).cpu().numpy()
