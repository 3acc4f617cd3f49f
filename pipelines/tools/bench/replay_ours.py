"""Our side of the replay benchmark: the same functions that the stages and the training loop call."""

import os
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import google_crc32c
import numpy as np

from pipelines.sources.dqn_replay.log_reader import iter_blocks


def select_rows(path: str, pieces: list[list[int]]) -> int:
    """Stream the file past the wanted rows (ascending, apart); returns a crc32c over them."""
    found = row = position = 0
    for block in iter_blocks(f"file://{path}"):
        end = row + len(block)
        while position < len(pieces) and pieces[position][0] < end:
            start, stop = pieces[position]
            found = google_crc32c.extend(found, block[max(start, row) - row : min(stop, end) - row].tobytes())
            if stop > end:
                break
            position += 1
        row = end
    return found


def segments(files: list[str], tokens: list[str], batch: int, batches: int) -> int:
    """Random segments of 8 as training reads them: frames from HDF5, or the tokens alone where there are some."""
    from pipelines.batches.loader import SegmentLoader, SegmentSource
    from pipelines.batches.segments import Segmentation
    from pipelines.episodes.trajectories import Trajectories

    sources = []
    for index, path in enumerate(files):
        data = Trajectories(Path(path))
        codes = np.load(tokens[index], mmap_mode="r") if tokens else None
        sources.append(SegmentSource(data, Segmentation(data.episode_starts, 8, 4, "right"), codes))
    loader = SegmentLoader(sources, batch, seed=0, with_frames=not tokens)
    return sum(int(loader.batch(step).mask_BT.sum()) for step in range(batches))


def episodes(shards: dict[str, str]) -> list[list[int]]:
    """All episodes of the shards (game -> path), a thread a shard, as the stage `trajectories` reads them.

    Of each shard: episodes, transitions, crc32c over their frames.
    """
    from pipelines.bucket.bucket import Bucket
    from pipelines.sources.inflate import inflated
    from pipelines.sources.rlu.episodes import align, iter_episodes
    from pipelines.sources.rlu.png import decode_frames
    from pipelines.sources.rlu.source import BLOCK

    def one(game: str, path: str) -> list[int]:
        root, _, name = path.rpartition("/")
        bucket = Bucket.of(f"file://{root}")
        item = bucket.stat(name)
        count = steps = crc = 0
        with inflated(item, bucket) as stream:
            for episode in iter_episodes(stream, game, item.url):
                pngs = align(episode, shifted=False).pngs
                for first in range(0, len(pngs), BLOCK):
                    crc = google_crc32c.extend(crc, decode_frames(pngs[first : first + BLOCK]).tobytes())
                count, steps = count + 1, steps + len(pngs)
        return [count, steps, crc]

    with ThreadPoolExecutor(os.cpu_count()) as threads:
        return list(threads.map(one, shards.keys(), shards.values()))


def trajectories(url: str, options: dict[str, Any], game: str, folder: str, transitions: int) -> dict[str, Any]:
    """The stages `replay` and `trajectories`, from a bucket into a new store."""
    from pipelines.bucket.bucket import Bucket
    from pipelines.sources.dqn_replay.listing import list_objects
    from pipelines.sources.source import digest
    from pipelines.stages import downsample, fetch
    from pipelines.stages.downsample import DownsampleConfig
    from pipelines.stages.fetch import FetchConfig
    from pipelines.store.profile import Profile
    from pipelines.store.store import Store

    profile = Profile("bench", replay_root=url, options=options)
    store = Store(Path(folder), profile=profile)
    listing = digest(list_objects(Bucket.of(url, profile), game, 1))
    replay = fetch.run(FetchConfig(game, 1, url=url, listing=listing), store).artefact
    drawn = downsample.run(DownsampleConfig(game, replays=(replay.ref,), transitions=transitions), store).artefact
    return {
        "transitions": drawn.manifest.counts["transitions"],
        "stages": {each.ref.stage: each.manifest.cost for each in (replay, drawn)},
    }
