"""From stored data to tensors: open a stage's parents as segment sources, and turn numpy batches into torch ones."""

from pathlib import Path

import torch

from models.api import Batch
from pipelines.atari.actions import ACTIONS, legal_mask
from pipelines.atari.games import GAMES
from pipelines.replay.loader import SegmentBatch, SegmentSource
from pipelines.replay.segments import read_table
from pipelines.replay.tokens import memory_mapped
from pipelines.replay.trajectories import FILE_NAME, Trajectories
from pipelines.store.artefact import Artefact
from pipelines.training.device import Device


def held_out_from(trajectories: Trajectories, holdout: int) -> int:
    """First episode that training must not see: the last `holdout` are kept for measuring, but never all of them."""
    return max(trajectories.num_episodes - holdout, 1)


def sources(
    trajectories: list[Artefact], segments: list[Artefact], holdout: int, tokens: list[Artefact], cache: Path
) -> list[SegmentSource]:
    """One source a game, without the held-out episodes; with memory-mapped tokens where `tokens` is not empty."""
    found = []
    for index, (data, cut) in enumerate(zip(trajectories, segments, strict=True)):
        episodes = Trajectories(data.path(FILE_NAME))
        kept = held_out_from(episodes, holdout)
        mapped = memory_mapped(tokens[index], cache) if tokens else None
        table = read_table(cut.folder)
        found.append(SegmentSource(episodes, table[table[:, 0] < kept], mapped))
    return found


def to_torch(batch: SegmentBatch, device: Device) -> Batch:
    """The same batch as tensors on the training device."""

    def move(array: object) -> torch.Tensor:
        return torch.as_tensor(array).to(device.name, non_blocking=True)

    return Batch(
        frames_uint8_BTHW=None if batch.frames_BTHW is None else move(batch.frames_BTHW),
        tokens_BTK=None if batch.tokens_BTK is None else move(batch.tokens_BTK),
        actions_BT=move(batch.actions_BT),
        rewards_BT=move(batch.rewards_BT),
        ends_BT=move(batch.ends_BT).long(),
        mask_BT=move(batch.mask_BT),
        games_B=move(batch.games_B),
    )


def legal_actions(games: tuple[str, ...]) -> torch.Tensor:
    """(60, 18) bool: the legal actions of the given games; all actions for the other games."""
    table = torch.ones(len(GAMES), len(ACTIONS), dtype=torch.bool)
    for game in games:
        table[GAMES.index(game)] = torch.as_tensor(legal_mask(game))
    return table
