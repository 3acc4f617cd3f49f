"""From stored data to tensors: open a stage's parents as segment sources, and see numpy batches as torch ones."""

from collections.abc import Mapping
from pathlib import Path

import torch

from models.api import Batch
from pipelines.atari.actions import ACTIONS, legal_mask
from pipelines.atari.games import GAMES
from pipelines.replay.batch import FrameBatch, SegmentBatch
from pipelines.replay.loader import SegmentSource
from pipelines.replay.reader import TrajectoryReader
from pipelines.replay.segments import Segmentation
from pipelines.replay.tokens import memory_mapped
from pipelines.replay.trajectories import FILE_NAME, Trajectories
from pipelines.store.artefact import Artefact


def held_out_from(trajectories: TrajectoryReader, holdout: int) -> int:
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
        rule = cut.manifest.config  # 10 M transitions have 2.5 M segments: computed, not read
        every = Segmentation(episodes.episode_starts, rule["length"], rule["stride"], rule["padding"])
        found.append(SegmentSource(episodes, every.first_episodes(kept), mapped))
    return found


def tensors(batch: SegmentBatch | FrameBatch) -> dict[str, torch.Tensor]:
    """The arrays of a batch as tensors over the same memory, by field; fields that are None are left out."""
    return {name: torch.from_numpy(array) for name, array in vars(batch).items() if array is not None}


def to_batch(fields: Mapping[str, torch.Tensor]) -> Batch:
    """A SegmentBatch's tensors, on any device, as the models' batch."""
    return Batch(
        frames_uint8_BTHW=fields.get("frames_BTHW"),
        tokens_BTK=fields.get("tokens_BTK"),
        actions_BT=fields["actions_BT"],
        rewards_BT=fields["rewards_BT"],
        ends_BT=fields["ends_BT"].long(),
        mask_BT=fields["mask_BT"],
        games_B=fields["games_B"],
    )


def legal_actions(games: tuple[str, ...]) -> torch.Tensor:
    """(60, 18) bool: the legal actions of the given games; all actions for the other games."""
    table = torch.ones(len(GAMES), len(ACTIONS), dtype=torch.bool)
    for game in games:
        table[GAMES.index(game)] = torch.as_tensor(legal_mask(game))
    return table
