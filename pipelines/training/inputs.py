"""From stored data to tensors: a stage's parents as segment sources, batches as the models' own, imagined segments."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from models.api import Agent, Batch, FrameBatch, mixed, rows_of
from models.planning.beam import Beam, ImaginedBuffer, imaginable, imagine
from models.spaces import Discrete, Spaces
from pipelines.batches import loader as stored
from pipelines.batches.loader import BatchSource, FrameLoader, SegmentLoader, SegmentSource, Source
from pipelines.batches.segments import Segmentation, open_tokens
from pipelines.environments import registry
from pipelines.environments.actions import legal_mask
from pipelines.environments.registry import game_id, task_count
from pipelines.episodes.trajectories import (
    FILE_NAME,
    BestEpisodes,
    Trajectories,
    best_episodes,
)
from pipelines.errors import UsageError, WorldlineError
from pipelines.store.artefact import Artefact
from pipelines.store.profile import Profile
from pipelines.training.device import Device
from pipelines.training.schedule import ImagineConfig, LoopConfig

if TYPE_CHECKING:
    from pipelines.batches.shards import ShardSet

MEAN_FRAME_SAMPLES = 512


def sources(
    trajectories: list[Artefact],
    segments: list[Artefact],
    holdout: int,
    tokens: list[Artefact],
    scratch: Path,
    preload_bytes: int = 0,
) -> list[SegmentSource]:
    """One source a game, without the held-out episodes; with its tokens (`open_tokens`) where `tokens` is not empty.

    Raises UsageError for games without segments or tokens and for too few episodes to hold out, WorldlineError for a
    game that has no segment to learn from.
    """
    for kind, artefacts in (("segments", segments), ("tokens", tokens)):
        if artefacts or kind == "segments":
            _check_games(kind, trajectories, artefacts)
    encoded = open_tokens(tokens, scratch, preload_bytes)
    found = []
    for index, (data, cut) in enumerate(zip(trajectories, segments, strict=True)):
        episodes = Trajectories(data.source(FILE_NAME))
        kept = held_out_from(episodes.game, episodes.num_episodes, holdout)
        rule = cut.manifest.config  # 10 M transitions have 2.5 M segments: computed, not read
        every = Segmentation(episodes.episode_starts, rule["length"], rule["stride"], rule["padding"])
        kept_segments = every.first_episodes(kept)
        if not len(kept_segments):
            raise _nothing_to_learn(episodes.game, kept)
        found.append(SegmentSource(episodes, kept_segments, encoded[index] if encoded else None))
    return found


def best_sources(
    trajectories: Artefact, episodes: int, length: int, stride: int, padding: str, holdout: int
) -> tuple[SegmentSource, SegmentSource]:
    """A game without its held-out episodes, to measure on; and the best `episodes` of those, to learn from."""
    data = Trajectories(trajectories.source(FILE_NAME))
    kept = held_out_from(data.game, data.num_episodes, holdout)
    best = BestEpisodes(data, best_episodes(data, episodes, among=kept))
    every = Segmentation(data.episode_starts, length, stride, padding).first_episodes(kept)
    return (
        SegmentSource(data, every),
        SegmentSource(best, Segmentation(best.episode_starts, length, stride, padding)),
    )


def shard_sources(
    artefacts: Sequence[Artefact], loop: LoopConfig, length: int, scratch: Path, profile: Profile
) -> list[Source]:
    """One source a game of what its `imported_shards` artefact lists, without the held-out episodes.

    length: steps of a segment that the networks read. Shards of a bucket are kept in `scratch` for a while, no more
    than twice those that are being mixed and for each of two objectives. Raises UsageError for shards of another
    length and for too few episodes to hold out, WorldlineError for a game that has no segment to learn from.
    """
    from pipelines.batches.shard_cache import ShardCache
    from pipelines.batches.webdataset_reader import ShardSource

    found: list[Source] = []
    room = 0
    exports = [listed_shards(one, loop.shards, profile) for one in artefacts]
    for export in exports:
        largest = max(export.shards, key=lambda shard: shard.segments)
        room += 4 * max(1, loop.shuffle // largest.segments) * max(shard.bytes for shard in export.shards)
    for one, export in zip(artefacts, exports, strict=True):
        if export.length != length:
            raise UsageError(
                f"{one.ref} has segments of {export.length} steps and the networks read {length}: export its "
                f"trajectories with --length {length} and import those shards"
            )
        kept = held_out_from(export.game, export.contents.episodes, loop.holdout_episodes)
        source = ShardSource(export, kept, ShardCache(scratch / "shards", room), loop.shuffle)
        if not source.learned.any():
            raise _nothing_to_learn(export.game, kept)
        found.append(source)
    return found


def listed_shards(artefact: Artefact, moved: str, profile: Profile) -> "ShardSet":
    """The shards that an `imported_shards` artefact pins, where they lay or below `moved`; none is read yet."""
    from pipelines.batches.shards import INDEX, ShardSet

    url = f"{moved.rstrip('/')}/{artefact.ref.subject}.webdataset" if moved else artefact.manifest.roots[0]["url"]
    return ShardSet(url, profile, artefact.path(INDEX).read_bytes())


def held_out_from(game: str, count: int, holdout: int) -> int:
    """First of `count` episodes that training must not see: the last `holdout` are kept for measuring.

    A single episode is learned from and none is held out, where no more than the usual one is asked for. Raises
    UsageError where nothing else would be left to learn from.
    """
    if holdout >= max(count, 2):
        raise UsageError(
            f"loop.holdout_episodes is {holdout}, but there are {count} episodes of {game} in all: hold out "
            f"{max(count - 1, 1)} at most, or take more transitions"
        )
    return max(count - holdout, 1)


def batch_sources(
    sources: Sequence[Source],
    segments: Mapping[str, int],
    frames: Mapping[str, int],
    seed: int,
    length: int,
    preload_bytes: int,
) -> dict[str, BatchSource]:
    """What objectives read, by their names, each with its rows a batch: segments, and single frames of these.

    Stored tokens are read in place of frames. Where the segments lie decides which loader reads them.
    """
    plain = [source for source in sources if isinstance(source, SegmentSource)]
    if len(plain) < len(sources):
        from pipelines.batches.webdataset_reader import ShardFrames, ShardSource, WebdatasetStream

        streamed = [source for source in sources if isinstance(source, ShardSource)]
        streams = {size: WebdatasetStream(streamed, size, seed) for size in {*segments.values()}}
        each: dict[str, BatchSource] = {name: streams[size] for name, size in segments.items()}
        return each | {name: ShardFrames(WebdatasetStream(streamed, size, seed)) for name, size in frames.items()}
    tokens = plain[0].tokens_NK is not None
    preload = 0 if tokens and not frames else preload_bytes
    loaders = {
        size: SegmentLoader(plain, size, seed, length, with_frames=not tokens, preload_bytes=preload)
        for size in {*segments.values()} or {1}
    }
    found: dict[str, BatchSource] = {name: loaders[size] for name, size in segments.items()}
    one = next(iter(loaders.values()))  # whose frames single frames are drawn from too
    return found | {name: FrameLoader(one, size) for name, size in frames.items()}


def spaces(sources: Sequence[Source], games: Sequence[str]) -> Spaces:
    """What is learned from: frames as they are stored, the actions of the games, rewards as they were recorded.

    Raises UsageError for games whose frames differ.
    """
    shapes = {name: one.frame_shape for name, one in zip(games, sources, strict=True)}
    if len(set(shapes.values())) > 1:
        each = ", ".join(f"{name} {shape}" for name, shape in shapes.items())
        raise UsageError(f"Frames of one size are learned from, here are {each}: choose games of one size and colour")
    height, width, *colours = next(iter(shapes.values()))
    actions = registry.actions(games[0])
    shared = Discrete(actions.names) if isinstance(actions, Discrete) else actions  # which a game uses, it says itself
    clipped = all(one.clipped for one in sources)
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


def _nothing_to_learn(game: str, kept: int) -> WorldlineError:
    return WorldlineError(
        f"{game} has no segment to learn from in the {kept} episodes that are not held out: take more transitions, or "
        "lower loop.holdout_episodes"
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
    frames_nCHW = channels_first(fields["frames_nHW"], 3)
    return FrameBatch(frames_nCHW=frames_nCHW, games_n=fields["games_n"], returns_n=fields.get("returns_n"))


def channels_first(frames: Tensor, grey: int) -> Tensor:
    """Frames as stored, (..., H, W) grey or (..., H, W, C), as (..., C, H, W). `grey`: dimensions of grey ones."""
    return frames.unsqueeze(-3) if frames.ndim == grey else frames.movedim(-1, -3)


def mean_frame(source: Source) -> NDArray[np.float32]:
    """(H, W) or (H, W, C) mean, 0..255, over frames that are spread over the episodes that training sees."""
    return np.mean(source.spread(MEAN_FRAME_SAMPLES), axis=0, dtype=np.float32)


def mean_frames(sources: Sequence[Source], device: Device) -> dict[int, Tensor]:
    """By game, its mean frame (C, H, W) float32 in [0, 1] on the device."""
    target = torch.device(device.name)
    return {source.game: channels_first(torch.as_tensor(mean_frame(source)), 2).to(target) / 255 for source in sources}


def legal_actions(games: tuple[str, ...]) -> Tensor:
    """(games, actions) bool, (60, 18) of Atari: the legal actions of games of one kind; all for the other games."""
    table = torch.ones(task_count(games[0]), len(legal_mask(games[0])), dtype=torch.bool)
    for game in games:
        table[game_id(game)] = torch.as_tensor(legal_mask(game))
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
        """Continue those of the segments (of frames, or of tokens) that can be, and keep what comes out."""
        able_B = imaginable(batch, self._config.horizon)
        if not bool(able_B.any()):
            return
        (agent,) = self._agents
        modes = [(network, network.training) for network in agent.networks.values()]
        for network, _ in modes:
            network.eval()
        with self._device.autocast():
            able = Batch(**{name: tensor[able_B] for name, tensor in vars(batch).items() if tensor is not None})
            start = able
            if able.frames_BTCHW is not None:
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
