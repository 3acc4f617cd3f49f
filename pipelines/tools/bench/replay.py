"""The replay half against the plain way, measured side by side: `worldline bench replay [--quick] [--only NAME]`.

Every measurement runs in a process of its own, in turns with the other side's, files hot in the page cache. Ratios are
of wall time, those in brackets of CPU time.
The full size plays 100,000 frames once and takes 1 GB of disk.
"""

import functools
import shutil
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np

from pipelines.batches.segments import segment_index, to_table
from pipelines.episodes.trajectories import Trajectories
from pipelines.errors import WorldlineError, unknown
from pipelines.progress import say
from pipelines.sources.dqn_replay.ring_log import FRAME
from pipelines.tools.bench import emulator, replay_ours, replay_plain
from pipelines.tools.bench.child import Cost, in_turns, measure
from pipelines.tools.bench.replay_data import FULL, Data, Sizes
from pipelines.tools.bench.replay_shards import shards
from pipelines.tools.bench.row import Row

MB = 1e6

PIECE = 250  # rows; about an episode

BATCH = 64

BOUND = 400 << 20  # bytes of memory that streaming a bucket may take

LOADER = ("pipelines.batches.loader", "pandas")

STAGES = ("gcsfs", "pipelines.stages.fetch", "pipelines.stages.downsample")


def run(folder: Path, sizes: Sizes = FULL, only: str = "") -> list[Row]:
    """Measure the rows, or the one called `only`. `folder` keeps the data for the next run.

    Raises UsageError for an unknown row, WorldlineError when a side fails.
    """
    if only and only not in ROWS:
        raise unknown("row", only, ROWS, "of 'worldline bench replay'")
    folder.mkdir(parents=True, exist_ok=True)
    data, rows = Data(folder, sizes), []
    for name in [only] if only else ROWS:
        say(f"Measuring {name} ...")
        rows.append(ROWS[name](data))
    return rows


def inflate(data: Data) -> Row:
    """An observation file: inflate it, keep a tenth of its rows."""
    path, frames = data.observation_file(), data.sizes.frames
    starts = np.sort(np.random.default_rng(0).choice(frames // PIECE, frames // PIECE // 10, replace=False)) * PIECE
    pieces = [[int(start), int(start) + PIECE] for start in starts]
    arguments: dict[str, Any] = {"path": str(path), "pieces": pieces}
    ours, theirs = in_turns(
        data.sizes.rounds,
        functools.partial(measure, replay_ours.select_rows, imports=("fsspec",), **arguments),
        functools.partial(measure, replay_plain.select_rows, **arguments),
    )
    if ours.result != theirs.result:
        raise WorldlineError("The two sides of 'inflate' read different rows: this is a fault of Worldline, report it")
    return Row(
        "inflate",
        f"inflate {frames:,} frames, select {len(pieces) * PIECE:,}",
        "np.load(gzip.open())",
        f"{ours.seconds:.2f} s, {ours.peak_bytes / MB:.0f} MB",
        f"{theirs.seconds:.2f} s, {theirs.peak_bytes / MB:.0f} MB",
        theirs.seconds / ours.seconds,
        8.0,
        theirs.cpu_seconds / ours.cpu_seconds,
        conditions=(("peak memory of the whole process under 100 MB", ours.peak_bytes < 100 * MB),),
        notes=(f"the file has {path.stat().st_size / MB:.1f} MB, {frames * 7056 / MB:.0f} MB inflated",),
    )


def segments(data: Data) -> Row:
    """Random segments of frames."""
    return _segments(data, "segments", "random segments of 8 frames, compressed HDF5", 8.0, "frames")


def tokens(data: Data) -> Row:
    """Random segments of tokens."""
    return _segments(data, "tokens", "random segments of 8 x 36 tokens, uint16 memory map", 50.0, "tokens")


def _segments(data: Data, name: str, what: str, aim: float, of: str) -> Row:
    games = data.sizes.games
    files = [data.trajectories(game) for game in games]
    codes = [data.token_file(game) for game in games] if of == "tokens" else []
    groups = {game: str(data.grouped(game, of)) for game in games}
    table = _table(data)
    many, few = (6_400 if of == "tokens" else 320), 32  # batches: a second or two each
    ours, theirs = in_turns(
        data.sizes.rounds,
        functools.partial(
            measure,
            replay_ours.segments,
            imports=LOADER,
            files=_text(files),
            tokens=_text(codes),
            batch=BATCH,
            batches=many,
        ),
        functools.partial(measure, replay_plain.segments, files=groups, table=str(table), batch=BATCH, batches=few),
    )

    def rate(cost: Cost, batches: int) -> str:
        return f"{batches * BATCH / cost.seconds:,.0f}/s, {cost.cpu_seconds / batches / BATCH * 1e6:,.1f} us CPU"

    return Row(
        name,
        what,
        "per-episode groups" + (" of int64" if of == "tokens" else "") + ", file opened for each",
        rate(ours, many),
        rate(theirs, few),
        theirs.seconds / few / (ours.seconds / many),
        aim,
        theirs.cpu_seconds / few / (ours.cpu_seconds / many),
        notes=(
            f"one process, batches of {BATCH}, {len(games)} games, files' opening and index included on both sides",
        ),
    )


def size(data: Data) -> Row:
    """Bytes at rest, after every frame was compared with the recording's."""
    raw = stored = 0
    notes = []
    for game in data.sizes.games:
        path = data.trajectories(game)
        source = Trajectories(path)
        require_lossless(data, game, source)
        own = len(source) * int(np.prod(FRAME))
        raw, stored = raw + own, stored + path.stat().st_size
        notes.append(f"{game} {own / path.stat().st_size:.1f}x")
    return Row(
        "size",
        "bytes on disk of trajectories, all arrays",
        "raw frames alone",
        f"{stored / MB:.1f} MB",
        f"{raw / MB:.1f} MB",
        raw / stored,
        20.0,
        conditions=(("every frame equals the recorded one, bit for bit", True),),
        notes=(", ".join(notes),),
    )


def require_lossless(data: Data, game: str, source: Trajectories) -> None:
    """Compare all frames with the logs they came from. Raises WorldlineError where one differs."""
    logs = [log["observation"] for log in data.fresh(game)]
    for start in range(0, len(source), 4096):
        stop = min(start + 4096, len(source))
        origin = source.source_rows(start, stop)  # agent, log, row
        for agent, frames in enumerate(logs, 1):
            mine = origin[:, 0] == agent
            if not np.array_equal(source.frames(start, stop)[mine], frames[origin[mine, 2]]):
                raise WorldlineError(f"Frames {start} to {stop} of {game} changed on their way: report it")


def episodes(data: Data) -> Row:
    """Shards of whole episodes with PNGs, as RL Unplugged has them."""
    shards = {game: str(data.shard(game)) for game in data.sizes.games}
    readers = ("PIL.PngImagePlugin", "fsspec", "pipelines.sources.rlu.source")
    ours, theirs = in_turns(
        data.sizes.rounds,
        functools.partial(measure, replay_ours.episodes, imports=readers, shards=shards),
        functools.partial(measure, replay_plain.episodes, imports=("PIL.PngImagePlugin", "tfrecord"), shards=shards),
    )
    if ours.result != theirs.result:
        raise WorldlineError("The two sides of 'episodes' read different frames: a fault of Worldline, report it")
    count, steps = (sum(own[place] for own in ours.result) for place in (0, 1))
    packed = sum(Path(path).stat().st_size for path in shards.values())
    return Row(
        "episodes",
        f"{count} episodes of {steps:,} PNGs in {len(shards)} TFRecord shards",
        "`tfrecord` and Pillow, one process",
        f"{count / ours.seconds:,.0f} episodes/s, {ours.peak_bytes / MB:.0f} MB",
        f"{count / theirs.seconds:,.0f} episodes/s, {theirs.peak_bytes / MB:.0f} MB",
        theirs.seconds / ours.seconds,
        5.0,
        theirs.cpu_seconds / ours.cpu_seconds,
        conditions=((f"peak memory under {BOUND / MB:.0f} MB", ours.peak_bytes < BOUND),),
        notes=(
            f"{packed / MB:.0f} MB of shards, {packed / steps:,.0f} bytes a frame; ours: a thread a shard, "
            f"{ours.cpu_seconds / steps * 1e6:.1f} us of CPU a frame, theirs {theirs.cpu_seconds / steps * 1e6:.1f}",
        ),
    )


def bucket(data: Data) -> Row:
    """From objects in a bucket to one game's trajectories."""
    sizes = data.sizes
    folder = data.bucket_folder()
    wanted = int(sizes.objects * sizes.rows * sizes.share)
    scratch = data.folder / "bucket-run"

    def clean(function: Callable[..., object], **arguments: object) -> Cost:
        shutil.rmtree(scratch, ignore_errors=True)
        try:
            return measure(function, imports=STAGES, folder=str(scratch), **arguments)
        finally:
            shutil.rmtree(scratch, ignore_errors=True)

    with emulator.bucket(folder) as served:
        common = {"url": emulator.URL, "options": served.options, "game": sizes.bucket_game, "transitions": wanted}
        ours, theirs = in_turns(
            1,
            functools.partial(clean, replay_ours.trajectories, **common),
            functools.partial(clean, replay_plain.trajectories, objects=sizes.objects, **common),
        )
    stages = ", ".join(f"{stage} {cost['seconds']:.1f} s" for stage, cost in ours.result["stages"].items())
    compressed = sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())
    return Row(
        "bucket",
        f"trajectories of {sizes.bucket_game} from {sizes.objects} x {sizes.rows:,} rows in an emulated bucket",
        "download all, np.load, slice, keep the game in memory",
        f"{ours.seconds:.1f} s, {ours.peak_bytes / MB:.0f} MB",
        f"{theirs.seconds:.1f} s, {theirs.peak_bytes / MB:.0f} MB",
        theirs.seconds / ours.seconds,
        4.0,
        theirs.cpu_seconds / ours.cpu_seconds,
        conditions=((f"peak memory under {BOUND / MB:.0f} MB", ours.peak_bytes < BOUND),),
        notes=(
            f"{compressed / MB:.0f} MB of objects; drawn: {sizes.share:.0%} of the rows, "
            f"{ours.result['transitions']:,} against {theirs.result:,} transitions; ours: {stages}",
            "the server is a process beside the reader, on the same cores",
        ),
    )


def _table(data: Data) -> Path:
    """The original's index: a CSV of every segment of every game."""
    path = data.folder / f"segments-{'-'.join(data.sizes.games)}-{data.sizes.steps}.csv"
    if not path.exists():
        columns = []
        for game in data.sizes.games:
            starts = Trajectories(data.trajectories(game)).episode_starts
            columns.append(to_table(segment_index(starts, 8, 4, "right"), game).astype({"Environment": str}))
        import pandas as pd

        pd.concat(columns).to_csv(path, index=False)
    return path


def _text(paths: list[Path]) -> list[str]:
    return [str(path) for path in paths]


ROWS: dict[str, Callable[[Data], Row]] = {
    "inflate": inflate,
    "segments": segments,
    "tokens": tokens,
    "shards": shards,
    "size": size,
    "episodes": episodes,
    "bucket": bucket,
}


def report(sizes: Sizes, rows: list[Row]) -> dict[str, object]:
    """For JSON: the sizes and the rows."""
    return {"sizes": asdict(sizes), "rows": [row.plain() for row in rows]}
