"""From stored data to tensors: a stage's parents as segment sources, batches as the models' own, imagined segments."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from models.api import Agent, Batch, FrameBatch, mixed, rows_of
from models.planning.beam import Beam, ImaginedBuffer, imaginable, imagine
from models.spaces import Discrete, Spaces
from pipelines.batches import loader as stored
from pipelines.batches.loader import SegmentSource
from pipelines.batches.segments import Segmentation, memory_mapped
from pipelines.environments import registry
from pipelines.environments.atari.games import ACTIONS, GAMES
from pipelines.environments.registry import legal_mask
from pipelines.episodes.trajectories import FILE_NAME, BestEpisodes, Trajectories, TrajectoryReader, best_episodes
from pipelines.errors import UsageError, WorldlineError
from pipelines.store.artefact import Artefact
from pipelines.training.device import Device
from pipelines.training.schedule import ImagineConfig

MEAN_FRAME_SAMPLES = 512


def sources(
    trajectories: list[Artefact], segments: list[Artefact], holdout: int, tokens: list[Artefact], cache: Path
) -> list[SegmentSource]:
    """One source a game, without the held-out episodes; with memory-mapped tokens where `tokens` is not empty.

    Raises UsageError for games without segments or tokens and for too few episodes to hold out, WorldlineError for a
    game that has no segment to learn from.
    """
    for kind, artefacts in (("segments", segments), ("tokens", tokens)):
        if artefacts or kind == "segments":
            _check_games(kind, trajectories, artefacts)
    found = []
    for index, (data, cut) in enumerate(zip(trajectories, segments, strict=True)):
        episodes = Trajectories(data.path(FILE_NAME))
        kept = held_out_from(episodes, holdout)
        mapped = memory_mapped(tokens[index], cache) if tokens else None
        rule = cut.manifest.config  # 10 M transitions have 2.5 M segments: computed, not read
        every = Segmentation(episodes.episode_starts, rule["length"], rule["stride"], rule["padding"])
        kept_segments = every.first_episodes(kept)
        if not len(kept_segments):
            raise WorldlineError(
                f"{episodes.game} has no segment to learn from in the {kept} episodes that are not held out: take more "
                "transitions, or lower loop.holdout_episodes"
            )
        found.append(SegmentSource(episodes, kept_segments, mapped))
    return found


def best_sources(
    trajectories: Artefact, episodes: int, length: int, stride: int, padding: str, holdout: int
) -> tuple[SegmentSource, SegmentSource]:
    """A game without its held-out episodes, to measure on; and the best `episodes` of those, to learn from."""
    data = Trajectories(trajectories.path(FILE_NAME))
    kept = held_out_from(data, holdout)
    best = BestEpisodes(data, best_episodes(data, episodes, among=kept))
    every = Segmentation(data.episode_starts, length, stride, padding).first_episodes(kept)
    return (
        SegmentSource(data, every),
        SegmentSource(best, Segmentation(best.episode_starts, length, stride, padding)),
    )


def held_out_from(trajectories: TrajectoryReader, holdout: int) -> int:
    """First episode that training must not see: the last `holdout` are kept for measuring.

    A single episode is learned from and none is held out, where no more than the usual one is asked for. Raises
    UsageError where nothing else would be left to learn from.
    """
    count = trajectories.num_episodes
    if holdout >= max(count, 2):
        raise UsageError(
            f"loop.holdout_episodes is {holdout}, but there are {count} episodes of {trajectories.game} in all: hold "
            f"out {max(count - 1, 1)} at most, or take more transitions"
        )
    return max(count - holdout, 1)


def spaces(sources: Sequence[SegmentSource], games: Sequence[str]) -> Spaces:
    """What is learned from: frames as they are stored, the actions of the games, rewards as they were recorded.

    Raises UsageError for games whose frames differ.
    """
    shapes = {name: one.trajectories.frame_shape for name, one in zip(games, sources, strict=True)}
    if len(set(shapes.values())) > 1:
        each = ", ".join(f"{name} {shape}" for name, shape in shapes.items())
        raise UsageError(f"Frames of one size are learned from, here are {each}: choose games of one size and colour")
    height, width, *colours = next(iter(shapes.values()))
    actions = registry.actions(games[0])
    shared = Discrete(actions.names) if isinstance(actions, Discrete) else actions  # which a game uses, it says itself
    clipped = all(float(np.abs(one.trajectories.rewards).max(initial=0)) <= 1 for one in sources)
    return Spaces((height, width, 3 if colours else 1), shared, "clipped" if clipped else "raw")


def check_tokens(tokens: list[Artefact], pretrained: Artefact) -> None:
    """Raises UsageError for tokens that another tokenizer gave: their codes mean something else."""
    for artefact in tokens:
        made_by = [entry.ref for entry in artefact.manifest.parents if entry.ref.startswith(f"{pretrained.ref.stage}/")]
        if made_by != [str(pretrained.ref)]:
            raise UsageError(
                f"{artefact.ref} was made by the tokenizer of {', '.join(made_by) or 'nobody'}, training starts from "
                f"{pretrained.ref}: tokenize {artefact.ref.subject} with that one"
            )


def _check_games(kind: str, trajectories: list[Artefact], others: list[Artefact]) -> None:
    games, have = ([artefact.ref.subject for artefact in each] for each in (trajectories, others))
    if games != have:
        raise UsageError(
            f"Games {', '.join(games)} are to be learned from, and there are {kind} of {', '.join(have) or 'none'}: "
            f"name the {kind} of each game, in that order"
        )


def tensors(batch: stored.SegmentBatch | stored.FrameBatch) -> dict[str, Tensor]:
    """The arrays of a batch as tensors over the same memory, by field; fields that are None are left out."""
    return {name: torch.from_numpy(array) for name, array in vars(batch).items() if array is not None}


def to_batch(fields: Mapping[str, Tensor]) -> Batch:
    """A SegmentBatch's tensors, on any device, as the models' batch."""
    return Batch(
        frames_BTCHW=None if "frames_BTHW" not in fields else channels_first(fields["frames_BTHW"], 4),
        tokens_BTK=fields.get("tokens_BTK"),
        actions_BT=fields["actions_BT"],
        rewards_BT=fields["rewards_BT"],
        ends_BT=fields["ends_BT"].long(),
        mask_BT=fields["mask_BT"],
        games_B=fields["games_B"],
    )


def to_frames(fields: Mapping[str, Tensor]) -> FrameBatch:
    """A stored FrameBatch's tensors, on any device, as the models' batch of single frames."""
    return FrameBatch(frames_nCHW=channels_first(fields["frames_nHW"], 3), games_n=fields["games_n"])


def channels_first(frames: Tensor, grey: int) -> Tensor:
    """Frames as stored, (..., H, W) grey or (..., H, W, C), as (..., C, H, W). `grey`: dimensions of grey ones."""
    return frames.unsqueeze(-3) if frames.ndim == grey else frames.movedim(-1, -3)


def mean_frame(source: SegmentSource) -> NDArray[np.float32]:
    """(H, W) or (H, W, C) mean, 0..255, over frames spread evenly over the episodes that training sees."""
    rows = np.unique(np.linspace(0, source.rows - 1, MEAN_FRAME_SAMPLES).astype(np.int64))
    return np.mean([source.trajectories.frames(row, row + 1)[0] for row in rows.tolist()], axis=0, dtype=np.float32)


def mean_frames(sources: Sequence[SegmentSource], device: Device) -> dict[int, Tensor]:
    """By game, its mean frame (C, H, W) float32 in [0, 1] on the device."""
    target = torch.device(device.name)
    return {source.game: channels_first(torch.as_tensor(mean_frame(source)), 2).to(target) / 255 for source in sources}


def legal_actions(games: tuple[str, ...]) -> Tensor:
    """(60, 18) bool: the legal actions of the given games; all actions for the other games."""
    table = torch.ones(len(GAMES), len(ACTIONS), dtype=torch.bool)
    for game in games:
        table[GAMES.index(game)] = torch.as_tensor(legal_mask(game))
    return table


class ImaginedSegments(nn.Module):
    """Segments that the model imagines: searched for now and then, drawn from every step (JOWA, arXiv 2410.00564).

    A module without weights, so that its bounded buffer is part of the training's state and a killed run resumes bit
    for bit. legal_GA: (games, actions) bool. The agent's networks are used as they are at the time, in eval mode.
    """

    def __init__(self, config: ImagineConfig, agent: Agent, legal_GA: Tensor, device: Device, seed: int) -> None:
        super().__init__()
        self._config, self._device, self._legal_GA = config, device, legal_GA
        self._agents = (agent,)  # in a tuple: its networks are no part of this module
        self._world, self._beam = agent.world(), Beam(config.width, config.horizon)
        self._buffer = ImaginedBuffer(config.capacity, seed)

    def __len__(self) -> int:
        return len(self._buffer)

    def mix(self, real: Batch, step: int) -> Batch:
        """From step `after` on the last segments of a whole batch give way to imagined ones.

        Every so many steps the model imagines how those that give way would have gone on.
        """
        config = self._config
        if step < config.after:
            return real
        kept = len(real.games_B) - config.segments
        if (step - config.after) % config.every == 0:
            self.search(rows_of(real, slice(kept, None)))
        if not len(self):  # no segment could be continued yet
            return real
        return mixed(rows_of(real, slice(kept)), self.sample(config.segments))

    @torch.no_grad()
    def search(self, batch: Batch) -> None:
        """Continue those of the segments (with frames) that can be, and keep what comes out."""
        assert batch.frames_BTCHW is not None, "this loader reads frames"
        able_B = imaginable(batch, self._config.horizon)
        if not bool(able_B.any()):
            return
        (agent,) = self._agents
        modes = [(network, network.training) for network in agent.networks.values()]
        for network, _ in modes:
            network.eval()
        with self._device.autocast():
            able = Batch(**{name: tensor[able_B] for name, tensor in vars(batch).items() if tensor is not None})
            assert able.frames_BTCHW is not None
            start = replace(able, tokens_BTK=agent.encode(able.frames_BTCHW))
            legal_BA = self._legal_GA[start.games_B]
            found = imagine(self._world, start, legal_BA, self._beam, agent.gamma, agent.decode)
        for network, training in modes:
            network.train(training)
        self._buffer.add(found)

    def sample(self, count: int) -> Batch:
        """`count` imagined segments, on the device. Raises ValueError while there are none."""
        return self._buffer.sample(count).to(self._device.name)

    def get_extra_state(self) -> dict[str, Tensor]:
        """The buffer, as torch saves it with the weights of other modules."""
        return self._buffer.state()

    def set_extra_state(self, state: Any) -> None:
        """Go on from what `get_extra_state` gave."""
        self._buffer.restore(state)
