"""Miniature shards in RL Unplugged's layout, of which the truth is known. They come from an encoder of their own.

Nothing of the reader is used here: the protocol buffers, the framing and the PNGs are put together byte by byte.
Letters: N transitions; T = N + 1 rows where the episode ended truly (the last holds the terminal frame), else T = N.
"""

import gzip
import io
import struct
import zlib
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import crc32c
import numpy as np
from numpy.typing import NDArray
from PIL import Image

Features = dict[str, tuple[str, Sequence[Any]]]
"""name -> kind ("bytes", "floats", "integers") and values"""

NUMBERS = {"bytes": 1, "floats": 2, "integers": 3}


@dataclass(frozen=True)
class Truth:
    """What was played. frames (T, 84, 84); actions, rewards (N,) of each transition, raw."""

    checkpoint: int
    episode: int
    frames: NDArray[np.uint8]
    actions: NDArray[np.int64]
    rewards: NDArray[np.float32]
    terminated: bool

    def features(self, shifted: bool = False) -> Features:
        """The fields of the file; `shifted` puts each reward one row behind its action, where a cut loses the last."""
        rows, count = len(self.frames), len(self.actions)
        actions, rewards, discounts = np.zeros(rows, int), np.zeros(rows + 1, np.float32), np.ones(rows, np.float32)
        actions[:count], rewards[shifted : count + shifted] = self.actions, self.rewards
        discounts[-1] = not self.terminated
        rewards = rewards[:rows]
        clipped = rewards.clip(-1, 1)
        return {
            "checkpoint_idx": ("integers", [self.checkpoint]),
            "episode_idx": ("integers", [self.episode]),
            "episode_return": ("floats", [rewards.sum()]),
            "clipped_episode_return": ("floats", [clipped.sum()]),
            "observations": ("bytes", [png(frame) for frame in self.frames]),
            "actions": ("integers", actions.tolist()),
            "unclipped_rewards": ("floats", rewards.tolist()),
            "clipped_rewards": ("floats", clipped.tolist()),
            "discounts": ("floats", discounts.tolist()),
        }


def play(seed: int, steps: int = 20, terminated: bool = True, checkpoint: int = 0, episode: int = 0) -> Truth:
    """An episode of `steps` transitions that no game would give: each frame has a number and a moving block.

    Its actions are possible in every game. Its last reward is 21 where it ended truly, its first one is 0.
    """
    random = np.random.default_rng(seed)
    frames = np.zeros((steps + terminated, 84, 84), np.uint8)
    frames[:] = random.integers(0, 256, (84, 1), np.uint8)
    for number, frame in enumerate(frames):
        x, y = random.integers(0, 70, 2)
        frame[y : y + 9, x : x + 9] = random.integers(1, 256, (9, 9))
        frame[0, :4] = np.frombuffer(struct.pack("<I", number), np.uint8)
        frame[1, :4] = np.frombuffer(struct.pack("<I", seed), np.uint8)
    rewards = random.choice([0, 0, 0, 1, -1, 10], steps).astype(np.float32)
    rewards[0], rewards[-1] = 0, 21 if terminated else rewards[-1]
    return Truth(checkpoint, episode, frames, random.integers(0, 3, steps), rewards, terminated)


def write_shard(path: Path, episodes: Iterable[Truth], shifted: bool = False) -> None:
    """One shard with these episodes. The same episodes give the same bytes."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(packed(shard(example(truth.features(shifted)) for truth in episodes)))


def packed(data: bytes) -> bytes:
    """As the files lie in the bucket."""
    return gzip.compress(data, 6, mtime=0)


def shard(payloads: Iterable[bytes]) -> bytes:
    """The TFRecords, not compressed."""
    return b"".join(map(record, payloads))


def record(payload: bytes) -> bytes:
    """One TFRecord."""
    length = struct.pack("<Q", len(payload))
    return length + _checksum(length) + payload + _checksum(payload)


def _checksum(data: bytes) -> bytes:
    crc = crc32c.crc32c(data)
    rotated = (crc >> 15) | (crc << 17 & 0xFFFFFFFF)
    return struct.pack("<I", (rotated + 0xA282EAD8) % 2**32)


# ---- protocol buffers ----


def example(features: Features, order: Sequence[str] | None = None, packed: bool = True, unknown: bytes = b"") -> bytes:
    """An `Example` with its features in that order (names may come twice).

    `unknown` is put into every message, but not into the entries of the map.
    """
    entries = [
        _field(1, _field(1, name.encode()) + _field(2, feature(*features[name], packed, unknown)))
        for name in (features if order is None else order)
    ]
    return unknown + _field(1, unknown + b"".join(entries))


def feature(kind: str, values: Sequence[Any], packed: bool = True, unknown: bytes = b"") -> bytes:
    """One `Feature`: the list of that kind. Lists of bytes are never packed."""
    if kind == "bytes":
        inner = b"".join(_field(1, value) for value in values)
    elif kind == "floats":
        each = [struct.pack("<f", value) for value in values]
        inner = _field(1, b"".join(each)) if packed else b"".join(b"\x0d" + one for one in each)
    else:
        each = [varint(int(value)) for value in values]
        inner = _field(1, b"".join(each)) if packed else b"".join(b"\x08" + one for one in each)
    return unknown + _field(NUMBERS[kind], unknown + inner)


def varint(value: int) -> bytes:
    """A number, 7 bits a byte; a negative one takes 10 bytes."""
    value, found = value % 2**64, bytearray()
    while value > 127:
        found.append(value & 127 | 128)
        value >>= 7
    return bytes([*found, value])


def _field(number: int, data: bytes) -> bytes:
    return varint(number << 3 | 2) + varint(len(data)) + data


# ---- pictures ----


def png(frame: NDArray[np.uint8]) -> bytes:
    """As Pillow saves it."""
    file = io.BytesIO()
    Image.fromarray(frame).save(file, "png")
    return file.getvalue()


def raw_png(rows: bytes, width: int = 84, height: int = 84, bits: int = 8, colour: int = 0, woven: int = 0) -> bytes:
    """A PNG of filtered rows whatever its header says."""
    header = struct.pack(">IIBBBBB", width, height, bits, colour, 0, 0, woven)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(rows)) + chunk(b"IEND", b"")


def chunk(kind: bytes, data: bytes) -> bytes:
    """A chunk of a PNG."""
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))
