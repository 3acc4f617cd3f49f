"""One webdataset export: tar files of ready segments and `shards.json`, which says what each must hold.

A segment is two members: `Pong-00000042.frames.npy` (T,H,W) or (T,H,W,3) uint8, gzip'd with a further `.gz` by default,
and `Pong-00000042.json` with actions (numbered as the game's spaces), rewards, ends, mask, source (agent, log file,
row), game, episode, start. webdataset's own reader takes both by their names; what stands before the first dot is its
key, in which the game keeps samples apart where it reads several exports at once (exports of earlier versions, without
it, are read as well). Same source, options and libraries: same bytes.

Letters: T steps of a segment, H, W pixels; padding steps are zeros with mask 0.
"""

import functools
import hashlib
import io
import json
import math
import re
import tarfile
import zlib
from collections.abc import Iterator
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pipelines.batches.segments import Segmentation
from pipelines.bucket.bucket import Bucket
from pipelines.bucket.retry import Absent, DamagedInTransit, Refused, retry_if_damaged
from pipelines.environments.actions import legal_mask
from pipelines.environments.registry import check_game
from pipelines.episodes.trajectories import frame_shape_of
from pipelines.errors import UsageError, WorldlineError
from pipelines.store.profile import Profile

INDEX = "shards.json"

FORMAT = "worldline-segments-1"

LEVEL = 6  # of gzip

GZIP = 31  # zlib's number for a gzip header

LARGEST_INDEX = 64 << 20  # bytes

LARGEST_SHARD = 4 << 30

LONGEST = 4096  # steps of a segment

MOST_SEGMENTS = 1 << 26  # of a game; 10 M transitions have 2.5 M

LONGEST_EPISODE = 1 << 20  # steps; Dopamine stops at 27,000

LARGEST_FRAME = 1 << 20  # bytes

_SHARD = re.compile(r"segments-[0-9]{6}\.tar", re.ASCII)

_MEMBER = re.compile(r"((?:([A-Za-z0-9_]+)-)?[0-9]{8})\.(frames\.npy|frames\.npy\.gz|json)", re.ASCII)


@dataclass(frozen=True)
class Segment:
    """One ready segment; all but `source` as `SegmentBatch` means them."""

    frames: NDArray[np.uint8]  # (T, H, W) or (T, H, W, 3)
    actions: NDArray[np.uint8]  # (T,), like the next three
    rewards: NDArray[np.float32]
    ends: NDArray[np.uint8]
    mask: NDArray[np.bool_]
    source: NDArray[np.int32]  # (T, 3): agent, log file n, row in it
    episode: int
    start: int


@dataclass(frozen=True)
class Shard:
    """One tar file as `shards.json` lists it."""

    name: str
    segments: int
    bytes: int
    sha256: str

    def __post_init__(self) -> None:
        if not _SHARD.fullmatch(self.name):
            raise ValueError(f"'{self.name[:60]}' is no shard's name")
        if self.segments < 1 or not 0 < self.bytes <= LARGEST_SHARD:
            raise ValueError(f"{self.name} with {self.segments} segments, {self.bytes} bytes is impossible")


@dataclass(frozen=True, eq=False)
class Contents:
    """What `shards.json` says of the segments themselves, so that no shard is read to know which one holds what.

    seed: of the order that the export gave them. clipped: whether all rewards are within -1 and 1.
    """

    cut: Segmentation
    seed: int
    clipped: bool

    @classmethod
    def of(cls, index: dict[str, Any]) -> "Contents":
        """From a parsed index. Raises ValueError where its numbers contradict each other."""
        steps = np.array(index["episode_steps"], np.int64)
        if steps.ndim != 1 or not len(steps) or steps.min() < 1 or steps.max() > LONGEST_EPISODE or index["seed"] < 0:
            raise ValueError(f"seed {index['seed']}, episodes of {str(index['episode_steps'])[:40]} steps")
        starts = np.concatenate([[0], np.cumsum(steps)])
        cut = Segmentation(starts, int(index["length"]), int(index["stride"]), str(index["padding"]))
        listed = sum(int(shard["segments"]) for shard in index["shards"])
        if len(cut) != listed or listed > MOST_SEGMENTS:
            raise ValueError(f"its {len(steps)} episodes have {len(cut)} segments and its shards {listed}")
        return cls(cut, int(index["seed"]), {"clipped": True, "raw": False}[index["rewards"]])

    @property
    def episodes(self) -> int:
        """How many the segments were cut from."""
        return len(self.cut.episode_starts) - 1

    def rows(self) -> NDArray[np.int64]:
        """(S, 3): episode, start and end of every segment, in the order of the export."""
        return self.cut[export_order(len(self.cut), self.seed)]


def export_order(count: int, seed: int) -> NDArray[np.int64]:
    """(count,) the place in the index of every segment of an export, in the order in which it holds them."""
    return np.random.default_rng(seed).permutation(count)


def write_shard(path: Path, first: int, segments: Iterator[Segment], game: str, compress: bool) -> Shard:
    """Write one tar file; `first` is the number of its first segment. Returns its entry for `shards.json`."""
    count = 0
    with tarfile.open(path, "w", format=tarfile.USTAR_FORMAT) as tar:
        for number, segment in enumerate(segments, first):
            count += 1
            frames = io.BytesIO()
            np.lib.format.write_array(frames, np.ascontiguousarray(segment.frames), version=(1, 0), allow_pickle=False)
            packed = _gzip(frames.getvalue()) if compress else frames.getvalue()
            _add(tar, f"{game}-{number:08}.frames.npy{'.gz' if compress else ''}", packed)
            _add(tar, f"{game}-{number:08}.json", _steps(segment, game))
    with path.open("rb") as file:
        return Shard(path.name, count, path.stat().st_size, hashlib.file_digest(file, "sha256").hexdigest())


class ShardSet:
    """Reads such an export from a folder or URL. Raises WorldlineError for anything that no export writes.

    raw: the bytes of its `shards.json`, which are not asked for where they are given.
    """

    def __init__(self, url: str | Path, profile: Profile | None = None, raw: bytes | None = None) -> None:
        self._bucket = Bucket.of(str(url) if "://" in str(url) else str(Path(url).absolute()), profile)
        self.url, where = self._bucket.root, f"{self._bucket.root}/{INDEX}"
        self.raw = self._read_index() if raw is None else raw
        try:
            index = json.loads(self.raw)
            if index["format"] != FORMAT:
                raise ValueError(f"its format is '{str(index['format'])[:40]}', not {FORMAT}")
            self.game = check_game(str(index["game"]))
            self.length = int(index["length"])
            self.compress = bool(index["compress"])
            self.lineage: dict[str, Any] = dict(index["worldline"])
            self.shards = tuple(Shard(**entry) for entry in index["shards"])
            self._contents = Contents.of(index) if "episode_steps" in index else None  # exports of earlier versions
            if not self.shards or not 1 <= self.length <= LONGEST:
                raise ValueError(f"{len(self.shards)} shards of length {self.length}")
            shape = index.get("frame", (84, 84))  # exports of earlier versions do not say it
            self.frame_shape = frame_shape_of((self.length, *(int(size) for size in shape)))
            if not 0 < math.prod(self.frame_shape) <= LARGEST_FRAME:
                raise ValueError(f"frames of {self.frame_shape}, at most {LARGEST_FRAME:,} bytes are read")
        except (ValueError, TypeError, KeyError, AttributeError, OverflowError, RecursionError, UsageError) as error:
            raise WorldlineError(f"{where} is no list of segment shards ({error}): export it again") from error

    @property
    def is_local(self) -> bool:
        """Whether its shards are files of this machine."""
        return self._bucket.is_local

    @property
    def contents(self) -> Contents:
        """What its segments are of. Raises WorldlineError for an export of an earlier version, which does not say."""
        if self._contents is None:
            raise WorldlineError(
                f"{self.url} does not say how long its episodes are, an earlier version wrote it: export it again"
            )
        return self._contents

    def require_shards(self) -> None:
        """Raises WorldlineError where a shard that `shards.json` lists is missing, or has another size.

        Where listing is refused the first alone is asked for, by its name: all would take as many requests.
        """
        parent, _, folder = self.url.rpartition("/")
        listed = self.shards
        try:
            found = replace(self._bucket, root=parent).list(folder)
        except Refused:
            listed = listed[:1]
            found = [self._bucket.stat(listed[0].name)]
        there = {item.name.rpartition("/")[2]: item.bytes for item in found}
        for shard in listed:
            if (size := there.get(shard.name)) != shard.bytes:
                has = "is missing" if size is None else f"has {size:,} bytes"
                raise WorldlineError(f"{self.url}/{shard.name} {has}, {INDEX} says {shard.bytes:,}: copy it again")

    @functools.cached_property
    def firsts(self) -> NDArray[np.int64]:
        """(shards+1,) the number of each shard's first segment, and of all segments."""
        return np.concatenate([[0], np.cumsum([shard.segments for shard in self.shards], dtype=np.int64)])

    def __len__(self) -> int:
        return sum(shard.segments for shard in self.shards)

    def read(self, shard: int) -> bytes:
        """One whole shard, whose size and sha256 are those of `shards.json`; read once more where these disagree."""
        return retry_if_damaged(lambda: self._read_whole(self.shards[shard]))

    def _read_whole(self, entry: Shard) -> bytes:
        item = self._bucket.stat(entry.name)
        if item.bytes != entry.bytes:
            raise WorldlineError(f"{item.url} has {item.bytes:,} bytes, {INDEX} says {entry.bytes:,}: copy it again")
        raw = self._bucket.read_range(item, 0, entry.bytes)
        if hashlib.sha256(raw).hexdigest() != entry.sha256:
            kind = WorldlineError if self.is_local else DamagedInTransit
            raise kind(f"{item.url} is not the shard that {INDEX} lists: copy or export it again")
        return raw

    def load(self, shard: int, raw: bytes | None = None) -> list[tuple[bytes, bytes]]:
        """The packed segments of one shard: frames and steps; see `unpack`. raw: its bytes, where they were read."""
        entry = self.shards[shard]
        where = f"{self.url}/{entry.name}"
        found = _members(self.read(shard) if raw is None else raw, where, self.game)
        if len(found) != entry.segments:
            raise WorldlineError(f"{where} holds {len(found)} segments of {entry.segments}: export it again")
        return found

    def unpack(self, packed: tuple[bytes, bytes]) -> Segment:
        """One segment of `load`."""
        shape, numbers = (self.length, *self.frame_shape), len(legal_mask(self.game))
        try:
            frames = _frames(packed[0], shape, self.compress)
            steps = json.loads(packed[1])
            if steps["game"] != self.game:
                raise ValueError(f"a segment of {str(steps['game'])[:40]} among those of {self.game}")
            return Segment(
                frames,
                _column(steps, "actions", np.uint8, (self.length,), numbers - 1),
                _column(steps, "rewards", np.float32, (self.length,)),
                _column(steps, "ends", np.uint8, (self.length,), 1),
                _column(steps, "mask", np.uint8, (self.length,), 1).astype(np.bool_),
                _column(steps, "source", np.int32, (self.length, 3)),
                int(steps["episode"]),
                int(steps["start"]),
            )
        except (ValueError, TypeError, KeyError, OverflowError, RecursionError, zlib.error) as error:
            raise WorldlineError(
                f"{self.url} holds a segment that no export writes ({error}): export it again"
            ) from error

    def _read_index(self) -> bytes:
        try:
            listed = self._bucket.stat(INDEX)
        except Absent as error:
            raise Absent(
                f"{self.url}/{INDEX} does not exist: give a folder of 'worldline export trajectories --to webdataset'"
            ) from error
        if listed.bytes > LARGEST_INDEX:
            raise WorldlineError(f"{listed.url} has {listed.bytes:,} bytes, at most {LARGEST_INDEX:,} are read")
        return self._bucket.read_range(listed, 0, listed.bytes)


def write_index(folder: Path, shards: list[Shard], facts: dict[str, Any]) -> None:
    """Write `shards.json`: `facts` are game, length, compress, frame, worldline, and what `Contents` holds.

    `frame` is the shape of one: (H, W) or (H, W, 3).
    """
    index = {"format": FORMAT, **facts, "shards": [asdict(shard) for shard in shards]}
    (folder / INDEX).write_text(json.dumps(index, indent=1) + "\n")


def shard_name(number: int) -> str:
    """File name of a shard, counted from 0."""
    return f"segments-{number:06}.tar"


def _add(tar: tarfile.TarFile, name: str, data: bytes) -> None:
    entry = tarfile.TarInfo(name)  # time 0, no owner: the same bytes on every run
    entry.size = len(data)
    tar.addfile(entry, io.BytesIO(data))


def _steps(segment: Segment, game: str) -> bytes:
    columns = {name: getattr(segment, name).tolist() for name in ("actions", "rewards", "ends", "source")}
    columns["mask"] = segment.mask.astype(int).tolist()
    known = {"game": game, "episode": segment.episode, "start": segment.start}
    return json.dumps(known | columns, separators=(",", ":")).encode()


def _gzip(data: bytes) -> bytes:
    packer = zlib.compressobj(LEVEL, zlib.DEFLATED, GZIP)
    return packer.compress(data) + packer.flush()


def _members(raw: bytes, where: str, game: str) -> list[tuple[bytes, bytes]]:
    """(frames, steps) of each segment in order. Nothing is ever unpacked to a disk, and names are still refused."""
    found: list[bytes] = []
    names: list[tuple[str, bool]] = []
    try:
        with tarfile.open(fileobj=io.BytesIO(raw), mode="r:") as tar:
            for entry in tar:
                match = _MEMBER.fullmatch(entry.name)
                ours = match is not None and match[2] in (None, game) and entry.isreg()
                data = tar.extractfile(entry) if ours else None
                if match is None or data is None:
                    raise WorldlineError(f"{where} holds '{entry.name[:60]}', which no export writes: export it again")
                names.append((match[1], match[3] == "json"))
                found.append(data.read())
    except (tarfile.TarError, EOFError, ValueError) as error:
        raise WorldlineError(f"{where} is no whole tar file ({error}): copy or export it again") from error
    keys = [name for name, _ in names[::2]]
    if names != [pair for key in keys for pair in ((key, False), (key, True))] or len(set(keys)) != len(keys):
        raise WorldlineError(f"{where} does not hold frames and steps in turn: export it again")
    return list(zip(found[::2], found[1::2], strict=True))


def _frames(packed: bytes, shape: tuple[int, ...], compress: bool) -> NDArray[np.uint8]:
    size = int(np.prod(shape))
    if compress:  # never more than a segment, whatever the header promises
        packed = zlib.decompressobj(GZIP).decompress(packed, size + 1024)
    stream = io.BytesIO(packed)
    if np.lib.format.read_magic(stream) != (1, 0):
        raise ValueError("frames of an unknown .npy version")
    found, fortran, dtype = np.lib.format.read_array_header_1_0(stream, max_header_size=1000)
    if found != shape or fortran or dtype != np.uint8 or len(packed) - stream.tell() != size:
        raise ValueError(f"frames are {found} {dtype}, not {shape} uint8")
    return np.frombuffer(packed, np.uint8, size, stream.tell()).reshape(shape)


def _column(
    steps: dict[str, Any], name: str, dtype: Any, shape: tuple[int, ...], most: int | None = None
) -> NDArray[Any]:
    values = np.array(steps[name])
    if values.shape != shape or values.dtype.kind not in "iuf" or not np.array_equal(values, values.astype(dtype)):
        raise ValueError(f"{name} are {values.shape} {values.dtype}, not {shape} {np.dtype(dtype)}")
    found = values.astype(dtype)
    if most is not None and found.max() > most:
        raise ValueError(f"{name} reach {found.max()}, at most {most} is meant")
    return found
