"""Packed chunks are what HDF5's filter reads, with and without hdf5plugin."""

import subprocess
import sys

import numpy as np
import pytest

from pipelines.episodes.trajectories import pack, unpack

ROUND = """
import sys
if sys.argv[2] == "gzip":
    sys.modules["hdf5plugin"] = None  # as if it were not installed
from pathlib import Path
import numpy as np
from pipelines.episodes.trajectories import COMPRESSION, pack, unpack
from pipelines.episodes.trajectories import Trajectories, TrajectoryWriter
frames = np.random.default_rng(0).integers(0, 9, (40, 84, 84), dtype=np.uint8)
whole = np.concatenate([frames, np.zeros((8, 84, 84), np.uint8)])
with TrajectoryWriter(Path(sys.argv[1]), "Pong", ["NOOP"], [40]) as writer:
    for chunk in (1, 0, 2):
        writer.write_chunk(chunk, pack(whole[16 * chunk : 16 * chunk + 16]))
assert np.array_equal(Trajectories(Path(sys.argv[1])).frames(0, 40), frames)
print(COMPRESSION["compression"])
"""


@pytest.mark.parametrize(("filter_name", "printed"), [("zstd", "32015"), ("gzip", "gzip")])
def test_hdf5_reads_the_chunks_that_were_packed_outside(tmp_path, filter_name, printed) -> None:
    command = [sys.executable, "-c", ROUND, str(tmp_path / "t.h5"), filter_name]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout.strip()) == (0, printed), done.stderr


def test_what_was_packed_comes_back() -> None:
    frames = np.random.default_rng(1).integers(0, 255, (16, 84, 84), dtype=np.uint8)
    np.testing.assert_array_equal(unpack(pack(frames)), frames)
