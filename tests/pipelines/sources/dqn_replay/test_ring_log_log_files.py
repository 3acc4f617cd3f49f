"""Reading a log's files: what comes out, also when the frames may not be touched."""

import numpy as np

from pipelines.bucket.bucket import Bucket
from pipelines.sources.dqn_replay.listing import file_name, list_objects, log_folder
from pipelines.sources.dqn_replay.record import group_by_checkpoint
from pipelines.sources.dqn_replay.ring_log import RingLog, read_log
from tests.pipelines.sources.dqn_replay.toy import write_replay


def test_without_the_observation_file_nothing_of_it_is_read(tmp_path) -> None:
    write_replay(tmp_path, [13] * 8, capacity=48)
    bucket = Bucket.of(tmp_path.as_uri())
    groups = group_by_checkpoint(list_objects(bucket, "Freeway", 1))
    whole = read_log(1, groups[1], bucket)
    (tmp_path / log_folder("Freeway", 1) / file_name("observation", 1)).unlink()
    small = read_log(1, {kind: item for kind, item in groups[1].items() if kind != "observation"}, bucket)
    assert isinstance(whole, RingLog) and isinstance(small, RingLog)
    assert (small.checkpoint, small.add_count) == (1, 95) == (whole.checkpoint, whole.add_count)
    assert (small.actions.dtype, small.rewards.dtype, small.terminals.dtype) == (np.uint8, np.float32, np.uint8)
    assert small.differing(whole, [(0, 48)]) == 0
    assert small.invalid_range.tolist() == [46, 47, 0, 1, 2]
