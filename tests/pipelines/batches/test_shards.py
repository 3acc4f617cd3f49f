"""Shards that someone has damaged or forged: one line each, and nothing outside the folder is touched."""

import gzip
import hashlib
import io
import json
import tarfile
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pipelines.batches.shards import INDEX, Segment, ShardSet, shard_name, write_index, write_shard
from pipelines.errors import WorldlineError

T = 4


def segment(number: int, frame: tuple[int, ...] = (84, 84)) -> Segment:
    rng = np.random.default_rng(number)
    return Segment(
        rng.integers(0, 256, (T, *frame), dtype=np.uint8),
        rng.integers(0, 18, T).astype(np.uint8),
        rng.integers(-1, 2, T).astype(np.float32),
        np.zeros(T, np.uint8),
        np.ones(T, np.bool_),
        rng.integers(0, 99, (T, 3)).astype(np.int32),
        number,
        -2,
    )


def written(folder: Path, compress: bool = True, sizes: tuple[int, ...] = (2, 1)) -> Path:
    shards, first = [], 0
    for number, size in enumerate(sizes):
        segments = (segment(first + place) for place in range(size))
        shards.append(write_shard(folder / shard_name(number), first, segments, "Pong", compress))
        first += size
    write_index(folder, shards, {"game": "Pong", "length": T, "compress": compress, "worldline": {}})
    return folder


def read_all(folder: Path) -> list[Segment]:
    export = ShardSet(folder)
    return [export.unpack(packed) for number in range(len(export.shards)) for packed in export.load(number)]


def test_rgb_segments_come_back_in_the_shape_that_the_list_says(tmp_path) -> None:
    made = segment(0, (16, 12, 3))
    shards = [write_shard(tmp_path / shard_name(0), 0, iter([made]), "Pong", True)]
    facts = {"game": "Pong", "length": T, "compress": True, "worldline": {}}
    write_index(tmp_path, shards, facts | {"frame": (16, 12, 3)})
    assert ShardSet(tmp_path).frame_shape == (16, 12, 3)
    (found,) = read_all(tmp_path)
    np.testing.assert_array_equal(found.frames, made.frames)
    write_index(tmp_path, shards, facts)
    with pytest.raises(WorldlineError, match=r"frames are \(4, 16, 12, 3\) uint8, not \(4, 84, 84\)"):
        read_all(tmp_path)
    for frame in ([16], [16, 12, 4], [10**6, 10**6], ["a", 3], 7):
        write_index(tmp_path, shards, facts | {"frame": frame})
        with pytest.raises(WorldlineError, match="is no list of segment shards"):
            ShardSet(tmp_path)


@pytest.mark.parametrize("compress", [False, True])
def test_what_was_written_comes_back(tmp_path, compress) -> None:
    found = read_all(written(tmp_path, compress))
    assert len(found) == len(ShardSet(tmp_path)) == 3
    for number, each in enumerate(found):
        for name, value in vars(segment(number)).items():
            np.testing.assert_array_equal(getattr(each, name), value)
            assert np.asarray(getattr(each, name)).dtype == np.asarray(value).dtype


def repack(folder: Path, members: list[tuple[str, bytes]], kind: bytes = tarfile.REGTYPE) -> None:
    """Forge the first shard and its entry, so that the checksum agrees."""
    path = folder / shard_name(0)
    with tarfile.open(path, "w", format=tarfile.USTAR_FORMAT) as tar:
        for name, data in members:
            entry = tarfile.TarInfo(name)
            entry.type, entry.linkname = kind, "/etc/passwd" if kind != tarfile.REGTYPE else ""
            entry.size = len(data) if kind == tarfile.REGTYPE else 0
            tar.addfile(entry, io.BytesIO(data))
    adopt(folder, path.read_bytes())


def adopt(folder: Path, raw: bytes) -> None:
    (folder / shard_name(0)).write_bytes(raw)
    index = json.loads((folder / INDEX).read_text())
    index["shards"][0] |= {"bytes": len(raw), "sha256": hashlib.sha256(raw).hexdigest()}
    (folder / INDEX).write_text(json.dumps(index))


def members(folder: Path) -> list[tuple[str, bytes]]:
    with tarfile.open(folder / shard_name(0)) as tar:
        return [(entry.name, tar.extractfile(entry).read()) for entry in tar]


def text(folder: Path, data: bytes) -> None:
    found = members(folder)
    repack(folder, [found[0], (found[1][0], data), *found[2:]])


def steps(folder: Path, **changes) -> None:
    text(folder, json.dumps(json.loads(members(folder)[1][1]) | changes).encode())


def frames(folder: Path, data: bytes) -> None:
    found = members(folder)
    repack(folder, [(found[0][0], data), *found[1:]])


def npy(array) -> bytes:
    stream = io.BytesIO()
    np.save(stream, array, allow_pickle=True)
    return gzip.compress(stream.getvalue())


def test_keys_of_earlier_exports_name_no_game(tmp_path) -> None:
    now = members(written(tmp_path))
    repack(tmp_path, [(name.partition("-")[2], data) for name, data in now])
    assert {name[0] for name, _ in members(tmp_path)} == {"0"} and {name[0] for name, _ in now} != {"0"}
    assert len(read_all(tmp_path)) == 3


def truncated(folder: Path) -> None:
    path = folder / shard_name(0)
    path.write_bytes(path.read_bytes()[:-6000])


def flipped(folder: Path) -> None:
    raw = bytearray((folder / shard_name(0)).read_bytes())
    raw[600] ^= 1
    (folder / shard_name(0)).write_bytes(raw)


def renamed(name: str):
    return lambda folder: repack(folder, [(name, members(folder)[0][1]), *members(folder)[1:]])


BAD = {
    "truncated": (truncated, "bytes, shards.json says"),
    "truncated and adopted": (
        lambda folder: adopt(folder, (folder / shard_name(0)).read_bytes()[:2000]),
        "no whole tar|holds",
    ),
    "no tar at all": (lambda folder: adopt(folder, b"x" * 4096), "no whole tar"),
    "gone": (lambda folder: (folder / shard_name(0)).unlink(), "does not exist"),
    "a path upwards": (renamed("../../00000000.frames.npy.gz"), "which no export writes"),
    "an absolute path": (renamed("/tmp/00000000.json"), "which no export writes"),
    "a pickle": (renamed("00000000.pyd"), "which no export writes"),
    "another game's key": (renamed("Atlantis-00000000.frames.npy.gz"), "which no export writes"),
    "a link": (lambda folder: repack(folder, members(folder), tarfile.SYMTYPE), "which no export writes"),
    "a segment missing": (lambda folder: repack(folder, members(folder)[:2]), "holds 1 segments of 2"),
    "steps missing": (lambda folder: repack(folder, members(folder)[:3]), "frames and steps in turn"),
    "one twice": (lambda folder: repack(folder, members(folder)[:2] * 2), "frames and steps in turn"),
    "another game": (lambda folder: steps(folder, game="Freeway"), "Freeway among those of Pong"),
    "action 18": (lambda folder: steps(folder, actions=[18] * T), "actions reach 18"),
    "action 256": (lambda folder: steps(folder, actions=[256] * T), "actions are"),
    "a step short": (lambda folder: steps(folder, rewards=[0.0]), "rewards are"),
    "no numbers": (lambda folder: steps(folder, ends=["a"] * T), "ends are"),
    "ragged": (lambda folder: steps(folder, source=[[1], [1, 2]]), "no export writes"),
    "a flipped bit": (lambda folder: flipped(folder), "is not the shard that shards.json lists"),
    "end 2": (lambda folder: steps(folder, ends=[2] * T), "ends reach 2"),
    "no mask": (lambda folder: steps(folder, mask=None), "mask are"),
    "steps that are a list": (lambda folder: text(folder, b"[]"), "no export writes"),
    "steps nested deep": (lambda folder: text(folder, b"[" * 90_000), "no export writes"),
    "small frames": (lambda folder: frames(folder, npy(np.zeros((T, 8, 8), np.uint8))), "frames are"),
    "pickled frames": (lambda folder: frames(folder, npy(np.array([{}] * T, object))), "frames are"),
    "a bomb": (lambda folder: frames(folder, gzip.compress(bytes(200 << 20))), "no export writes"),
    "no gzip": (lambda folder: frames(folder, b"frames"), "no export writes"),
}


@pytest.mark.parametrize("case", BAD, ids=str)
def test_bad_shards_are_one_line(tmp_path, case) -> None:
    folder = tmp_path / "a" / "b"
    folder.mkdir(parents=True)
    change, words = BAD[case]
    change(written(folder))
    before = sorted(tmp_path.rglob("*"))
    with pytest.raises(WorldlineError, match=words) as caught:
        read_all(folder)
    assert "\n" not in str(caught.value) and sorted(tmp_path.rglob("*")) == before


def index(**changes):
    def change(folder: Path) -> None:
        (folder / INDEX).write_text(json.dumps(json.loads((folder / INDEX).read_text()) | changes))

    return change


ENTRY = {"name": shard_name(0), "segments": 1, "bytes": 10, "sha256": ""}
BAD_INDEX = {
    "another format": index(format="tar"),
    "no such game": index(game="../Pong"),
    "no length": index(length=0),
    "a length without end": index(length=10**9),
    "no shards": index(shards=[]),
    "a path": index(shards=[ENTRY | {"name": "../../etc/passwd"}]),
    "a path after a shard": index(shards=[ENTRY | {"name": "segments-000000.tar/../x"}]),
    "a shard without end": index(shards=[ENTRY | {"bytes": 1 << 60}]),
    "a shard of nothing": index(shards=[ENTRY | {"segments": 0}]),
    "text for numbers": index(shards=[ENTRY | {"bytes": "10"}]),
    "more than a shard has": index(shards=[ENTRY | {"run": "ls"}]),
    "a list": lambda folder: (folder / INDEX).write_text("[]"),
    "no JSON": lambda folder: (folder / INDEX).write_text("{"),
    "no text": lambda folder: (folder / INDEX).write_bytes(b"\xff\xfe\xfd"),
}


@pytest.mark.parametrize("case", BAD_INDEX, ids=str)
def test_bad_indexes_are_one_line(tmp_path, case) -> None:
    BAD_INDEX[case](written(tmp_path))
    with pytest.raises(WorldlineError, match="is no list of segment shards") as caught:
        ShardSet(tmp_path)
    assert "\n" not in str(caught.value)


def test_a_folder_without_an_index_is_one_line(tmp_path) -> None:
    with pytest.raises(WorldlineError, match=r"shards.json does not exist"):
        ShardSet(tmp_path)


@settings(max_examples=60, deadline=None)
@given(st.binary(max_size=3000), st.data())
def test_any_bytes_are_a_shard_or_one_line(tmp_path_factory, noise, data) -> None:
    folder = written(tmp_path_factory.mktemp("noise"), sizes=(1,))
    raw = (folder / shard_name(0)).read_bytes()
    place = data.draw(st.integers(0, len(raw)))
    adopt(folder, (raw[:place] + noise + raw[place + len(noise) :]) or b"-")
    try:
        read_all(folder)
    except WorldlineError as error:
        assert "\n" not in str(error)
