"""TFRecord and Example against the `tfrecord` package and protobuf, and what is damaged, cut or absurd."""

import gzip
import io
import tracemalloc
from pathlib import Path

import numpy as np
import psutil
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image
from tfrecord import example_pb2
from tfrecord.reader import tfrecord_loader
from tfrecord.writer import TFRecordWriter

from pipelines.errors import WorldlineError
from pipelines.sources.inflate import open_gzip
from pipelines.sources.rlu.episodes import NUMBERS, ROWS, iter_episodes
from pipelines.sources.rlu.png import decode_frames
from pipelines.sources.rlu.tfrecord import iter_records, parse_example
from tests.pipelines.sources.rlu import shards
from tests.pipelines.sources.rlu.shards import example, feature, play, record, varint, write_shard

LIMIT = 1 << 20
KINDS = {"bytes": "bytes_list", "floats": "float_list", "integers": "int64_list"}
SMALL = record(b"one") + record(b"") + record(b"another")


def records(data: bytes) -> list[bytes]:
    return list(iter_records(io.BytesIO(data), LIMIT, "gs://b/Pong/run_1-00003-of-00050"))


def test_another_reader_reads_the_same_episodes(tmp_path: Path) -> None:
    """The package and Pillow, on a file of ours."""
    write_shard(tmp_path / "shard", [play(seed, 30, seed != 1, episode=seed) for seed in range(3)])
    with gzip.open(tmp_path / "shard") as stream:
        ours = list(iter_episodes(stream, "Pong"))
    theirs = list(tfrecord_loader(str(tmp_path / "shard"), None, compression_type="gzip"))
    for mine, other in zip(ours, theirs, strict=True):
        assert int(other["episode_idx"][0]) == mine.episode and other["episode_return"][0] == mine.episode_return
        for field, values in (("actions", mine.actions_T), ("unclipped_rewards", mine.rewards_T)):
            np.testing.assert_array_equal(other[field], values)
        np.testing.assert_array_equal(other["discounts"], mine.discounts_T)
        frames = [np.asarray(Image.open(io.BytesIO(each))) for each in other["observations"]]
        np.testing.assert_array_equal(decode_frames(mine.pngs), frames)


def test_a_file_of_another_writer_is_read(tmp_path: Path) -> None:
    writer = TFRecordWriter(str(tmp_path / "theirs"))
    for number in range(3):
        writer.write({"a": ([b"x", b""], "byte"), "b": ([number, 300], "int"), "c": ([0.5, -1.0], "float")})
    writer.close()
    fields = {"a": "bytes", "b": "integers", "c": "floats"}
    found = [parse_example(each, fields, 2) for each in records((tmp_path / "theirs").read_bytes())]  # type: ignore[arg-type]
    assert [each["b"].tolist() for each in found] == [[0, 300], [1, 300], [2, 300]]
    assert all(list(map(bytes, each["a"])) == [b"x", b""] and each["c"].tolist() == [0.5, -1] for each in found)


VALUES = st.one_of(
    st.tuples(st.just("bytes"), st.lists(st.binary(max_size=9), max_size=5)),
    st.tuples(st.just("floats"), st.lists(st.floats(width=32, allow_nan=False), max_size=5)),
    st.tuples(st.just("integers"), st.lists(st.integers(-(2**63), 2**63 - 1), max_size=5)),
)


@settings(max_examples=200, deadline=None)
@given(
    features=st.dictionaries(st.text(max_size=6), VALUES, max_size=6),
    packed=st.booleans(),
    unknown=st.sampled_from([b"", b"\x78\x05", b"\x7a\x03abc\x78\x00", b"\x7d1234", b"\x7912345678"]),
    data=st.data(),
)
def test_any_example_is_read_as_protobuf_reads_it(features, packed, unknown, data) -> None:
    order = data.draw(st.lists(st.sampled_from(sorted(features)), max_size=9)) if features else []
    payload = example(features, order, packed, unknown)
    oracle = example_pb2.Example.FromString(payload)
    assert set(oracle.features.feature) == set(order)
    found = parse_example(payload, {name: features[name][0] for name in order}, 5)
    for name, values in found.items():
        kind = features[name][0]
        wanted = list(getattr(oracle.features.feature[name], KINDS[kind]).value)
        assert (list(map(bytes, values)) if kind == "bytes" else values.tolist()) == wanted


def test_a_feature_that_comes_twice_and_a_list_in_parts_are_read_as_protobuf_does() -> None:
    """Of two entries the last counts; of two kinds in one feature the last; parts of one kind are joined."""
    one, two, text = feature("integers", [1, 2]), feature("integers", [300], packed=False), feature("bytes", [b"x"])
    for value in (one + two, text + one + two, one + text + two, two + one + one):
        entry = b"\x0a\x01a" + b"\x12" + varint(len(value)) + value
        inner = b"\x0a" + varint(len(entry)) + entry
        payload = b"\x0a" + varint(len(inner)) + inner
        for data in (payload, example({"a": ("floats", [1.0])}) + payload, payload * 2):
            wanted = list(example_pb2.Example.FromString(data).features.feature["a"].int64_list.value)
            assert parse_example(data, {"a": "integers"}, 9)["a"].tolist() == wanted


def test_records_come_whole_and_in_order() -> None:
    assert records(SMALL) == [b"one", b"", b"another"] and records(b"") == []
    assert records(record(bytes(LIMIT))) == [bytes(LIMIT)]


def test_every_cut_is_one_line() -> None:
    whole = {0, len(record(b"one")), len(record(b"one") + record(b"")), len(SMALL)}
    for length in set(range(len(SMALL))) - whole:
        with pytest.raises(
            WorldlineError, match=r"run_1-00003-of-00050: record \d is cut, .* are there: fetch"
        ) as caught:
            records(SMALL[:length])
        assert "\n" not in str(caught.value)


def test_every_flipped_bit_is_one_line() -> None:
    for place in range(8 * len(SMALL)):
        flipped = bytearray(SMALL)
        flipped[place // 8] ^= 1 << place % 8
        with pytest.raises(WorldlineError, match=r"record \d(, its length)?: has the checksum \w{8}, the file says"):
            records(bytes(flipped))


@pytest.mark.parametrize("length", [LIMIT + 1, 2**60, 2**64 - 1])
def test_a_length_beyond_the_limit_is_refused_unread(length: int) -> None:
    head = length.to_bytes(8, "little")
    with pytest.raises(
        WorldlineError, match=rf"record 0 claims {length:,} bytes, an episode has at most 1,048,576: it"
    ):
        records(head + shards._checksum(head) + b"x")


def test_a_length_that_lies_within_the_limit_takes_no_memory() -> None:
    head = (1 << 30).to_bytes(8, "little")
    lie = io.BytesIO(gzip.compress(head + shards._checksum(head) + b"x"))
    Path("/proc/self/clear_refs").write_text("5")  # forget the highest resident memory so far
    before = psutil.Process().memory_info().rss
    with (
        open_gzip(fileobj=lie, mode="rb") as stream,
        pytest.raises(WorldlineError, match="record 0 is cut, 1 of its 1,073,741,828 bytes are there"),
    ):
        next(iter_records(stream, 1 << 30))
    assert peak_resident() - before < 20 << 20


def peak_resident() -> int:
    """Bytes at the highest."""
    (line,) = (line for line in Path("/proc/self/status").read_text().splitlines() if line.startswith("VmHWM"))
    return int(line.split()[1]) << 10


def test_one_record_is_in_memory_at_a_time(tmp_path: Path) -> None:
    (tmp_path / "shard").write_bytes(gzip.compress(record(bytes(8 << 20)) * 3))
    tracemalloc.start()
    with open_gzip(tmp_path / "shard") as stream:
        assert sum(len(payload) for payload in iter_records(stream, 8 << 20)) == 24 << 20
        peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 18 << 20  # the one that a caller has, and the next


@pytest.mark.parametrize(
    "payload, what",
    [
        (example({"a": ("floats", [1.0])}), "has floats in its field 'a', an episode has integers there"),
        (example({"b": ("integers", [1])}), "has no field 'a', every episode has one of integers"),
        (b"\x0a\x07\x0a\x05\x0a\x01a\x12\x00", "has no field 'a'"),
        (b"", "has no field 'a'"),
        (example({"a": ("integers", range(10))}), "has 10 values in its field 'a', at most 9"),
        (example({"a": ("integers", range(10))}, packed=False), "field 'a' that comes in more than the 9 parts"),
        (example({"a": ("integers", [1])}) + b"\x80", "is no Example .a number at byte"),
        (example({"a": ("integers", [1])}) + b"\x80" * 11, "is no Example .a number at byte"),
        (example({"a": ("integers", [1])}) + b"\x00\x00", "a field at byte .* has number 0 or no end"),
        (b"\x0a\xff\xff\xff\xff\xff\xff\xff\xff\x7f", "has number 0 or no end"),
        (b"\x0b", "wire type 3"),
        (b"\x0a\x0b\x0a\x09\x0a\x01a\x12\x04\x1a\x02\x0a\x01", "no Example .a field at byte"),
        (b"\x0a\x0e\x0a\x0c\x0a\x01a\x12\x07\x1a\x05\x0a\x03\x01\x01\x80", "field 'a' that ends within a number"),
        (b"\x0a\x17\x0a\x15\x0a\x01a\x12\x10\x1a\x0e\x0a\x0c" + b"\xff" * 11 + b"\0", "number of more than 10 bytes"),
    ],
)
def test_what_is_no_such_example_is_one_line(payload: bytes, what: str) -> None:
    with pytest.raises(WorldlineError, match=what) as caught:
        parse_example(payload, {"a": "integers"}, 9, "gs://b/shard: record 3")
    text = str(caught.value)
    assert text.startswith("gs://b/shard: record 3 has") or text.startswith("gs://b/shard: record 3 is")
    assert ": fetch that file again" in text and "\n" not in text


def test_lists_of_millions_are_refused_before_they_are_taken_apart() -> None:
    payload = example({"a": ("bytes", [b""])}).replace(b"\x0a\x00", b"")
    many = b"\x0a\x00" * 10**6
    value = b"\x0a" + varint(len(many)) + many
    entry = b"\x0a\x01a\x12" + varint(len(value)) + value
    inner = b"\x0a" + varint(len(entry)) + entry
    payload = b"\x0a" + varint(len(inner)) + inner
    tracemalloc.start()
    with pytest.raises(WorldlineError, match="field 'a' that has more than the 27,001 values that are possible"):
        parse_example(payload, {"a": "bytes"}, 27_001)
    assert tracemalloc.get_traced_memory()[1] < 20 << 20
    tracemalloc.stop()


@settings(max_examples=300, deadline=None)
@given(st.data())
def test_random_bytes_never_raise_anything_else(data) -> None:
    payload = bytearray(example(play(1, 2).features()))
    for _ in range(data.draw(st.integers(1, 4))):
        payload[data.draw(st.integers(0, len(payload) - 1))] = data.draw(st.integers(0, 255))
    try:
        parse_example(bytes(payload), NUMBERS | ROWS, 9)
    except WorldlineError as error:
        assert "\n" not in str(error)
