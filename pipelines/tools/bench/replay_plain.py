"""The other side of the replay benchmark: what the original and its peers do, written in the plainest way that works.

Sources: JOWA's loader and downsampling (arXiv 2410.00564) as its data layout and costs are described by its authors;
d4rl-atari and TorchRL read observation files in the same way.
"""

import gzip
import io
from pathlib import Path
from typing import Any

import google_crc32c
import h5py
import numpy as np
import pandas as pd
from numpy.typing import NDArray

Table = pd.DataFrame


def select_rows(path: str, pieces: list[list[int]]) -> int:
    """The whole array into memory, then the wanted rows; returns a crc32c over them."""
    with gzip.open(path, "rb") as file:
        frames = np.load(file)
    found = 0
    for start, stop in pieces:
        found = google_crc32c.extend(found, frames[start:stop].tobytes())
    return found


def segments(files: dict[str, str], table: str, batch: int, batches: int, length: int = 8) -> int:
    """Random segments out of per-episode groups; the file is opened for each, its terminals are read whole."""
    rows = pd.read_csv(table)
    order = np.random.default_rng(0).integers(0, len(rows), batch * batches)
    seen = 0
    for number in range(batches):
        items = [_segment(files, rows, int(i), length) for i in order[number * batch : (number + 1) * batch]]
        collated = [np.stack(part) for part in zip(*items, strict=True)]
        seen += int(collated[-1].sum())
    return seen


def _segment(files: dict[str, str], rows: Table, index: int, length: int) -> tuple[NDArray[Any], ...]:
    episode, start, end, game = rows.iloc[index]
    with h5py.File(files[game], "r") as file:
        group = file[str(episode)]
        observations = group["observations"][start:end]
        actions = group["actions"][start:end]
        rewards = group["rewards"][start:end]
        ends = group["terminals"][:][start:end]
    missing = length - len(actions)
    mask = np.arange(length) < len(actions)
    padded = [np.pad(a, [(0, missing)] + [(0, 0)] * (a.ndim - 1)) for a in (observations, actions, rewards, ends)]
    return *padded, mask


def episodes(shards: dict[str, str]) -> list[list[int]]:
    """The `tfrecord` package and Pillow, one shard after another; returns what `replay_ours.episodes` does."""
    from PIL import Image
    from tfrecord.reader import tfrecord_loader

    found = []
    for path in shards.values():
        count = steps = crc = 0
        for episode in tfrecord_loader(path, None, compression_type="gzip"):
            ended = episode["discounts"][-1] == 0
            frames = np.stack([np.asarray(Image.open(io.BytesIO(png))) for png in episode["observations"]])
            frames = frames[: len(frames) - ended]
            crc = google_crc32c.extend(crc, frames.tobytes())
            count, steps = count + 1, steps + len(frames)
        found.append([count, steps, crc])
    return found


def trajectories(url: str, options: dict[str, Any], game: str, objects: int, folder: str, transitions: int) -> int:
    """Download all files of an agent; load each checkpoint whole, cut and draw episodes, keep all, write at the end."""
    import fsspec

    place, into = f"{url}/{game}/1/replay_logs", Path(folder)
    into.mkdir(parents=True)
    filesystem = fsspec.filesystem(url.partition("://")[0], **options)
    filesystem.get(f"{place}/", f"{into}/", recursive=True)
    whole = []  # (checkpoint, start, stop) of every episode, as far as one file knows
    for number in range(objects):
        start = 0
        for end in np.flatnonzero(_load(into, "terminal", number)).tolist():
            whole.append((number, start, end + 1))
            start = end + 1
    mean = np.mean([stop - start for _, start, stop in whole])
    drawn = np.random.default_rng(0).permutation(len(whole))[: int(np.ceil(transitions / mean))]
    kept: list[list[NDArray[Any]]] = []
    for number in range(objects):
        mine = [whole[i] for i in sorted(drawn.tolist()) if whole[i][0] == number]
        if mine:
            arrays = [_load(into, kind, number) for kind in ("observation", "action", "reward", "terminal")]
            kept += [[array[start:stop].copy() for array in arrays] for _, start, stop in mine]
    with h5py.File(into / f"{game}.h5", "w") as file:
        for index, (observations, actions, rewards, ends) in enumerate(kept):
            group = file.create_group(str(index))
            group["observations"], group["actions"] = observations, actions
            group["rewards"], group["terminals"] = rewards, ends
    return sum(len(episode[1]) for episode in kept)


def _load(folder: Path, kind: str, number: int) -> NDArray[Any]:
    with gzip.open(folder / f"$store$_{kind}_ckpt.{number}.gz", "rb") as file:
        return np.load(file)
