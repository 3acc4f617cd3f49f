"""Greedy play of the networks that train: what `CheckpointManager` judges checkpoints by. No planner, fixed seeds.

All episodes of a game are played at once; games are shared out over the ranks.
"""

from functools import partial

import numpy as np
import torch

from models.api import Agent
from pipelines.environments.registry import protocol
from pipelines.environments.rollout import Episode, EpisodeBatch, play
from pipelines.evaluation.player_settings import PlayerSettings
from pipelines.evaluation.players import AgentPlayer
from pipelines.training.config import LoopConfig
from pipelines.training.device import Device
from pipelines.training.distributed.ranks import Ranks

PROTOCOL = "jowa"

CONTEXT = 4  # newest steps the policy sees

EPSILON = 0.001

SEED = 1_000_003  # not those of the scores


def greedy_returns(
    agent: Agent, games: tuple[str, ...], loop: LoopConfig, device: Device, ranks: Ranks
) -> dict[str, float]:
    """Mean raw return by game. Leaves the networks' modes and the random numbers as they were."""
    modes = [(module, module.training) for module in agent.networks.values()]
    means = torch.zeros(len(games), dtype=torch.float64)
    with torch.random.fork_rng():
        for module, _ in modes:
            module.eval()
        for index in range(ranks.rank, len(games), ranks.world):
            means[index] = _mean_return(agent, games[index], loop, device)
    for module, training in modes:
        module.train(training)
    return dict(zip(games, ranks.sum_(means).tolist(), strict=True))


def _mean_return(agent: Agent, game: str, loop: LoopConfig, device: Device) -> float:
    greedy = PlayerSettings("greedy", loop.evaluate_episodes, loop.evaluate_steps, CONTEXT, EPSILON)
    seeds = {number: SEED + number for number in range(greedy.episodes)}
    episodes: list[Episode] = []
    table = EpisodeBatch(game, protocol(PROTOCOL), seeds, episodes.append, max_steps=greedy.max_steps)
    play(table, AgentPlayer(greedy, [game] * table.rows, agent, partial(device.piece, "play")))
    return float(np.mean([episode.score for episode in episodes]))
