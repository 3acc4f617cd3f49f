"""Segments from webdataset shards, on a disk and in an emulated bucket, beside those from HDF5: one row of the table.

All three sides are ours, and read batches as training does, opening included: `worldline bench replay --only shards`.
"""

import functools
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from pipelines.tools.bench import emulator, replay_ours
from pipelines.tools.bench.child import Cost, in_turns, measure
from pipelines.tools.bench.replay_data import Data
from pipelines.tools.bench.row import Row

BATCH, BATCHES = 64, 160

SHUFFLE = 4096  # segments of a game, as a training mixes by default

LOADER = ("pipelines.batches.loader", "pandas")

READER = ("pipelines.batches.webdataset_reader", "gcsfs")


def shards(data: Data) -> Row:
    """Random segments of frames from shards."""
    folder, games = exported(data), data.sizes.games
    files = [str(data.trajectories(game)) for game in games]
    near = [str(folder / f"{game}.webdataset") for game in games]
    far = [f"{emulator.URL}/{game}.webdataset" for game in games]
    common = {"batch": BATCH, "batches": BATCHES}
    with emulator.bucket(folder) as served:
        disk, bucket, hdf5 = in_turns(
            data.sizes.rounds,
            functools.partial(measure, streamed, imports=READER, urls=near, options={}, **common),
            functools.partial(measure, streamed, imports=READER, urls=far, options=served.options, **common),
            functools.partial(measure, replay_ours.segments, imports=LOADER, files=files, tokens=[], **common),
        )

    def rate(cost: Cost) -> str:
        return f"{BATCH * BATCHES / cost.seconds:,.0f}/s, {cost.peak_bytes / 1e6:.0f} MB"

    size = sum(path.stat().st_size for path in folder.rglob("*.tar"))
    return Row(
        "shards",
        "random segments of 8 frames, gzip'd shards",
        "our HDF5",
        f"disk {rate(disk)}; bucket {rate(bucket)}",
        rate(hdf5),
        hdf5.seconds / disk.seconds,
        None,
        hdf5.cpu_seconds / disk.cpu_seconds,
        conditions=(("disk and bucket give as many real steps", disk.result == bucket.result),),
        notes=(
            f"one process, batches of {BATCH}, {len(games)} games, {size / 1e6:.0f} MB of shards, {SHUFFLE:,} segments "
            "of a game mixed, every shard's sha256 compared, opening and first fetches included",
            "the server is a process beside the reader, on the same cores; its shards are kept on the disk for a while",
        ),
    )


def exported(data: Data) -> Path:
    """A folder with the webdataset export of every game, cut as training cuts."""
    folder = data.folder / f"shards-{'-'.join(data.sizes.games)}-{data.sizes.steps}"
    if not folder.exists():
        from pipelines.batches.segments import Segmentation
        from pipelines.episodes.trajectories import Trajectories
        from pipelines.tools.exports.target import Origin
        from pipelines.tools.exports.webdataset import Webdataset

        aside = folder.with_suffix(".partial")
        aside.mkdir(parents=True, exist_ok=True)
        for game in data.sizes.games:
            source = Trajectories(data.trajectories(game))
            cut = Segmentation(source.episode_starts, 8, 4, "right")
            Webdataset(source, cut).write(
                aside / f"{game}.webdataset", Origin("bench", "", "webdataset", {}), lambda: None
            )
        aside.rename(folder)
    return folder


def streamed(urls: list[str], options: dict[str, Any], batch: int, batches: int) -> int:
    """Random segments as training streams them; returns how many of their steps are real."""
    from pipelines.batches.shard_cache import ShardCache
    from pipelines.batches.shards import ShardSet
    from pipelines.batches.webdataset_reader import ShardSource, WebdatasetStream
    from pipelines.store.profile import Profile

    with TemporaryDirectory() as folder:
        cache = ShardCache(Path(folder), 1 << 30)
        exports = [ShardSet(url, Profile("bench", options=options)) for url in urls]
        sources = [ShardSource(export, export.contents.episodes, cache, SHUFFLE) for export in exports]
        stream = WebdatasetStream(sources, batch, seed=0)
        real = sum(int(stream.batch(step).mask_BT.sum()) for step in range(batches))
        stream.close()
        return real
